"""The table as trees read it: the rival's columns, with and without what is known of earlier stays.

Owns which columns the rival gets: all that the network gets and more, for every code of the table stands as it is, the
diagnoses both as numbers and as event rates. Race and payer are no inputs of either.
"""

from __future__ import annotations

import numpy as np

from model_artifacts.readmission_30d.cohort import Cohort
from model_artifacts.readmission_30d.columns import INDEX
from model_artifacts.readmission_30d.diagnoses import category_of
from model_artifacts.training.tree_teacher import Rows

HISTORY = ("earlier_stays", "earlier_returns", "returned", "days_since_stay")
_IDS = ("admission_type_id", "discharge_disposition_id", "admission_source_id")
_AS_RATES = ("medical_specialty", "discharge_disposition_id", "admission_source_id")


def tree_rows(cohort: Cohort, *, history: bool) -> Rows:
    """The cohort for trees; without history, what earlier stays tell is left out."""
    names = [name for name in INDEX if history or name not in HISTORY]
    own = cohort.features[:, [INDEX[name] for name in names]].astype(np.float64)
    ids = np.stack([cohort.column(name).astype(np.float64) for name in _IDS], axis=1)
    diagnoses = np.array([[_number(code) for code in row] for row in cohort.codes.tolist()])
    rates = [cohort.codes, np.array([[category_of(code) for code in row] for row in cohort.codes.tolist()])]
    return Rows(
        np.concatenate([own, ids, diagnoses], axis=1),
        np.concatenate([*rates, *(cohort.column(name)[:, None] for name in _AS_RATES)], axis=1),
    )


def _number(code: str) -> float:
    """A code as a number that keeps neighbours together; the supplementary classifications lie beyond the others."""
    offset = {"V": 1000.0, "E": 1200.0}.get(code[:1], 0.0)
    digits = code[1:] if offset else code
    return offset + float(digits) if digits else float("nan")
