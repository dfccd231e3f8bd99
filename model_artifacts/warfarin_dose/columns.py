"""The columns of the graph's one input `features` (1, 27) float32, and which of them each input of the record fills.

The same table for training (`cohort.py`) and serving (`inputs.py`). Not-a-number means not recorded and is allowed in
`NULLABLE` alone. A genotype that is not known has 0 in all of its columns, "known" included; so has one with an allele other
than *1, *2 and *3. Race is as recorded, one column of three or none: none stands for mixed, other and not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS = (
    "age_decades",
    "height",
    "weight",
    "male",
    "white",
    "asian",
    "black",
    "amiodarone",
    "inducer",
    "statin",
    "aspirin",
    "azole",
    "sulfonamide",
    "smoking",
    "heart_failure",
    "diabetes",
    "valve",
    "target_inr",
    "*1/*2",
    "*1/*3",
    "*2/*2",
    "*2/*3",
    "*3/*3",
    "cyp2c9_known",
    "A/G",
    "A/A",
    "vkorc1_known",
)
INDEX: Mapping[str, int] = {name: position for position, name in enumerate(COLUMNS)}
NULLABLE = ("height", "male", "smoking", "target_inr")

RACES = ("white", "asian", "black")
CYP2C9 = ("*1/*1", "*1/*2", "*1/*3", "*2/*2", "*2/*3", "*3/*3")
VKORC1 = ("G/G", "A/G", "A/A")

OLDEST_DECADE = 9  # the cohort records every age of 90 and over as "90+"
SLOTS: Mapping[str, tuple[int, ...]] = {
    **{name: (INDEX[name],) for name in COLUMNS[:4]},
    "race": tuple(INDEX[name] for name in RACES),
    **{name: (INDEX[name],) for name in COLUMNS[7:18]},
    "cyp2c9": tuple(INDEX[name] for name in (*CYP2C9[1:], "cyp2c9_known")),
    "vkorc1": tuple(INDEX[name] for name in (*VKORC1[1:], "vkorc1_known")),
}
"""Input of the record to the columns that it fills, which are also the positions of its attributions."""


def genotype_columns(cyp2c9: str | None, vkorc1: str | None) -> dict[str, float]:
    """The nine columns of the two genotypes; None, or a CYP2C9 genotype of other alleles, is not known."""
    known = cyp2c9 if cyp2c9 in CYP2C9 else None
    row = {name: float(name == known) for name in CYP2C9[1:]} | {"cyp2c9_known": float(known is not None)}
    return row | {name: float(name == vkorc1) for name in VKORC1[1:]} | {"vkorc1_known": float(vkorc1 is not None)}
