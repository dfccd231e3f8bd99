"""The estimated glomerular filtration rate: computed from creatinine, or the reported one, and which of the two is taken.

PREVENT was derived with the race-free CKD-EPI equation of 2021 (Inker et al., N Engl J Med 2021;385:1737). So a rate reported
by that equation or one computed by it here comes first, the newer of the two; a rate by an older equation stands in only where
neither is there, and the evidence says so. Rates "if black" are never read: they carry a race factor.
"""

from dataclasses import replace

from fhir_adapters.features import FeatureValue
from model_artifacts.inputs import Evidence, evidence_of


def ckd_epi_2021(creatinine_mg_dl: float, age: int, *, female: bool) -> float:
    """The rate in mL/min/1.73 m2 from serum creatinine in mg/dL and age in years."""
    kappa, alpha, factor = (0.7, -0.241, 1.012) if female else (0.9, -0.302, 1.0)
    ratio = creatinine_mg_dl / kappa
    return float(142.0 * min(ratio, 1.0) ** alpha * max(ratio, 1.0) ** -1.2 * 0.9938**age * factor)


def choose_egfr(
    reported: FeatureValue, creatinine: FeatureValue, older: FeatureValue, age: int | None, sex: str | None
) -> Evidence:
    """The evidence for the rate, named and labelled as `reported`; absent only if all three are."""
    computed = _compute(reported, creatinine, age, sex)
    found = [item for item in (evidence_of(reported), computed) if item is not None and item.value is not None]
    dated = [item for item in found if item.observed_at is not None]
    if dated:
        return max(dated, key=lambda item: (item.observed_at, item.note is None))
    if older.value is not None:
        stand_in = replace(evidence_of(older), name=reported.name, label=reported.label)
        return replace(stand_in, note=_joined("reported by an equation older than CKD-EPI 2021", older.note))
    return evidence_of(reported) if reported.observed_at or not creatinine.observed_at else _lost(reported, creatinine)


def _compute(reported: FeatureValue, creatinine: FeatureValue, age: int | None, sex: str | None) -> Evidence | None:
    if creatinine.value is None or age is None or sex is None:
        return None
    rate = ckd_epi_2021(creatinine.value, age, female=sex == "female")
    note = _joined(f"computed from creatinine {creatinine.value:.3g} mg/dL by CKD-EPI 2021", creatinine.note)
    return replace(
        evidence_of(reported),
        value=rate,
        display=f"{rate:.0f} mL/min/1.73 m²",
        observed_at=creatinine.observed_at,
        source=creatinine.source,
        absence=None,
        note=note,
    )


def _lost(reported: FeatureValue, creatinine: FeatureValue) -> Evidence:
    """Neither is there, but a creatinine was found and could not be used: its reason counts."""
    return replace(
        evidence_of(reported),
        absence=creatinine.absence,
        observed_at=creatinine.observed_at,
        source=creatinine.source,
        note="from creatinine",
    )


def _joined(*notes: str | None) -> str:
    return "; ".join(note for note in notes if note)
