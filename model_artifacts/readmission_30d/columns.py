"""What the graph's input `features` (1, 33) float32 holds, column by column, the same for training and serving.

Three kinds: numbers, flags (0 or 1), and choices (the position of a word in its tuple, 0 for "not recorded" or "none").
Not-a-number means not known and is allowed in numbers and flags alone; the network then answers as for the average patient
in that respect, and the explanation gives it no weight. Diagnoses are the second input, `diagnoses` (1, 9) int64:
`diagnoses.py` owns it.

A drug's choices end in "taken": taken, and nobody knows whether its dose was changed. Training hides the change at random, so
that the network has an answer for it.
"""

from __future__ import annotations

from collections.abc import Mapping

NUMBERS: Mapping[str, tuple[float, ...]] = {
    "age_decade": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    "days": (1, 2, 3, 4, 5, 6, 8, 10, 14),
    "lab_tests": (1, 20, 30, 40, 50, 60, 75, 100),
    "procedures": (0, 1, 2, 3, 4, 6),
    "medications": (1, 6, 9, 12, 15, 18, 22, 28, 45),
    "outpatient_visits": (0, 1, 2, 4, 8),
    "emergency_visits": (0, 1, 2, 3, 6, 12),
    "inpatient_stays": (0, 1, 2, 3, 4, 5, 7, 10),
    "diagnosis_count": (1, 3, 4, 5, 6, 7, 8, 9),
    "earlier_stays": (0, 1, 2, 3, 5, 8),
    "earlier_returns": (0, 1, 2, 3, 5),
    "days_since_stay": (0, 15, 30, 60, 90, 180, 365, 730),
}
"""Each with its knots: the network sees how far the value has come between each pair (Gorishniy et al., NeurIPS 2022)."""

FLAGS = ("female", "changed", "diabetes_drug", "returned")

TAKEN = "taken"
_DRUG = ("none", "steady", "increased", "decreased", TAKEN)
DRUGS = (
    "insulin",
    "metformin",
    "glipizide",
    "glyburide",
    "pioglitazone",
    "rosiglitazone",
    "glimepiride",
    "repaglinide",
    "glyburide_metformin",
    "nateglinide",
    "acarbose",
)

SPECIALTIES = (
    "not recorded",
    "internal medicine",
    "emergency or trauma",
    "general practice",
    "cardiology",
    "general surgery",
    "nephrology",
    "orthopedics",
    "orthopedic reconstruction",
    "radiology",
    "psychiatry",
    "pulmonology",
    "urology",
    "obstetrics and gynecology",
    "cardiothoracic surgery",
    "gastroenterology",
    "vascular surgery",
    "neurosurgery",
    "rehabilitation",
    "oncology",
    "pediatrics",
    "neurology",
    "ear, nose and throat",
    "endocrinology",
    "other",
)

CHOICES: Mapping[str, tuple[str, ...]] = {
    "admission_type": ("not recorded", "emergency", "urgent", "elective"),
    "admission_source": (
        "not recorded",
        "referral",
        "emergency department",
        "another hospital",
        "nursing facility",
        "another care facility",
    ),
    "disposition": (
        "not recorded",
        "home",
        "home with home health care",
        "skilled nursing facility",
        "rehabilitation",
        "another hospital",
        "another inpatient institution",
        "intermediate care or nursing facility",
        "long-term care hospital",
        "against medical advice",
        "psychiatric hospital",
        "swing bed",
        "outpatient services",
    ),
    "specialty": SPECIALTIES,
    "hba1c": ("not measured", "below 7 %", "7 % to 8 %", "above 8 %"),
    "glucose": ("not measured", "up to 200 mg/dL", "201 to 300 mg/dL", "above 300 mg/dL"),
    **dict.fromkeys(DRUGS, _DRUG),
}

COLUMNS = (*NUMBERS, *FLAGS, *CHOICES)
INDEX: Mapping[str, int] = {name: position for position, name in enumerate(COLUMNS)}

HISTORY_DAYS = 730
"""How far back earlier stays are looked at; `days_since_stay` of somebody without one."""

POSITIONS = 3
"""Diagnoses read: the principal one and two others, as the training data have them."""
LEVELS = 3
"""Of each diagnosis: chapter, category and code."""
EMBEDDING = 16
"""Numbers that stand for one diagnosis in the network."""


def width(name: str) -> int:
    """How many of the network's inputs the column becomes."""
    if name in NUMBERS:
        return len(NUMBERS[name]) - 1
    if name in FLAGS:
        return 1
    choices = CHOICES[name]
    return len(choices) - 1 - (choices[-1] == TAKEN)


def _slots() -> dict[str, tuple[int, ...]]:
    slots, at = {}, 0
    for name, wide in [
        *((name, width(name)) for name in COLUMNS),
        *((f"diagnosis_{place}", EMBEDDING) for place in range(1, POSITIONS + 1)),
    ]:
        slots[name] = tuple(range(at, at + wide))
        at += wide
    return slots


SLOTS: Mapping[str, tuple[int, ...]] = _slots()
"""Each input's positions in the network's input, which are those of its attributions."""
