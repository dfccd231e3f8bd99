from fhir_adapters.codes import ICD10CM, LOINC, SNOMED, Code, canonical_system, in_category, keys
from fhir_adapters.reasons import WORDS, Reason


def test_codes_are_equal_whatever_the_display() -> None:
    assert Code(LOINC, "1", "a") == Code(LOINC, "1", "b")
    assert keys(Code(LOINC, "1"), Code(LOINC, "1", "x")) == {(LOINC, "1")}


def test_codes_category_holds_for_icd_only() -> None:
    assert in_category(Code(ICD10CM, "I214"), Code(ICD10CM, "I21"))
    assert in_category(Code(ICD10CM, "I21.4"), Code(ICD10CM, "I21.4"))
    assert not in_category(Code(ICD10CM, "I2"), Code(ICD10CM, "I21"))
    assert not in_category(Code(LOINC, "2345-70"), Code(LOINC, "2345-7"))
    assert not in_category(Code(SNOMED, "I21"), Code(ICD10CM, "I21"))


def test_codes_system_aliases() -> None:
    assert canonical_system("urn:oid:2.16.840.1.113883.6.96") == SNOMED
    assert canonical_system("urn:unknown") == "urn:unknown"


def test_codes_every_reason_has_words() -> None:
    assert set(WORDS) == set(Reason)
