from typing import Any

import pytest

from fhir_adapters.codes import LOINC
from fhir_adapters.reasons import Reason
from model_artifacts.warfarin_dose.genotypes import read_genotypes
from tests.model_artifacts.warfarin_dose.people import AS_OF, observation, record

GENOTYPE, VARIANT, PHENOTYPE = "84413-4", "69548-6", "79716-7"
GENETIC = ("cyp2c9", "vkorc1")


def _part(code: str, value: str) -> dict[str, Any]:
    return {
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "valueCodeableConcept": {"coding": [{"system": LOINC, "code": value}]},
    }


def _variant(snp: str, zygosity: str | None, identifier: str = "v", **more: Any) -> dict[str, Any]:
    parts = [_part("81255-2", snp)] + ([_part("53034-5", zygosity)] if zygosity else [])
    return observation(identifier, VARIANT, "LA9633-4" if zygosity else "LA9634-2", component=parts, **more)


def _read(*resources: dict[str, Any]) -> tuple[str | None, str | None]:
    cyp2c9, vkorc1 = read_genotypes(record("genotypes-known", *resources, without=GENETIC), AS_OF)
    return cyp2c9.display, vkorc1.display


@pytest.mark.parametrize(
    ("words", "genotype"),
    [
        ("CYP2C9 *1/*3", "*1/*3"),
        ("CYP2C9*3/*1", "*1/*3"),
        ("*2/*2", "*2/*2"),
        ("CYP2C9 *1/*5", None),
        ("CYP2C9 *1/*12", None),
        ("CYP2C9 *1", None),
    ],
)
def test_genotypes_reads_star_alleles(words: str, genotype: str | None) -> None:
    gene = [_part("48018-6", "CYP2C9")]
    assert _read(observation("g", GENOTYPE, words, component=gene)) == (genotype, None)


def test_genotypes_takes_no_star_alleles_of_another_gene() -> None:
    assert _read(observation("g", GENOTYPE, "CYP2C19 *1/*3")) == (None, None)


@pytest.mark.parametrize(
    ("words", "genotype"),
    [
        ("VKORC1 rs9923231 A/G", "A/G"),
        ("rs9923231 G/A", "A/G"),
        ("rs9923231 C/T", "A/G"),
        ("rs9923231 T/T", "A/A"),
        ("rs9923231 C/C", "G/G"),
        ("VKORC1 -1639G>A G/G", "G/G"),
        ("rs9923231 A/C", None),
        ("VKORC1 A/G", None),
        ("rs7294 A/G", None),
    ],
)
def test_genotypes_reads_rs9923231_on_either_strand(words: str, genotype: str | None) -> None:
    assert _read(observation("g", GENOTYPE, words)) == (None, genotype)


@pytest.mark.parametrize(
    ("two", "three", "diplotype"),
    [
        (None, None, "*1/*1"),
        ("LA6706-1", None, "*1/*2"),
        (None, "LA6706-1", "*1/*3"),
        ("LA6705-3", None, "*2/*2"),
        ("LA6706-1", "LA6706-1", "*2/*3"),
        (None, "LA6705-3", "*3/*3"),
        ("LA6705-3", "LA6705-3", None),
    ],
)
def test_genotypes_makes_a_diplotype_of_two_variants(two: str | None, three: str | None, diplotype: str | None) -> None:
    assert _read(_variant("rs1799853", two, "a"), _variant("rs1057910", three, "b")) == (diplotype, None)


def test_genotypes_makes_no_diplotype_of_one_variant() -> None:
    assert _read(_variant("rs1799853", "LA6706-1")) == (None, None)


def test_genotypes_takes_no_variant_whose_zygosity_is_not_said() -> None:
    present = observation("v", VARIANT, "LA9633-4", component=[_part("81255-2", "rs9923231")])
    assert _read(present) == (None, None)


def test_genotypes_takes_normal_metabolizers_for_the_common_genotype() -> None:
    assert _read(observation("p", PHENOTYPE, "LA25391-6")) == ("*1/*1", None)


def test_genotypes_names_no_genotype_for_another_phenotype() -> None:
    found, _ = read_genotypes(record("no-genotypes", observation("p", PHENOTYPE, "Intermediate metabolizer")), AS_OF)
    assert (found.value, found.absence) == (None, Reason.NO_VALUE)
    assert "several genotypes" in (found.note or "")


def test_genotypes_that_disagree_are_unknown() -> None:
    rows = (observation("a", GENOTYPE, "rs9923231 A/A"), observation("b", GENOTYPE, "rs9923231 A/G"))
    _, found = read_genotypes(record("no-genotypes", *rows), AS_OF)
    assert (found.value, found.absence) == (None, Reason.CONTRADICTORY)


@pytest.mark.parametrize(
    "change", [{"status": "preliminary"}, {"effectiveDateTime": "2026-07-01"}, {"status": "entered-in-error"}]
)
def test_genotypes_that_are_not_final_or_of_the_future_are_not_read(change: dict[str, Any]) -> None:
    assert _read({**observation("a", GENOTYPE, "rs9923231 A/A"), **change}) == (None, None)
