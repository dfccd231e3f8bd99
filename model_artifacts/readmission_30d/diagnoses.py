"""A diagnosis as the network reads it: chapter, category and code of ICD-9-CM, the edition of the training data.

Owns the graph's input `diagnoses` (1, 9) int64: three diagnoses, the principal one first, each as the numbers of its chapter,
its three-digit category and its full code, 0 where the level is not known or too rare to have a number. Which have one stands
in `vocabulary.toml`, which training writes. ICD-10-CM is translated by `icd10_to_icd9.toml`; what that doesn't hold keeps its
chapter, and a code of another system is not read.

To translate one more category: a line in `icd10_to_icd9.toml`, then train nothing: the network knows ICD-9-CM alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from fhir_adapters.codes import ICD9CM, ICD10, ICD10CM, Code

_FOLDER = Path(__file__).parent
_ICD10 = frozenset({ICD10CM, ICD10})

# The chapters of ICD-9-CM's tabular list and its two supplementary classifications, by their last category.
_CHAPTERS = (
    (139, "infections"),
    (239, "neoplasms"),
    (279, "endocrine"),
    (289, "blood"),
    (319, "mental"),
    (389, "nervous"),
    (459, "circulatory"),
    (519, "respiratory"),
    (579, "digestive"),
    (629, "genitourinary"),
    (679, "pregnancy"),
    (709, "skin"),
    (739, "musculoskeletal"),
    (759, "congenital"),
    (779, "perinatal"),
    (799, "symptoms"),
    (999, "injury"),
)
CHAPTERS = ("unknown", *(name for _, name in _CHAPTERS), "factors", "external")
CHAPTER_LABELS: Mapping[str, str] = {
    "endocrine": "endocrine and metabolic diseases",
    "blood": "diseases of the blood",
    "mental": "mental disorders",
    "nervous": "diseases of the nervous system and sense organs",
    "circulatory": "diseases of the circulatory system",
    "respiratory": "diseases of the respiratory system",
    "digestive": "diseases of the digestive system",
    "genitourinary": "diseases of the genitourinary system",
    "pregnancy": "pregnancy and childbirth",
    "skin": "diseases of the skin",
    "musculoskeletal": "diseases of muscles and bones",
    "congenital": "congenital anomalies",
    "perinatal": "perinatal conditions",
    "symptoms": "symptoms and signs",
    "injury": "injury, poisoning and complications of care",
    "factors": "other factors that lead to contact with health services",
    "external": "external causes",
}


def _read(name: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((_FOLDER / name).read_text(encoding="utf-8"))


def _vocabulary() -> Mapping[str, tuple[str, ...]]:
    """The categories and codes that have a number, in order; before the first training there are none."""
    path = _FOLDER / "vocabulary.toml"
    content = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {level: tuple(content.get(level, ())) for level in ("categories", "codes")}


_TABLE = _read("icd10_to_icd9.toml")
_KNOWN = _vocabulary()
CATEGORIES: Mapping[str, int] = {category: number for number, category in enumerate(_KNOWN["categories"], start=1)}
CODES: Mapping[str, int] = {code: number for number, code in enumerate(_KNOWN["codes"], start=1)}


def levels(
    code: str, categories: Mapping[str, int] = CATEGORIES, codes: Mapping[str, int] = CODES
) -> tuple[int, int, int]:
    """The numbers of chapter, category and code of an ICD-9-CM code such as "250.83" or "V57"; zeros for none."""
    category = category_of(code)
    return CHAPTERS.index(chapter_of(category)), categories.get(category, 0), codes.get(code, 0)


def category_of(code: str) -> str:
    """The part before the dot, without leading zeros: "8" of "008.45", "V57" of "V57.89"; "" for no code."""
    return code.partition(".")[0].lstrip("0")


def chapter_of(category: str) -> str:
    """The name of the chapter of an ICD-9-CM category, "unknown" for what is none."""
    if category.startswith("V"):
        return "factors"
    if category.startswith("E"):
        return "external"
    if not category.isdigit():
        return "unknown"
    return next((name for last, name in _CHAPTERS if int(category) <= last), "unknown")


def icd9_of(codes: Iterable[Code]) -> str:
    """A diagnosis in ICD-9-CM: as recorded, else translated; a chapter's name if that is all, "" if nothing is known."""
    known = tuple(codes)
    for code in known:
        if code.system == ICD9CM:
            return normal(code.code)
    return next((found for code in known if code.system in _ICD10 and (found := translate(code.code))), "")


def normal(code: str) -> str:
    """An ICD-9-CM code as the training data write it: with a dot, without leading or trailing zeros ("250.4" of "25040")."""
    text = code.upper().strip()
    if "." not in text:
        places = 4 if text.startswith("E") else 3
        text = f"{text[:places]}.{text[places:]}"
    head, _, tail = text.partition(".")
    head, tail = head.lstrip("0"), tail.rstrip("0")
    return f"{head}.{tail}" if tail else head


def translate(code: str) -> str:
    """The ICD-9-CM code, category or chapter name for an ICD-10-CM code: by its longest prefix in the table, "" if none."""
    bare = code.replace(".", "").upper().strip()
    for table in ("codes", "categories", "chapters"):
        for end in range(len(bare), 0, -1):
            if bare[:end] in _TABLE[table]:
                return _TABLE[table][bare[:end]]
    return ""


def levels_of(codes: Iterable[Code]) -> tuple[int, int, int]:
    """`levels` of a diagnosis with these codes; of one whose chapter alone is known, that."""
    found = icd9_of(codes)
    return (CHAPTERS.index(found), 0, 0) if found in CHAPTERS else levels(found)
