"""From the challenge's files to the released folder: `python -m bedside_long_stay.train --data physionet2012`.

The data are the PhysioNet/CinC Challenge 2012, sets a and b (ODC-BY 1.0): `p12_long.parquet` (RecordID, minutes, Parameter,
Value) and `outcomes_ab.csv`. The outcome is a stay of more than 14 days from coming to intensive care to leaving hospital.
What a feature is stands in `features.toml`: ranges and statistics are taken from there, and from `challenge.py` what the
challenge calls it.
"""

import argparse
import sys
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline

from bedside_long_stay.challenge import PARAMETERS, write_examples
from bedside_long_stay.inputs import INPUTS
from model_artifacts.training.conformal import fit_bounds
from model_artifacts.training.reference import write_reference
from model_artifacts.training.release import add_sign_key
from model_artifacts.training.rivals import regression_predictions
from model_artifacts.training.sklearn_graph import as_float32, write_graph
from model_artifacts.training.split import make_folds
from model_artifacts.training.tabular import FOLDS, SEED, Rows, evaluate, out_of_fold, release

FOLDER = Path(__file__).parent
LONG_DAYS = 14
THRESHOLD = 0.40  # where the second band begins
COVERAGE = 0.8
AGES = (18, 45, 65, 80, 200)


def make_classifier() -> Pipeline:
    """Boosted trees; -1, which no input can be, stands for what was not measured."""
    trees = GradientBoostingClassifier(
        n_estimators=120,
        learning_rate=0.05,
        max_depth=4,
        subsample=0.6,
        min_samples_leaf=40,
        max_features=0.5,
        random_state=SEED,
    )
    return make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), trees)


def read_rows(data: Path) -> Rows:
    """A row for each stay whose length is recorded: the features of its first 24 hours."""
    events = pd.read_parquet(data / "p12_long.parquet", columns=["RecordID", "minutes", "Parameter", "Value"])
    stays = pd.read_csv(data / "outcomes_ab.csv").set_index("RecordID")
    stays = stays[stays["Length_of_stay"] >= 0]
    events = events[events["RecordID"].isin(stays.index)].sort_values("minutes", kind="stable")
    table = pd.DataFrame(index=stays.index)
    for spec in INPUTS.specs:
        own = events[events["Parameter"].isin(PARAMETERS[spec.name])]
        own = own[(own["minutes"] <= 24 * 60) & own["Value"].between(spec.low, spec.high)]
        values = own.groupby("RecordID")["Value"]
        table[spec.name] = {"latest": values.last, "min": values.min, "max": values.max}[spec.statistic]()
    person = events[events["Parameter"].isin(("Age", "Gender"))].pivot_table(
        index="RecordID", columns="Parameter", values="Value", aggfunc="last"
    )
    table["age"], table["male"] = person["Age"], person["Gender"].where(person["Gender"] >= 0)
    age, male = table["age"], table["male"]
    groups = {
        "sex": np.where(male == 1, "male", np.where(male == 0, "female", "")),
        "age": np.array([_age_band(years) for years in age]),
    }
    labels = (stays["Length_of_stay"] > LONG_DAYS).to_numpy(np.int64)
    return Rows(tuple(table), as_float32(table), labels, table.index.to_numpy(), groups)


def _age_band(years: float) -> str:
    low, high = next((pair for pair in pairwise(AGES) if pair[0] <= years < pair[1]), (0, 0))
    if not high:
        return ""
    return f"{low}–{high - 1}" if high < AGES[-1] else f"{low} and older"


def main() -> int:
    """Trains, measures and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with p12_long.parquet and outcomes_ab.csv")
    add_sign_key(parser)
    arguments = parser.parse_args()
    data = arguments.data
    rows = read_rows(data)
    held_out = out_of_fold(make_classifier, rows)
    rival = regression_predictions(rows.features, rows.labels, make_folds(rows.labels, FOLDS, SEED, rows.patients))
    parity = write_graph(make_classifier().fit(rows.features, rows.labels), FOLDER / "model.onnx", rows.features)
    libraries = {name: version(name) for name in ("scikit-learn", "skl2onnx", "onnx")}
    metrics = evaluate(
        rows,
        held_out,
        {"logistic_regression": rival},
        outcome=f"a hospital stay of more than {LONG_DAYS} days after coming to intensive care",
        threshold=THRESHOLD,
        run={"parity": parity, "libraries": libraries},
    )
    bounds = fit_bounds(held_out, rows.labels, COVERAGE)
    flagged = held_out >= THRESHOLD
    write_examples(data, FOLDER / "examples")
    write_reference(
        FOLDER,
        rows.names,
        rows.features,
        {"long_stay": held_out},
        source=f"held-out predictions of {len(rows.labels):,} stays at their 24th hour",
        categorical=("male",),
    )
    release(
        "bedside_long_stay",
        rows,
        metrics,
        {
            "rows": f"{len(rows.labels):,}",
            "event_bound": f"{bounds.event:.6f}",
            "no_event_bound": f"{bounds.no_event:.6f}",
            "meaning": f"In the evaluation {100 * flagged.mean():.0f} % of patients had an estimate of 40 % or more, and "
            f"{100 * rows.labels[flagged].mean():.0f} % of them stayed longer than two weeks.",
        },
        arguments.sign_key,
    )
    sys.stdout.write(f"auroc {metrics['model']['auroc']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
