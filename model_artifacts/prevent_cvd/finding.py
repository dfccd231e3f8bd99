"""PREVENT in clinical words: the manifest's bands, and what depends on more than one number.

Added here: which equation applied, what was derived or taken as absent, the guideline thresholds for the atherosclerotic risk,
and laboratory orders worth proposing. Every sentence under "consider" names an option and whose threshold it is; none commands.

Thresholds: 2025 AHA/ACC high blood pressure guideline (total CVD 7.5 %), 2026 ACC/AHA dyslipidemia guideline (10-year ASCVD 3,
5 and 10 %), ADA Standards of Care and KDIGO 2024 (urine albumin in diabetes and reduced kidney function), USPSTF 2021 (glucose
screening at 35–70 years with BMI 25 or more).
"""

from dataclasses import replace

from fhir_adapters.codes import LOINC, Code
from model_artifacts.assessment import Abstention, Assessment, Finding, OrderLab, Prediction
from model_artifacts.finding import interpret_by_bands, percent
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import ModelManifest
from model_artifacts.prevent_cvd.inputs import OUT_OF_RANGE

LIPID_PANEL = Code(LOINC, "24331-1", "Lipid 1996 panel - Serum or Plasma")
CREATININE = Code(LOINC, "2160-0", "Creatinine [Mass/volume] in Serum or Plasma")
HBA1C = Code(LOINC, "4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood")
UACR = Code(LOINC, "9318-7", "Albumin/Creatinine [Mass Ratio] in Urine")

_ABSENT_BY_SILENCE = ("diabetes", "bp_treatment", "statin")
_ASCVD_CATEGORIES = ((0.10, "high"), (0.05, "intermediate"), (0.03, "borderline"), (0.0, "low"))


def interpret(assessment: Assessment, manifest: ModelManifest) -> Finding:
    """The finding for `assessment`."""
    finding = interpret_by_bands(assessment, manifest)
    found = {item.name: item for item in assessment.evidence}
    if isinstance(assessment, Prediction):
        return _predicted(finding, assessment, found)
    return _abstained(finding, assessment, found)


def _predicted(finding: Finding, prediction: Prediction, found: dict[str, Evidence]) -> Finding:
    return replace(
        finding,
        statements=finding.statements + _equation_words(found) + _derived_words(found),
        missing=finding.missing + _silence_words(found),
        considerations=_pressure_options(prediction, found)
        + _lipid_options(prediction, found)
        + finding.considerations,
        proposals=_optional_orders(found),
    )


def _abstained(finding: Finding, abstention: Abstention, found: dict[str, Evidence]) -> Finding:
    if abstention.outside_population:
        return finding
    missing = tuple(_reworded(text, found) for text in finding.missing)
    headline = finding.headline
    if len(abstention.reasons) == 1 and abstention.reasons[0].evidence is not None:
        headline = headline.replace(finding.missing[0], missing[0])
    if len(headline) >= 140:
        headline = finding.headline
    return replace(
        finding,
        headline=headline,
        missing=missing,
        considerations=_measurement_options(found),
        proposals=_essential_orders(found),
    )


def _equation_words(found: dict[str, Evidence]) -> tuple[str, ...]:
    measured = [name for name in ("hba1c", "uacr") if found[name].value is not None]
    words = {
        (): "Equation: PREVENT base; neither HbA1c nor urine albumin could be used.",
        ("hba1c",): "Equation: PREVENT with HbA1c.",
        ("uacr",): "Equation: PREVENT with the urine albumin–creatinine ratio.",
    }
    horizon = ("30-year figures exist for ages 30 to 59 only.",) if (found["age"].value or 0) > 59 else ()
    both = "Equation: PREVENT full, with HbA1c and urine albumin; social deprivation index missing, as published."
    return (words.get(tuple(measured), both), *horizon)


def _derived_words(found: dict[str, Evidence]) -> tuple[str, ...]:
    derived = (found[name] for name in ("bmi", "egfr") if found[name].value is not None and found[name].note)
    return tuple(f"{item.label}: {item.note}." for item in derived)


def _silence_words(found: dict[str, Evidence]) -> tuple[str, ...]:
    """What was taken as no, and what in the record leaves a doubt about it."""
    absent = [found[name] for name in _ABSENT_BY_SILENCE if found[name].value == 0.0]
    if not absent:
        return ()
    doubts = ((item.label, (item.note or "").partition("; ")[2]) for item in absent)
    labels = ", ".join(item.label for item in absent)
    return (
        f"{labels}: taken as no, as the record sent shows none",
        *(f"{label}: {doubt}" for label, doubt in doubts if doubt),
    )


