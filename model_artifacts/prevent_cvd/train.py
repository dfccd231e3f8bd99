"""Builds the PREVENT equations as a torch module from the published coefficients and exports them with their explanation.

Nothing is fitted: "training" is arithmetic on `coefficients/*.csv`. Run by `make train MODEL=prevent_cvd`; writes
`model.onnx`, `metrics.json` and the digests in `manifest.toml`.

The equations (Khan et al., Circulation 2024;149:430): risk = 1 / (1 + exp(-x)), x a sum of coefficient times term. Each
term is centred as published: age 55 per 10 years, non-HDL-C 3.5 mmol/L, HDL-C 1.3 per 0.3 mmol/L, SBP in two
pieces at 110 mmHg (the upper centred at 130) per 20, BMI at 30 (the lower centred at 25) per 5, eGFR at 60 (the upper
centred at 90) per −15, HbA1c 5.3 %.

Which equation: the base one; with HbA1c or the urine albumin–creatinine ratio, the one adding that value; with both, the
full one with its published term for a missing social deprivation index. That is the rule of `preventr`, and of the AHA's
calculator when no ZIP code is given. The selection happens inside the graph, by which values are numbers.
"""

import argparse
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from model_artifacts.prevent_cvd.assurance import explanations, slips_noticed
from model_artifacts.prevent_cvd.columns import COLUMNS, MEASURED, REFERENCE
from model_artifacts.training.device import choose_device
from model_artifacts.training.export import Explanation, Tensors, check_parity, export_explained
from model_artifacts.training.latency import latency
from model_artifacts.training.release import add_sign_key, file_digest, finish_release
from model_artifacts.training.report_file import write_metrics
from model_artifacts.training.variants import variants

FOLDER = Path(__file__).parent
VARIANTS = ("base", "hba1c", "uacr", "full")
HORIZONS = (10, 30)
SEXES = ("female", "male")
OUTCOMES = ("total_cvd", "ascvd", "heart_failure")
STEPS = 12
JUDGED = 500
"""People whose explanations are judged."""
TOLERANCE = 1e-4
"""How far a variant may move a risk: a hundredth of a percentage point, a tenth of what a card shows."""

MMOL_PER_MG_DL = 0.02586  # cholesterol, as PREVENT's own calculator and preventr convert
LAST_AGE_FOR_30_YEARS = 59  # 30-year equations are published for 30–59 years

