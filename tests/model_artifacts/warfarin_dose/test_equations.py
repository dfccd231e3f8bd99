import numpy as np
import pytest

from model_artifacts.warfarin_dose.columns import COLUMNS, genotype_columns
from model_artifacts.warfarin_dose.equations import clinical_dose, pharmacogenetic_dose


def _person(cyp2c9: str | None, vkorc1: str | None, **values: float) -> np.ndarray:
    person = dict.fromkeys(COLUMNS, 0.0) | {"age_decades": 6, "height": 170, "weight": 80, "white": 1}
    person |= genotype_columns(cyp2c9, vkorc1) | values
    return np.array([[person[name] for name in COLUMNS]], dtype=np.float32)


@pytest.mark.parametrize(
    ("cyp2c9", "vkorc1", "values", "root"),
    [
        ("*1/*1", "G/G", {}, 5.6044 - 6 * 0.2614 + 170 * 0.0087 + 80 * 0.0128),
        ("*1/*3", "A/A", {}, 5.6044 - 6 * 0.2614 + 170 * 0.0087 + 80 * 0.0128 - 0.9357 - 1.6974),
        (None, None, {}, 5.6044 - 6 * 0.2614 + 170 * 0.0087 + 80 * 0.0128 - 0.2188 - 0.4854),
        ("*1/*1", "G/G", {"white": 0, "amiodarone": 1}, 5.6044 - 6 * 0.2614 + 170 * 0.0087 + 1.024 - 0.1032 - 0.5503),
        ("*1/*1", "G/G", {"white": 0, "black": 1, "inducer": 1}, 5.6044 - 1.5684 + 1.479 + 1.024 - 0.276 + 1.1816),
    ],
)
def test_equations_pharmacogenetic_is_the_appendix_s1e(
    cyp2c9: str | None, vkorc1: str | None, values: dict[str, float], root: float
) -> None:
    assert pharmacogenetic_dose(_person(cyp2c9, vkorc1, **values))[0] == pytest.approx(root**2, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "root"),
    [
        ({}, 4.0376 - 6 * 0.2546 + 170 * 0.0118 + 80 * 0.0134),
        ({"white": 0, "asian": 1}, 4.0376 - 6 * 0.2546 + 170 * 0.0118 + 80 * 0.0134 - 0.6752),
        ({"white": 0}, 4.0376 - 6 * 0.2546 + 170 * 0.0118 + 80 * 0.0134 + 0.0443),
    ],
)
def test_equations_clinical_is_the_appendix_s1f(values: dict[str, float], root: float) -> None:
    assert clinical_dose(_person("*1/*3", "A/A", **values))[0] == pytest.approx(root**2, rel=1e-5)


def test_equations_take_a_missing_height_from_those_of_the_same_sex() -> None:
    people = [_person(None, None, male=male, height=cm) for male, cm in ((1, 180), (1, np.nan), (0, 160))]
    doses = clinical_dose(np.concatenate(people))
    assert doses[0] == doses[1] != doses[2]