def _pressure_options(prediction: Prediction, found: dict[str, Evidence]) -> tuple[str, ...]:
    systolic = found["sbp"].value
    risk = prediction.outputs["total_cvd_10y"]
    if systolic is None or systolic < 130:
        return ()
    guideline = "the 2025 AHA/ACC guideline"
    if found["bp_treatment"].value:
        return (
            f"Systolic pressure is not below {guideline}'s goal of 130 mmHg: adherence and dose could be reviewed.",
        )
    if systolic >= 140:
        return (f"If 140 mmHg or more is confirmed, {guideline} recommends drug treatment: consider discussing it.",)
    if round(risk, 3) < 0.075:
        return ()
    return (
        f"If 130–139 mmHg is confirmed, {guideline} recommends drug treatment at this risk: consider discussing it.",
    )


def _lipid_options(prediction: Prediction, found: dict[str, Evidence]) -> tuple[str, ...]:
    risk = prediction.outputs["ascvd_10y"]
    category = next(name for bound, name in _ASCVD_CATEGORIES if round(risk, 3) >= bound)
    words = f"10-year ASCVD risk {percent(risk)} is {category} by the 2026 ACC/AHA dyslipidemia guideline"
    if found["statin"].value:
        return (f"{words}; the patient is on a statin, so LDL cholesterol response and adherence could be reviewed.",)
    if found["diabetes"].value and 40 <= (found["age"].value or 0) <= 75:
        return (
            f"{words}; with diabetes at 40–75 years ACC/AHA and ADA recommend a statin at any risk: consider discussing it.",
        )
    if category == "low":
        return (f"{words}.",)
    return (f"{words}: a statin is an option to discuss, with risk enhancers and the patient's preference.",)


def _measurement_options(found: dict[str, Evidence]) -> tuple[str, ...]:
    asks = (
        ("sbp", "Measuring blood pressure would allow the estimate."),
        ("bmi", "Measuring weight and height would allow the estimate."),
        ("smoking", "Recording smoking status would allow the estimate."),
    )
    return tuple(words for name, words in asks if _lacks(found[name]))


def _essential_orders(found: dict[str, Evidence]) -> tuple[OrderLab, ...]:
    orders: tuple[OrderLab, ...] = ()
    if _lacks(found["total_cholesterol"]) or _lacks(found["hdl_cholesterol"]):
        orders += (OrderLab(LIPID_PANEL, "lipid panel", "Cardiovascular risk cannot be estimated without lipids"),)
    if _lacks(found["egfr"]):
        orders += (
            OrderLab(CREATININE, "creatinine", "Cardiovascular risk cannot be estimated without kidney function"),
        )
    return orders


def _optional_orders(found: dict[str, Evidence]) -> tuple[OrderLab, ...]:
    diabetes, treated = bool(found["diabetes"].value), bool(found["bp_treatment"].value)
    age, bmi, egfr = (found[name].value or 0.0 for name in ("age", "bmi", "egfr"))
    orders: tuple[OrderLab, ...] = ()
    if _lacks(found["hba1c"]) and (diabetes or (35 <= age <= 70 and bmi >= 25)):
        why = (
            "Diabetes without a recent HbA1c"
            if diabetes
            else "Age 35–70 with BMI 25 or more (USPSTF 2021), none recent"
        )
        orders += (OrderLab(HBA1C, "HbA1c", f"{why}; it would also refine the risk estimate"),)
    if _lacks(found["uacr"]) and (diabetes or treated or egfr < 60):
        why = "diabetes" if diabetes else "treated blood pressure" if treated else "reduced eGFR"
        reason = f"No recent urine albumin with {why}; it would also refine the risk estimate"
        orders += (OrderLab(UACR, "urine albumin–creatinine ratio", reason),)
    return orders


def _lacks(item: Evidence) -> bool:
    """Whether a new measurement would help: a value outside the equations' range is known, only not usable."""
    return item.value is None and item.absence != OUT_OF_RANGE


def _reworded(text: str, found: dict[str, Evidence]) -> str:
    for item in found.values():
        if item.absence == OUT_OF_RANGE and item.note and text.startswith(f"{item.label}:"):
            return f"{item.label}: {item.note}"
    return text