# Quantities as the publication centres and scales them: the centre in the column's own unit, the weights of the columns.
CENTRES = {
    "total_cholesterol": 4.8 / MMOL_PER_MG_DL,  # non-HDL 3.5 and HDL 1.3 mmol/L
    "hdl_cholesterol": 1.3 / MMOL_PER_MG_DL,
    "sbp_below_110": 110.0,
    "sbp_above_110": 130.0,
    "bmi_below_30": 25.0,
    "bmi_above_30": 30.0,
    "egfr_below_60": 60.0,
    "egfr_above_60": 90.0,
    "hba1c": 5.3,
    "age": 55.0,
}
QUANTITIES: dict[str, dict[str, float]] = {
    "1": {"one": 1.0},
    "age": {"age": 1 / 10},
    "non_hdl": {"total_cholesterol": MMOL_PER_MG_DL, "hdl_cholesterol": -MMOL_PER_MG_DL},
    "hdl": {"hdl_cholesterol": MMOL_PER_MG_DL / 0.3},
    "low_sbp": {"sbp_below_110": 1 / 20},
    "sbp": {"sbp_above_110": 1 / 20},
    "low_bmi": {"bmi_below_30": 1 / 5},
    "bmi": {"bmi_above_30": 1 / 5},
    "low_egfr": {"egfr_below_60": -1 / 15},
    "egfr": {"egfr_above_60": -1 / 15},
    "diabetes": {"diabetes": 1.0},
    "no_diabetes": {"one": 1.0, "diabetes": -1.0},
    "smoking": {"smoking": 1.0},
    "treated": {"bp_treatment": 1.0},
    "statin": {"statin": 1.0},
    "hba1c": {"hba1c": 1.0},
    "ln_uacr": {"ln_uacr": 1.0},
}
# Each published row is the product of two quantities.
TERMS: dict[str, tuple[str, str]] = {
    "Age, 10 years": ("age", "1"),
    "Age squared": ("age", "age"),
    "non-HDL-C per 1 mmol/L": ("non_hdl", "1"),
    "HDL-C per 0.3 mmol/L": ("hdl", "1"),
    "SBP <110 per 20 mmHg": ("low_sbp", "1"),
    "SBP ≥110 per 20 mmHg": ("sbp", "1"),
    "Diabetes": ("diabetes", "1"),
    "Current smoking": ("smoking", "1"),
    "BMI <30, per 5 kg/m2": ("low_bmi", "1"),
    "BMI 30+, per 5 kg/m2": ("bmi", "1"),
    "eGFR <60, per -15 ml": ("low_egfr", "1"),
    "eGFR 60+, per -15 ml": ("egfr", "1"),
    "Anti-hypertensive use": ("treated", "1"),
    "Statin use": ("statin", "1"),
    "Treated SBP ≥110 mm Hg per 20 mm Hg": ("treated", "sbp"),
    "Treated non-HDL-C": ("statin", "non_hdl"),
    "Age per 10yr * non-HDL-C per 1 mmol/L": ("age", "non_hdl"),
    "Age per 10yr * HDL-C per 0.3 mmol/L": ("age", "hdl"),
    "Age per 10yr * SBP ≥110 mm Hg per 20 mmHg": ("age", "sbp"),
    "Age per 10yr * diabetes": ("age", "diabetes"),
    "Age per 10yr * current smoking": ("age", "smoking"),
    "Age per 10yr * BMI 30+ per 5 kg/m2": ("age", "bmi"),
    "Age per 10yr * eGFR <60, per -15 ml": ("age", "low_egfr"),
    "ln-ACR, mg/g, per 1 ln unit": ("ln_uacr", "1"),
    "HbA1c in DM, per 1%": ("hba1c", "diabetes"),
    "HbA1c no DM, per 1%": ("hba1c", "no_diabetes"),
    "Constant": ("1", "1"),
}
_BASIS = ("one", "age", *MEASURED)  # what the quantities are weighted sums of, after centring
# Rows that are zero here: an equation is only used when its value is there, and the deprivation index is never read.
_NEVER = (
    "Missing ACR/PCR/Dipstick",
    "Missing HbA1c",
    "SDI decile categories 4-6 vs. 1-3",
    "SDI decile categories 7-10 vs. 1-3",
)
_SPELLINGS = {"Age, per 10 years": "Age, 10 years", "Missing SDI": "Constant"}  # always missing: a constant


