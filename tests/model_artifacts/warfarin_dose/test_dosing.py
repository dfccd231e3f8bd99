import json
from typing import Any

import pytest

from fhir_adapters.mappings.draft_order import DraftOrder, read_draft
from model_artifacts.warfarin_dose.dosing import UnclearDoseError, target_inr, weekly_mg
from tests.model_artifacts.warfarin_dose.people import DAILY, dose, draft


def _read(document: dict[str, Any]) -> DraftOrder:
    read = read_draft(json.dumps(document).encode(), selected=True)
    assert read is not None
    return read


def _repeat(**repeat: Any) -> dict[str, Any]:
    return {"repeat": repeat}


@pytest.mark.parametrize(
    ("dosage", "mg"),
    [
        (dose(5), 35),
        (dose(0.005, "g"), 35),
        (dose(1, "tablet"), 35),
        (dose(0.5, "{tbl}"), 17.5),
        (dose(2.5, timing=_repeat(frequency=2, period=1, periodUnit="d")), 35),
        (dose(5, timing=_repeat(frequency=1, period=2, periodUnit="d")), 17.5),
        (dose(5, timing=_repeat(frequency=1, period=24, periodUnit="h")), 35),
        (dose(30, timing=_repeat(frequency=1, period=1, periodUnit="wk")), 30),
        (dose(5, timing=_repeat(dayOfWeek=["mon", "wed", "fri"])), 15),
        (dose(5, timing=_repeat(frequency=1, period=1, periodUnit="d", dayOfWeek=["sat", "sun"])), 10),
        (dose(5, timing=_repeat(frequency=3, period=1, periodUnit="wk", dayOfWeek=["mon", "wed", "fri"])), 15),
        (dose(5, timing={"code": {"coding": [{"code": "QD"}]}}), 35),
        (dose(5, timing={"code": {"coding": [{"code": "QOD"}]}}), 17.5),
        ({"doseQuantity": {"value": 5, "unit": "mg", "code": "mg"}, "timing": DAILY}, 35),
        (
            [
                dose(5, timing=_repeat(dayOfWeek=["mon", "tue", "wed", "thu", "fri"])),
                dose(2.5, timing=_repeat(dayOfWeek=["sat", "sun"])),
            ],
            30,
        ),
    ],
)
def test_dosing_adds_up_to_a_week(dosage: Any, mg: float) -> None:
    assert weekly_mg([_read(draft(dosage))]) == pytest.approx(mg)


@pytest.mark.parametrize(
    ("dosage", "why"),
    [
        ([], "no dosage yet"),
        ("5 mg", "form FHIR R4"),
        ({"text": "5 mg daily"}, "words alone"),
        (dose(5, "mL"), "unit of its amount"),
        (dose(5, ""), "unit of its amount"),
        (dose(-5), "words alone"),
        (dose(5, timing=None), "how often"),
        (dose(5, timing={"code": {"text": "every evening"}}), "how often"),
        (dose(5, asNeededBoolean=True), "as needed"),
        (dose(5, timing=_repeat(frequency=1, frequencyMax=2, period=1, periodUnit="d")), "open how often"),
        (dose(5, timing=_repeat(frequency=1, period=1, periodUnit="mo")), "in which time"),
        (
            dose(5, timing=_repeat(frequency=2, period=1, periodUnit="wk", dayOfWeek=["mon", "wed", "fri"])),
            "days of the week",
        ),
        ([dose(10), dose(5)], "several dosages"),
        ({"doseAndRate": [{"doseRange": {"low": {"value": 2}, "high": {"value": 5}}}], "timing": DAILY}, "how much"),
    ],
)
def test_dosing_that_has_two_readings_or_none_is_unclear(dosage: Any, why: str) -> None:
    with pytest.raises(UnclearDoseError, match=why):
        weekly_mg([_read({**draft([]), "dosageInstruction": [dosage] if dosage == "5 mg" else _listed(dosage)})])


def _listed(dosage: Any) -> list[Any]:
    return dosage if isinstance(dosage, list) else [dosage]


def test_dosing_counts_no_tablets_of_unknown_strength() -> None:
    with pytest.raises(UnclearDoseError, match="strength"):
        weekly_mg([_read(draft(dose(1, "tablet"), name="warfarin"))])


def test_dosing_adds_orders_of_two_strengths() -> None:
    other = _read(draft(dose(1, "tablet"), name="warfarin sodium 2 MG Oral Tablet"))
    assert weekly_mg([_read(draft(dose(1, "tablet"))), other]) == 49


def test_dosing_is_unclear_if_one_of_two_orders_is() -> None:
    with pytest.raises(UnclearDoseError):
        weekly_mg([_read(draft(dose(5))), _read(draft([]))])


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("target INR 2.5-3.5", 3.0),
        ("INR goal 2 to 3", 2.5),
        ("INR 2–3", 2.5),
        ("INR was 2.5", None),
        ("INR 3-2", None),
        ("for 2-3 months", None),
    ],
)
def test_dosing_reads_the_target_range_from_words(words: str, target: float | None) -> None:
    assert target_inr([_read(draft(dose(5, text=words)))]) == target


def test_dosing_takes_no_target_where_two_are_named() -> None:
    assert target_inr([_read(draft([dose(5, text="INR 2-3"), dose(5, text="INR 2.5-3.5")]))]) is None
