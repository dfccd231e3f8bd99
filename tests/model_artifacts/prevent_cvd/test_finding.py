import re

import pytest

from model_artifacts.runtime import ReleasedModel

from .people import AS_OF, ICD10CM, SNOMED, complete, condition, medication, observation, smoking

MODEL = ReleasedModel.load("model_artifacts.prevent_cvd")


def finding(record):
    return MODEL.interpret(MODEL.assess(record, AS_OF).assessment, MODEL.manifest)


def codes(found):
    return [proposal.code.code for proposal in found.proposals]


def test_finding_names_the_equation():
    labs = {"hba1c": observation("4548-4", 6.1, "%"), "uacr": observation("9318-7", 20, "mg/g")}
    words = [
        next(text for text in finding(complete(instead=rows)).statements if text.startswith("Equation"))
        for rows in ((), (labs["hba1c"],), (labs["uacr"],), tuple(labs.values()))
    ]
    assert [text.split(",")[0].split(";")[0] for text in words] == [
        "Equation: PREVENT base",
        "Equation: PREVENT with HbA1c.",
        "Equation: PREVENT with the urine albumin–creatinine ratio.",
        "Equation: PREVENT full",
    ]


def test_finding_says_what_was_computed_and_what_was_taken_as_no():
    found = finding(complete())
    assert "Estimated GFR: computed from creatinine 0.8 mg/dL by CKD-EPI 2021." in found.statements
    assert "Diabetes, Blood pressure treatment, Statin: taken as no, as the record sent shows none" in found.missing


@pytest.mark.parametrize(
    ("without", "words", "orders"),
    [
        (["2093-3"], "Total cholesterol: not in the data received", ["24331-1"]),
        (["2085-9"], "HDL cholesterol: not in the data received", ["24331-1"]),
        (["2160-0"], "Estimated GFR: not in the data received", ["2160-0"]),
        (["8480-6"], "Systolic blood pressure: not in the data received", []),
        (["39156-5"], "Body mass index: not in the data received", []),
        (["72166-2"], "Current smoking: not in the data received", []),
    ],
)
def test_finding_abstains_for_one_missing_essential_value(without, words, orders):
    found = finding(complete(without=without))
    assert found.headline == f"10-year risk of cardiovascular disease not calculated: {words}"
    assert words in found.missing
    assert codes(found) == orders
    assert orders or found.considerations


def test_finding_names_the_range_a_value_lies_outside_of():
    found = finding(complete(without=["39156-5"], instead=[observation("39156-5", 43, "kg/m2")]))
    assert found.code == "abstained:input-out-of-range"
    assert "Body mass index: found 43; the equations hold for 18.5 to 39.9" in found.missing
    assert not found.considerations


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (complete(born="1997-01-01"), "age"),
        (complete(born="1946-05-31"), "age"),
        (complete(sex="unknown"), "sex-recorded"),
        (complete(instead=[condition(ICD10CM, "I25.10")]), "no-condition"),
        (complete(instead=[condition(ICD10CM, "I21.4", status="resolved")]), "no-condition"),
        (complete(instead=[condition(ICD10CM, "I50.22")]), "no-condition"),
        (complete(instead=[condition(ICD10CM, "I63.9")]), "no-condition"),
        (complete(instead=[condition(SNOMED, "230690007")]), "no-condition"),
        (complete(instead=[condition("http://hl7.org/fhir/sid/icd-9-cm", "41401")]), "no-condition"),
    ],
)
def test_finding_is_silent_outside_the_population(record, kind):
    found = finding(record)
    assert found.code == f"abstained:outside-population:{kind}"
    assert not found.proposals


@pytest.mark.parametrize("code", ["I10", "I48.91", "I42.0", "G45.4", "I65.21"])
def test_finding_speaks_where_the_disease_is_not_known_cvd(code):
    assert finding(complete(instead=[condition(ICD10CM, code)])).code.startswith("total_cvd_10y:")


def test_finding_proposes_labs_that_guidelines_ask_for():
    assert codes(finding(complete(without=["39156-5"], instead=[observation("39156-5", 22, "kg/m2")]))) == []
    assert codes(finding(complete())) == ["4548-4"]
    assert codes(finding(complete(instead=[condition(SNOMED, "44054006")]))) == ["4548-4", "9318-7"]
    assert codes(finding(complete(instead=[medication("lisinopril 10 MG")]))) == ["4548-4", "9318-7"]


def test_finding_considers_a_statin_in_diabetes_and_none_twice():
    diabetes = condition(SNOMED, "44054006")
    assert "consider discussing it" in finding(complete(instead=[diabetes])).considerations[0]
    on_statin = finding(complete(instead=[diabetes, medication("rosuvastatin 10 MG")]))
    assert "on a statin" in on_statin.considerations[0]


@pytest.mark.parametrize(
    ("systolic", "treated", "words"),
    [(150, False, "140 mmHg or more"), (136, False, "130–139 mmHg"), (136, True, "goal of 130"), (120, False, None)],
)
def test_finding_weighs_blood_pressure(systolic, treated, words):
    extra = [observation("8480-6", systolic, "mm[Hg]", at="2026-05-02T08:00:00Z"), smoking("449868002", "2026-02-01")]
    found = finding(complete(born="1960-01-01", instead=[*extra, *([medication("losartan")] if treated else [])]))
    assert (
        any(words in text for text in found.considerations)
        if words
        else all("mmHg" not in t for t in found.considerations)
    )


def test_finding_never_commands():
    command = re.compile(r"\b(must|should|start|stop|prescribe|give|initiate)\b", re.IGNORECASE)
    records = [complete(instead=[condition(SNOMED, "44054006"), observation("8480-6", 170, "mm[Hg]", at="2026-05-02")])]
    records += [complete(), complete(without=["8480-6", "72166-2"])]
    for record in records:
        assert not any(command.search(text) for text in finding(record).considerations)


def test_finding_of_an_old_order_doubts_it_where_it_counts_and_not_as_missing():
    """Once it stood under what is not available."""
    order = medication("Hydrochlorothiazide 25 MG Oral Tablet") | {"authoredOn": "1982-03-02T09:00:00Z"}
    found = finding(complete(instead=[order]))
    treatment = next(item for item, _ in found.reasons if item.name == "bp_treatment")
    assert treatment.note is not None
    assert treatment.note.endswith("ordered more than two years ago")
    assert not any("two years" in line for line in found.missing)


def test_finding_tells_drugs_that_could_not_be_recognised():
    nameless = medication("x") | {"medicationCodeableConcept": {"coding": [{"system": "urn:local", "code": "1"}]}}
    assert (
        "Statin: 1 of the medications could not be recognised, as no name was sent"
        in finding(complete(instead=[nameless])).missing
    )
