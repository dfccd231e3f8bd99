"""What the unit table must know about a substance: its molar mass and its charge.

Molar masses in g/mol: elements and small molecules from the IUPAC 2021 standard atomic weights; the conventions of laboratory
medicine are named where they differ from chemistry. Source of the conventional factors: Young DS, Huth EJ, "SI Units for
Clinical Measurement" (ACP 1998), and the AMA Manual of Style, SI conversion table. Imports nothing.

To add an analyte: one line with its mass, its charge if meq is in use, and a test with a published factor.
"""

from typing import NamedTuple


class Analyte(NamedTuple):
    """Molar mass in g/mol and the charge number that turns mmol into meq (0: meq has no meaning)."""

    molar_mass: float
    charge: int = 0


ANALYTES: dict[str, Analyte] = {
    "glucose": Analyte(180.156),
    "cholesterol": Analyte(386.65),  # total, HDL, LDL and non-HDL alike: 38.67 mg/dL per mmol/L
    "triglycerides": Analyte(885.4),  # as triolein, the convention: 88.5 mg/dL per mmol/L
    "creatinine": Analyte(113.12),  # 88.4 umol/L per mg/dL
    "bilirubin": Analyte(584.66),  # 17.1 umol/L per mg/dL
    "urea_nitrogen": Analyte(28.014),  # two N per urea: BUN mg/dL to urea mmol/L, factor 0.357
    "urea": Analyte(60.056),  # the whole molecule by mass, as reported in much of Europe
    "urate": Analyte(168.11),
    "calcium": Analyte(40.078, 2),
    "magnesium": Analyte(24.305, 2),
    "phosphate": Analyte(30.974),  # reported as phosphorus
    "sodium": Analyte(22.990, 1),
    "potassium": Analyte(39.098, 1),
    "chloride": Analyte(35.45, 1),
    "bicarbonate": Analyte(61.017, 1),
    "lactate": Analyte(90.08, 1),  # as lactic acid: 9.01 mg/dL per mmol/L
    "albumin": Analyte(66_500.0),  # IFCC convention
    "hemoglobin": Analyte(16_114.5),  # the monomer, ICSH convention
    "iron": Analyte(55.845),
    "ammonia": Analyte(17.031),
    "uacr": Analyte(113.12),  # the creatinine of a urine albumin-creatinine ratio: mg/g to mg/mmol
    # These two take part in a bridge of their own, not in a molar conversion.
    "hba1c": Analyte(0.0),
    "egfr": Analyte(0.0),
}
