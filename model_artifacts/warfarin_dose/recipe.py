"""How warfarin_dose is fitted and cross-fitted: what decides a fold's answers, apart from what reports them.

Owns the layout of the columns, the maskings, and one fold's answers as arrays, which `train.py` keeps: only a change here, or
in what this imports, makes kept folds stale. Imported by `train.py` alone; serving must not, for torch comes with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.dose_fit import (
    Features,
    Fitted,
    Recipe,
    boosting_rival,
    fit,
    kernel_rival,
    novelty_of,
    scaled_rows,
    tune_boosting,
)
from model_artifacts.training.dose_model import Layout
from model_artifacts.warfarin_dose.cohort import Cohort
from model_artifacts.warfarin_dose.columns import CYP2C9, INDEX, RACES, SLOTS, VKORC1
from model_artifacts.warfarin_dose.equations import clinical_dose, pharmacogenetic_dose
from model_artifacts.warfarin_dose.held_out import HeldOut

SEED = 2009
FOLDS = 5
COVERAGE = 0.9
KNOWN = (INDEX["cyp2c9_known"], INDEX["vkorc1_known"])
_CYP2C9, _VKORC1 = SLOTS["cyp2c9"], SLOTS["vkorc1"]

Array = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]


def masked(features: Features, *columns: int) -> Features:
    """A copy in which these columns are 0."""
    copy = features.copy()
    copy[:, columns] = 0.0
    return copy


RECIPE = Recipe(
    Layout(
        nullable={INDEX["height"]: 168.0, INDEX["male"]: 0.5, INDEX["smoking"]: 0.14, INDEX["target_inr"]: 2.5},
        height=INDEX["height"],
        explains_height=(INDEX["male"], INDEX["weight"], INDEX["asian"]),
        crossed=tuple((known, INDEX[race]) for known in KNOWN for race in RACES),
        always=tuple(INDEX[name] for name in RACES),
        groups=tuple(INDEX[name] for name in (*CYP2C9[1:], *VKORC1[1:])),
        unknown=KNOWN,
    ),
    masks=(
        lambda rows: rows,
        lambda rows: masked(rows, *_CYP2C9, *_VKORC1),
        lambda rows: masked(rows, *_CYP2C9),
        lambda rows: masked(rows, *_VKORC1),
    ),
    novelty=tuple(INDEX[name] for name in ("age_decades", "height", "weight")),
    trades=((INDEX["age_decades"],), (INDEX["height"], INDEX["weight"]), (INDEX["male"],)),
    parts=5,
    coverage=COVERAGE,
    seed=SEED,
)


def folds(people: int) -> npt.NDArray[np.int64]:
    """The fold that each person is reported in."""
    return np.random.default_rng(SEED).permutation(people) % FOLDS


def cross_fit(cohort: Cohort, number: int) -> dict[str, npt.NDArray[Any]]:
    """What models that never saw fold `number` say of the people in it: ours with and without genotypes, and the rivals."""
    fold, root = folds(len(cohort.dose)), np.sqrt(cohort.dose)
    develop, report = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
    fitted = fit(cohort.features[develop], cohort.dose[develop], RECIPE)
    ours = fitted.predict(cohort.features[report])
    without = fitted.predict(RECIPE.masks[1](cohort.features[report]))
    boosting = tune_boosting(cohort.features[develop], root[develop], SEED)
    rows = scaled_rows(fitted, cohort.features)
    return {
        "dose/model": ours["dose"],
        "dose/without_genotypes": without["dose"],
        "dose/support_vector": kernel_rival(rows, root, fitted.kernel, develop, report),
        "dose/gradient_boosting": boosting_rival(cohort.features, root, boosting, develop, report),
        "interval/model": ours["interval"],
        "interval/without_genotypes": without["interval"],
        "members": ours["members"],
        "novelty": ours["novelty"],
        "settings": np.array(f"fold {number + 1}: kernel {fitted.kernel}, boosting {boosting}"),
        **_novelty_arrays(fitted),
    }


@dataclass(frozen=True, slots=True)
class Parts:
    """Every fold's answers, and the fold of each person."""

    answers: tuple[Arrays, ...]
    fold: npt.NDArray[np.int64]

    @classmethod
    def of(cls, answers: Sequence[Arrays]) -> "Parts":
        """The parts of `cross_fit`, in the order of their folds."""
        return cls(tuple(answers), folds(sum(len(part["novelty"]) for part in answers)))

    def held_out(self, cohort: Cohort) -> HeldOut:
        """Everybody's answers, in the cohort's order, and the equations' beside them."""

        def joined(name: str) -> Array:
            first = self.answers[0][name]
            result = np.zeros((len(self.fold), *first.shape[1:]))
            for number, part in enumerate(self.answers):
                result[self.fold == number] = part[name]
            return result

        names = [name.partition("/")[2] for name in self.answers[0] if name.startswith("dose/")]
        equations = {
            "clinical_equation": clinical_dose(cohort.features),
            "iwpc_equation": pharmacogenetic_dose(cohort.features),
        }
        return HeldOut(
            cohort,
            {**equations, **{name: joined(f"dose/{name}") for name in names}},
            {name: joined(f"interval/{name}") for name in ("model", "without_genotypes")},
            joined("members"),
            joined("novelty"),
            tuple(str(part["settings"]) for part in self.answers),
        )


def fold_novelty(parts: Parts, features: Features) -> Array:
    """The novelty of each row of `features`, a changed cohort in its order, by the model that never saw that person."""
    result = np.zeros(len(features))
    for number, part in enumerate(parts.answers):
        inside = parts.fold == number
        kept = (part[f"novelty/{name}"] for name in ("height_weights", "centre", "whiten"))
        result[inside] = novelty_of(features[inside], RECIPE, *kept)
    return result


def _novelty_arrays(fitted: Fitted) -> dict[str, npt.NDArray[Any]]:
    novelty = fitted.model.novelty
    found = {"height_weights": fitted.prepare.height_weights, "centre": novelty.centre, "whiten": novelty.whiten}
    return {f"novelty/{name}": value.numpy() for name, value in found.items()}
