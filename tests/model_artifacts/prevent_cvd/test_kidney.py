from datetime import timedelta

import pytest

from fhir_adapters.features import FeatureValue
from model_artifacts.prevent_cvd.kidney import choose_egfr, ckd_epi_2021

from .people import AS_OF


def value(name, number, days=10, absence=None, note=None):
    at = None if absence == "missing" else AS_OF - timedelta(days=days)
    source = None if at is None else f"Observation/{name}"
    return FeatureValue(name, "Estimated GFR", number, "mL/min/{1.73_m2}", at, source, absence, note)


def none(name):
    return value(name, None, absence="missing")


# National Kidney Foundation calculator, CKD-EPI creatinine 2021, rounded as it shows them.
@pytest.mark.parametrize(
    ("creatinine", "age", "female", "expected"),
    [(1.0, 50, False, 92), (1.0, 50, True, 69), (0.6, 30, True, 124), (2.0, 70, False, 35), (0.7, 60, True, 99)],
)
def test_kidney_ckd_epi_2021_gives_known_values(creatinine, age, female, expected):
    assert round(ckd_epi_2021(creatinine, age, female=female)) == expected


def test_kidney_takes_the_reported_rate():
    chosen = choose_egfr(value("egfr", 71.0), none("creatinine"), none("egfr_older"), 50, "female")
    assert (chosen.value, chosen.note) == (71.0, None)


def test_kidney_computes_from_newer_creatinine_and_says_so():
    chosen = choose_egfr(value("egfr", 71.0, days=90), value("creatinine", 1.0, days=2), none("o"), 50, "female")
    assert chosen.value == pytest.approx(68.6, abs=0.2)
    assert chosen.note == "computed from creatinine 1 mg/dL by CKD-EPI 2021"
    assert (chosen.name, chosen.source) == ("egfr", "Observation/creatinine")


def test_kidney_prefers_the_reported_rate_of_the_same_blood_draw():
    assert choose_egfr(value("egfr", 71.0), value("creatinine", 1.0), none("o"), 50, "female").value == 71.0


def test_kidney_uses_an_older_equation_only_where_nothing_else_is_there():
    old = value("egfr_older", 55.0)
    assert choose_egfr(none("egfr"), value("creatinine", 1.0), old, 50, "male").value != 55.0
    chosen = choose_egfr(none("egfr"), none("creatinine"), old, 50, "male")
    assert (chosen.name, chosen.value) == ("egfr", 55.0)
    assert chosen.note == "reported by an equation older than CKD-EPI 2021"


def test_kidney_names_the_unusable_creatinine():
    chosen = choose_egfr(none("egfr"), value("creatinine", None, absence="unit"), none("o"), 50, "male")
    assert (chosen.value, chosen.absence, chosen.source) == (None, "unit", "Observation/creatinine")


def test_kidney_is_missing_without_any():
    assert choose_egfr(none("egfr"), none("creatinine"), none("o"), 50, "male").absence == "missing"