def coefficients() -> Tensor:
    """The published coefficients, shape (variant, sex, horizon, outcome, term) float64; rows an equation lacks are 0."""
    table = torch.zeros(len(VARIANTS), len(SEXES), len(HORIZONS), len(OUTCOMES), len(TERMS), dtype=torch.float64)
    for v, variant in enumerate(VARIANTS):
        for h, horizon in enumerate(HORIZONS):
            with (FOLDER / "coefficients" / f"{variant}_{horizon}yr.csv").open(encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    name = row["beta_coefficients"]
                    if name in _NEVER:
                        continue
                    t = list(TERMS).index(_SPELLINGS.get(name, name))
                    for s, sex in enumerate(SEXES):
                        for o, outcome in enumerate(OUTCOMES):
                            table[v, s, h, o, t] += float(row[f"{sex}_{outcome}"])
    return table


class PreventEquations(nn.Module):
    """Every published equation at once; the row's sex and which laboratory values are there select one."""

    def __init__(self) -> None:
        super().__init__()
        flat = coefficients().reshape(-1, len(TERMS)).T.contiguous()
        self.register_buffer("weights", flat.float())
        self.register_buffer("centres", torch.tensor([CENTRES.get(name, 0.0) for name in _BASIS]))
        self.register_buffer("first", _quantity_matrix([first for first, _ in TERMS.values()]))
        self.register_buffer("second", _quantity_matrix([second for _, second in TERMS.values()]))

    def forward(self, person: Tensor, available: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Risks (n, 6), 10-year before 30-year, as one member; 30-year ones are not-a-number above 59 years.

        `person` (n, 2): age, male. `available` (n, 2): HbA1c, UACR. `measured` (n, 14): `columns.MEASURED`.
        """
        logits = (self.terms(person, measured) @ self.weights).reshape(-1, len(VARIANTS) * len(SEXES), 6)
        hba1c, uacr, male = available[:, 0:1], available[:, 1:2], person[:, 1:2]
        neither, both = (1 - hba1c) * (1 - uacr), hba1c * uacr
        variant = torch.cat([neither, hba1c * (1 - uacr), uacr * (1 - hba1c), both], dim=1)
        chosen = torch.stack([variant * (1 - male), variant * male], dim=2).reshape(-1, len(VARIANTS) * len(SEXES), 1)
        risk = torch.sigmoid((logits * chosen).sum(dim=1))
        defined = person[:, 0:1] <= LAST_AGE_FOR_30_YEARS
        late = torch.where(defined, risk[:, 3:], torch.full_like(risk[:, 3:], float("nan")))
        probability = torch.cat([risk[:, :3], late], dim=1)
        return probability, probability.unsqueeze(1)

    def terms(self, person: Tensor, measured: Tensor) -> Tensor:
        """The centred terms (n, 27) in the order of `TERMS`."""
        age = person[:, 0:1]
        basis = torch.cat([torch.ones_like(age), age, measured], dim=1) - self.centres
        return (basis @ self.first) * (basis @ self.second)


def _quantity_matrix(names: list[str]) -> Tensor:
    """Weights (basis, quantity) float32 of the named quantities."""
    return torch.tensor([[QUANTITIES[name].get(column, 0.0) for name in names] for column in _BASIS])


def prepare(inputs: Tensors) -> Tensors:
    """The module's inputs from the graph's one tensor `features` (n, 13), the columns of `columns.COLUMNS`.

    Values with a knot become two, below and above it, so that the path of the explanation crosses no kink.
    """
    c = dict(zip(COLUMNS, inputs["features"].split(1, dim=1), strict=True))
    has_hba1c, has_uacr = (1 - torch.isnan(c[name]).to(torch.float32) for name in ("hba1c", "uacr"))
    hba1c = torch.where(has_hba1c > 0, c["hba1c"], torch.full_like(has_hba1c, 5.3))
    ln_uacr = torch.log(torch.where(has_uacr > 0, c["uacr"], torch.ones_like(has_uacr)))
    parts = [c["total_cholesterol"], c["hdl_cholesterol"]]
    for name, knot in (("sbp", 110.0), ("bmi", 30.0), ("egfr", 60.0)):
        parts += [c[name].clamp(max=knot), c[name].clamp(min=knot)]
    parts += [c["diabetes"], c["smoking"], c["bp_treatment"], c["statin"], hba1c, ln_uacr]
    person = torch.cat([c["age"], c["male"]], dim=1)
    return {"person": person, "available": torch.cat([has_hba1c, has_uacr], 1), "measured": torch.cat(parts, 1)}


def baseline(inputs: Tensors) -> Tensors:
    """The same person with the reference values; a laboratory value that is not there is not there here either."""
    measured = inputs["measured"]
    reference = torch.tensor([REFERENCE[name] for name in MEASURED]).expand_as(measured)
    hba1c, uacr = inputs["available"][:, 0:1], inputs["available"][:, 1:2]
    present = torch.cat([torch.ones_like(measured[:, :-2]), hba1c, uacr], dim=1)
    return {"measured": torch.where(present > 0, reference, measured)}


EXPLANATION = Explanation(explained=0, inputs=("measured",), baseline=baseline, steps=STEPS, prepare=prepare)


def random_people(n: int, seed: int) -> Tensor:
    """People drawn evenly over the equations' ranges, (n, 13) float32; half lack HbA1c, half UACR."""
    random = np.random.default_rng(seed)
    low = [30, 0, 130, 20, 90, 18.5, 15, 0, 0, 0, 0, 3, -2.3]
    high = [79, 1, 320, 100, 200, 39.9, 140, 1, 1, 1, 1, 15, 10.1]
    rows = random.uniform(low, high, (n, len(COLUMNS)))
    for column in (0, 1, 7, 8, 9, 10):
        rows[:, column] = rows[:, column].round()
    rows[:, 12] = np.exp(rows[:, 12])
    for column in (11, 12):
        rows[random.random(n) < 0.5, column] = np.nan
    return torch.from_numpy(rows.astype(np.float32))


def main() -> None:
    """Exports the graph, measures it, writes digests into the manifest, and signs the folder if a key is given."""
    parser = argparse.ArgumentParser(description="export prevent_cvd from the published coefficients")
    add_sign_key(parser)
    arguments = parser.parse_args()
    module, path = PreventEquations(), FOLDER / "model.onnx"
    choose_device(0, prefer="cpu")
    export_explained(module, {"features": random_people(3, 0)}, path, EXPLANATION, dynamic_batch=True)
    people = random_people(20_000, 1)
    people = people[people[:, 0] <= LAST_AGE_FOR_30_YEARS]  # NaN has no difference
    parity = check_parity(path, module, {"features": people}, EXPLANATION)
    metrics = json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))
    metrics["measured"] = {
        "people": len(people),
        "torch_onnx_max_difference": max(parity.values()),
        "completeness_gap_max": completeness_gap(path, people),
    }
    metrics |= assurance_sections(module, path)
    write_metrics(FOLDER, metrics)
    sign_off(path)
    finish_release("model_artifacts.prevent_cvd", arguments.sign_key)


