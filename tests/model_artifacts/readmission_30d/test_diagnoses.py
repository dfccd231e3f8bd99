"""ICD-9-CM as the training table writes it, and ICD-10-CM translated to it."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.codes import ICD9CM, ICD10CM, SNOMED, Code
from model_artifacts.readmission_30d.diagnoses import (
    CATEGORIES,
    CHAPTERS,
    CODES,
    category_of,
    chapter_of,
    icd9_of,
    levels,
    levels_of,
    normal,
    translate,
)
from tests.model_artifacts.readmission_30d.stays import FOLDER


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("250.00", "250"),
        ("25083", "250.83"),
        ("250.40", "250.4"),
        ("008.45", "8.45"),
        ("V5789", "V57.89"),
        ("E8788", "E878.8"),
    ],
)
def test_diagnoses_codes_are_written_as_in_the_training_data(code: str, expected: str) -> None:
    assert normal(code) == expected


@given(st.from_regex(r"(?:[0-9]{3}|V[0-9]{2})(?:\.[0-9]{1,2})?", fullmatch=True))
def test_diagnoses_normal_is_the_same_with_and_without_the_dot_and_twice(code: str) -> None:
    assert normal(code) == normal(code.replace(".", ""))
    if len(category_of(normal(code))) == 3:  # leading zeros gone, the dot is what tells the places
        assert normal(normal(code)) == normal(code)


@pytest.mark.parametrize(
    ("category", "chapter"),
    [
        ("8", "infections"),
        ("250", "endocrine"),
        ("428", "circulatory"),
        ("786", "symptoms"),
        ("V57", "factors"),
        ("", "unknown"),
    ],
)
def test_diagnoses_chapters_are_those_of_the_tabular_list(category: str, chapter: str) -> None:
    assert chapter_of(category) == chapter


@pytest.mark.parametrize(
    ("code", "expected"),
    [("I50.23", "428"), ("E11.22", "250.4"), ("E11.9", "250"), ("N17.9", "584"), ("J44.1", "491"), ("I25.2", "412")],
)
def test_diagnoses_icd10_is_translated_by_its_longest_prefix(code: str, expected: str) -> None:
    assert translate(code) == expected


def test_diagnoses_icd10_not_in_the_table_keeps_its_chapter() -> None:
    assert translate("K75.4") == "digestive"
    assert levels_of([Code(ICD10CM, "K75.4")]) == (CHAPTERS.index("digestive"), 0, 0)


def test_diagnoses_every_translation_is_of_the_same_chapter_or_says_otherwise() -> None:
    table = tomllib.loads((FOLDER / "icd10_to_icd9.toml").read_text(encoding="utf-8"))
    assert set(table["chapters"].values()) <= set(CHAPTERS)
    assert [code for code in table["categories"].values() if chapter_of(category_of(code)) == "unknown"] == []
    assert [code for code in table["codes"].values() if category_of(code) != "250"] == []


def test_diagnoses_translations_lead_to_categories_that_the_network_knows() -> None:
    table = tomllib.loads((FOLDER / "icd10_to_icd9.toml").read_text(encoding="utf-8"))
    known = [code for code in table["categories"].values() if category_of(code) in CATEGORIES]
    assert len(known) > 0.9 * len(table["categories"])
    assert {code for code in table["codes"].values() if "." in code} <= CODES.keys()


def test_diagnoses_icd9_is_taken_before_a_translation() -> None:
    assert icd9_of([Code(ICD10CM, "I50.9"), Code(ICD9CM, "427.31")]) == "427.31"


def test_diagnoses_other_systems_are_not_read() -> None:
    assert icd9_of([Code(SNOMED, "44054006")]) == ""
    assert levels_of([Code(SNOMED, "44054006")]) == (0, 0, 0)


def test_diagnoses_levels_number_what_is_known_and_leave_0_for_the_rest() -> None:
    assert levels("428.21", {"428": 5}, {"250.4": 1}) == (CHAPTERS.index("circulatory"), 5, 0)
    assert levels("", {}, {}) == (0, 0, 0)
