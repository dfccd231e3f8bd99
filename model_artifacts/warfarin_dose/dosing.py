"""What a draft's dosage instructions come to in mg of warfarin a week, or why that cannot be said.

Owns the arithmetic and its refusals. Units are compared, never assumed: an amount counts in a unit of mass, or in tablets of a
strength that the ordered product names. Whatever leaves two readings (a range, "as needed", steps after each other, words
alone) gives no figure. https://hl7.org/fhir/R4/dosage.html, https://hl7.org/fhir/R4/datatypes.html#Timing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from fhir_adapters.errors import UnitError
from fhir_adapters.mappings.draft_order import DraftOrder, WireDosage, WireRepeat, WireTiming
from fhir_adapters.resources import WireQuantity
from fhir_adapters.units import convert

_WEEKS: Mapping[str, float] = {"h": 1 / 168, "d": 1 / 7, "wk": 1.0}  # of one period unit; months have no fixed length
# http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation, those that say how often a day.
_PER_WEEK: Mapping[str, float] = {"QD": 7, "AM": 7, "PM": 7, "BED": 7, "BID": 14, "QOD": 3.5, "WK": 1}
_TABLETS = frozenset({"{tbl}", "{tablet}", "{tablets}", "tbl", "tab", "tabs", "tablet", "tablets", "1"})
_STRENGTH = re.compile(r"\b(\d{1,2}(?:\.\d)?)\s*mg\b", re.IGNORECASE)


class UnclearDoseError(Exception):
    """The draft's weekly dose can't be said; the message says why, without values."""


def weekly_mg(drafts: Iterable[DraftOrder]) -> float:
    """The sum of the drafts' doses, mg/week: two strengths of one drug are often two orders.

    Raises:
        UnclearDoseError: it cannot be said of one of them.
    """
    return sum(_of_draft(draft) for draft in drafts)


def _of_draft(draft: DraftOrder) -> float:
    if draft.dosages is None:
        raise UnclearDoseError("its dosage does not have the form FHIR R4 asks for")
    if not draft.dosages:
        raise UnclearDoseError("it has no dosage yet")
    if len(draft.dosages) > 1 and not all(map(_names_days, draft.dosages)):
        raise UnclearDoseError("it has several dosages, and whether they add up or follow each other is not said")
    strength = tablet_mg(draft)
    return sum(_of_dosage(dosage, strength) for dosage in draft.dosages)


def _names_days(dosage: WireDosage) -> bool:
    return dosage.timing is not None and dosage.timing.repeat is not None and bool(dosage.timing.repeat.day_of_week)


def tablet_mg(draft: DraftOrder) -> float | None:
    """The strength that the product's names agree on, in mg."""
    words = (draft.text, *(code.display for code in draft.codes))
    found = {float(match) for text in words for match in _STRENGTH.findall(text)}
    return found.pop() if len(found) == 1 else None


def _of_dosage(dosage: WireDosage, strength: float | None) -> float:
    if dosage.as_needed_boolean:
        raise UnclearDoseError("it is to be taken as needed")
    return _amount_mg(dosage, strength) * _times_per_week(dosage.timing)


def _amount_mg(dosage: WireDosage, strength: float | None) -> float:
    amounts = dosage.dose_and_rate or ()
    if len(amounts) > 1 or any(amount.dose_range is not None for amount in amounts):
        raise UnclearDoseError("it leaves open how much is to be taken")
    quantity = amounts[0].dose_quantity if amounts else dosage.dose_quantity
    if quantity is None or quantity.value is None or quantity.value <= 0 or quantity.comparator is not None:
        raise UnclearDoseError("it gives the amount in words alone, or not at all")
    return quantity.value * _mg_in(quantity, strength)


def _mg_in(quantity: WireQuantity, strength: float | None) -> float:
    units = [unit for unit in (quantity.code, quantity.unit) if unit]
    if any(unit.lower() in _TABLETS for unit in units):
        if strength is None:
            raise UnclearDoseError("it counts tablets, and their strength is not given")
        return strength
    factors = set()
    for unit in units:
        try:
            factors.add(round(convert(1.0, unit, "mg"), 12))
        except UnitError:
            continue
    if len(factors) != 1:
        raise UnclearDoseError("the unit of its amount is missing, unknown or of another quantity")
    return factors.pop()


def _times_per_week(timing: WireTiming | None) -> float:
    repeat = None if timing is None else timing.repeat
    if repeat is not None and (repeat.period is not None or repeat.day_of_week or repeat.frequency is not None):
        return _repeated(repeat)
    codings = () if timing is None or timing.code is None else timing.code.coding or ()
    codes = {item.code for item in codings if item.code}
    known = {_PER_WEEK[code] for code in codes if code in _PER_WEEK}
    if len(known) != 1:
        raise UnclearDoseError("it does not say how often, or in words alone")
    return known.pop()


def _repeated(repeat: WireRepeat) -> float:
    if repeat.frequency_max is not None or repeat.period_max is not None:
        raise UnclearDoseError("it leaves open how often it is to be taken")
    times = repeat.frequency if repeat.frequency is not None else max(1, len(repeat.time_of_day or ()))
    days = len(set(repeat.day_of_week or ()))
    if days and repeat.period_unit in (None, "d") and repeat.period in (None, 1):
        return float(days * times)
    if days and not (repeat.period_unit == "wk" and repeat.period == 1 and times == days):
        raise UnclearDoseError("its days of the week and its frequency do not fit together")
    weeks = _WEEKS.get(repeat.period_unit or "")
    if repeat.period is None or repeat.period <= 0 or weeks is None:
        raise UnclearDoseError("it does not say in which time")
    return times / (repeat.period * weeks)


_TARGET = re.compile(r"\bINR\b\D{0,24}?([1-4](?:\.\d{1,2})?)\s*(?:-|–|to)\s*([1-5](?:\.\d{1,2})?)", re.IGNORECASE)


def target_inr(drafts: Iterable[DraftOrder]) -> float | None:
    """The middle of the one INR range that the drafts' words name; None without one, or with two that differ."""
    found = {
        (float(low) + float(high)) / 2
        for draft in drafts
        for text in draft.remarks
        for low, high in _TARGET.findall(text)
        if float(low) < float(high)
    }
    return found.pop() if len(found) == 1 else None