def assurance_sections(module: PreventEquations, path: Path) -> dict[str, Any]:
    """Explanations, slips, speed and variants of the exported graph, on people drawn; see `assurance.py`."""
    people = random_people(JUDGED, 2)
    rows = {"features": people.numpy()}
    attributions, gaps = run_graph(path, people)
    inputs = prepare({"features": people})

    @torch.no_grad()
    def answer(points: npt.NDArray[np.float32], at: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        held = inputs["person"][at], inputs["available"][at]
        risk: npt.NDArray[np.float32] = module(*held, torch.from_numpy(points))[0][:, 0].numpy()
        return risk

    exact = module(**inputs)[0].numpy()[:, 0].astype(np.float64)
    score = ("mean_absolute_difference", lambda risks: float(np.abs(risks - exact).mean()))
    return {
        **explanations(inputs["measured"].numpy(), baseline(inputs)["measured"].numpy(), attributions, answer, gaps),
        "out_of_distribution": slips_noticed(random_people(5000, 3).numpy()),
        "latency": latency(path, rows),
        **variants(path, rows, score, tolerance=TOLERANCE),
    }


def completeness_gap(path: Path, people: Tensor) -> float:
    """The largest gap of the exported graph over `people`."""
    return float(np.abs(run_graph(path, people)[1]).max())


def run_graph(path: Path, people: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Attributions (n, 14) and completeness gaps (n,) of the exported graph."""
    session = onnxruntime.InferenceSession(path)
    attributions, gaps = session.run(["attributions", "completeness_gap"], {"features": people.numpy()})
    return attributions, gaps


def sign_off(path: Path) -> None:
    """Writes the digests of the graph and of the files that decide the answer into the manifest."""
    manifest = FOLDER / "manifest.toml"
    text = re.sub(
        r'^sha256 = "[^"]*"',
        f'sha256 = "{file_digest(path)}"',
        manifest.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    listed = re.compile(r'^"([\w.]+)" = "[^"]*"$', re.MULTILINE)
    text = listed.sub(lambda found: f'"{found[1]}" = "{file_digest(FOLDER / found[1])}"', text)
    manifest.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
