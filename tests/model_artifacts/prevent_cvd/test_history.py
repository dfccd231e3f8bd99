import pytest

from fhir_adapters.codes import ATC
from model_artifacts.prevent_cvd.history import BP_TREATMENTS, STATINS, read_diabetes, read_smoking, read_treatment

from .people import AS_OF, ICD10CM, SNOMED, condition, medication, patient, record, smoking


def statin(*resources):
    return read_treatment(record(patient(), *resources), AS_OF, "statin", "Statin", STATINS)


def pressure(*resources):
    return read_treatment(record(patient(), *resources), AS_OF, "bp_treatment", "Treatment", BP_TREATMENTS)


@pytest.mark.parametrize(("system", "code"), [(SNOMED, "44054006"), (ICD10CM, "E11.65"), (ICD10CM, "E1065")])
def test_history_reads_diabetes(system, code):
    found = read_diabetes(record(patient(), condition(system, code)), AS_OF)
    assert (found.value, found.source) == (1.0, f"Condition/c-{code}")


@pytest.mark.parametrize(
    "row",
    [
        condition(SNOMED, "15777000"),  # prediabetes
        condition(ICD10CM, "O24.410"),  # gestational
        condition(ICD10CM, "E11.9", status="inactive"),
        condition(ICD10CM, "E11.9", verification="refuted"),
        condition(ICD10CM, "E11.9", verification="provisional"),
        condition(ICD10CM, "E11.9", onsetDateTime="2026-07-01"),
    ],
)
def test_history_does_not_read_diabetes_into(row):
    found = read_diabetes(record(patient(), row), AS_OF)
    assert (found.value, found.display) == (0.0, "none recorded")
    assert found.note


@pytest.mark.parametrize("code", ["449868002", "428041000124106", "77176002"])
def test_history_reads_current_smoking(code):
    assert read_smoking(record(patient(), smoking(code)), AS_OF).value == 1.0


@pytest.mark.parametrize("code", ["266919005", "8517006"])
def test_history_reads_no_current_smoking(code):
    assert read_smoking(record(patient(), smoking(code)), AS_OF).value == 0.0


def test_history_newest_smoking_answer_decides():
    rows = (smoking("449868002", "2025-01-01"), smoking("8517006", "2026-01-01"))
    assert read_smoking(record(patient(), *rows), AS_OF).value == 0.0


@pytest.mark.parametrize(
    ("rows", "absence"),
    [((), "missing"), ((smoking("266927001"),), "no-value"), ((smoking("449868002", "2019-01-01"),), "stale")],
)
def test_history_smoking_is_absent(rows, absence):
    found = read_smoking(record(patient(), *rows), AS_OF)
    assert (found.value, found.absence) == (None, absence)


@pytest.mark.parametrize(
    "name", ["Simvistatin 10 MG", "atorvastatin 20 MG Oral Tablet [Lipitor]", "amlodipine 5 MG / atorvastatin 10 MG"]
)
def test_history_reads_a_statin_by_name(name):
    assert statin(medication(name)).value == 1.0


@pytest.mark.parametrize(
    "name", ["nystatin 100000 UNT/ML Oral Suspension", "metformin 500 MG", "pentostatin 10 MG Injection"]
)
def test_history_does_not_take_for_a_statin(name):
    assert statin(medication(name)).value == 0.0


def test_history_reads_drugs_by_atc_class():
    assert statin(medication("", code="C10AA05", system=ATC)).value == 1.0
    assert pressure(medication("", code="C09AA03", system=ATC)).value == 1.0
    assert pressure(medication("", code="C03CA01", system=ATC)).value == 0.0


@pytest.mark.parametrize(
    "name", ["Hydrochlorothiazide 25 MG", "24 HR metoprolol succinate 100 MG [Toprol]", "lisinopril 10 MG"]
)
def test_history_reads_blood_pressure_treatment(name):
    assert pressure(medication(name)).value == 1.0


@pytest.mark.parametrize(
    "name", ["furosemide 40 MG Oral Tablet", "betaxolol 0.5 % Ophthalmic Solution", "minoxidil 5 % Topical Foam"]
)
def test_history_does_not_take_for_blood_pressure_treatment(name):
    assert pressure(medication(name)).value == 0.0


@pytest.mark.parametrize(
    "row",
    [
        medication("simvastatin", status="stopped"),
        medication("simvastatin", status="completed"),
        medication("simvastatin", authoredOn="2026-07-01"),
        medication("simvastatin", doNotPerform=True),
        medication("simvastatin", intent="proposal"),
    ],
)
def test_history_only_current_orders_count(row):
    assert statin(row).value == 0.0


def test_history_says_that_a_drug_without_a_name_was_not_recognised():
    note = statin(medication("", code="123")).note
    assert note is not None
    assert "1 of the medications could not be recognised" in note
