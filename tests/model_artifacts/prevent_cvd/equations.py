"""PREVENT once more, in numpy float64, straight from the coefficient tables: shares nothing with the graph but the CSV files.

Terms and centring follow the publication's supplement as `preventr` (prep_terms) spells them out.
"""

import csv
import math
from importlib.resources import files

TABLES = files("model_artifacts.prevent_cvd") / "coefficients"
OUTCOMES = ("total_cvd", "ascvd", "heart_failure")


def load(variant, years):
    with (TABLES / f"{variant}_{years}yr.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


CACHE = {(v, y): load(v, y) for v in ("base", "uacr", "hba1c", "full") for y in (10, 30)}


def risks(age, male, total, hdl, sbp, bmi, egfr, dm, smoking, treated, statin, hba1c, uacr):
    """The six risks in the order of the manifest's outputs; NaN where undefined."""
    has_a1c, has_acr = not math.isnan(hba1c), not math.isnan(uacr)
    variant = {(0, 0): "base", (1, 0): "hba1c", (0, 1): "uacr", (1, 1): "full"}[int(has_a1c), int(has_acr)]
    a = (age - 55) / 10
    non_hdl = total * 0.02586 - hdl * 0.02586 - 3.5
    hdl_c = (hdl * 0.02586 - 1.3) / 0.3
    sbp_hi = (max(sbp, 110) - 130) / 20
    bmi_hi = (max(bmi, 30) - 30) / 5
    egfr_lo = (min(egfr, 60) - 60) / -15
    terms = [a, non_hdl, hdl_c, (min(sbp, 110) - 110) / 20, sbp_hi, dm, smoking, (min(bmi, 30) - 25) / 5, bmi_hi]
    terms += [egfr_lo, (max(egfr, 60) - 90) / -15, treated, statin, treated * sbp_hi, statin * non_hdl]
    terms += [a * non_hdl, a * hdl_c, a * sbp_hi, a * dm, a * smoking, a * bmi_hi, a * egfr_lo]
    if variant == "full":
        terms += [0, 0, 1]  # social deprivation index missing
    if has_acr:
        terms += [math.log(uacr), 0]
    if has_a1c:
        terms += [(hba1c - 5.3) if dm else 0, 0 if dm else (hba1c - 5.3), 0]
    terms.append(1)
    out = []
    for years in (10, 30):
        x = [terms[0], a * a, *terms[1:]] if years == 30 else terms
        table = CACHE[variant, years]
        assert len(table) == len(x)
        for outcome in OUTCOMES:
            column = f"{'male' if male else 'female'}_{outcome}"
            log_odds = sum(float(row[column]) * term for row, term in zip(table, x, strict=True))
            defined = years == 10 or age < 60
            out.append(math.exp(log_odds) / (1 + math.exp(log_odds)) if defined else math.nan)
    return out
