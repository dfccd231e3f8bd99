from dataclasses import dataclass
from pathlib import Path

import pytest

from fhir_adapters.codes import ATC, RXNORM, Code
from model_artifacts.drug_list import make_drug_list, read_drug_list
from model_artifacts.errors import ManifestError

LIST = make_drug_list(
    {"codes": [{"system": RXNORM, "code": "11289"}], "atc": ["B01AA03"], "names": ["warfarin", "coumadin"]}
)


@dataclass(frozen=True, slots=True)
class Drug:
    codes: tuple[Code, ...] = ()
    text: str = ""


@pytest.mark.parametrize(
    ("drug", "listed"),
    [
        (Drug((Code(RXNORM, "11289"),)), True),
        (Drug((Code(ATC, "B01AA03"),)), True),
        (Drug((Code(RXNORM, "0", "Warfarin Sodium 5 MG Oral Tablet"),)), True),
        (Drug(text="COUMADIN 5 mg"), True),
        (Drug((Code("urn:local", "11289"),)), False),
        (Drug((Code(ATC, "B01AA04"),), "phenprocoumon"), False),
        (Drug(text="nowarfarinhere"), False),
        (Drug(), False),
    ],
)
def test_drug_list_knows_a_drug_by_code_group_or_name(drug: Drug, listed: bool) -> None:
    assert LIST.has(drug) == listed


def test_drug_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.toml").write_text("atc = []\n")
    with pytest.raises(ManifestError, match=r"drug list list\.toml: KeyError"):
        read_drug_list(tmp_path / "list.toml")
