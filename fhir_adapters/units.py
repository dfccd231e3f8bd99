"""UCUM units as laboratories and wards spell them, and conversion that knows the analyte.

Owns the table of units (UCUM 2.1, https://ucum.org/ucum) with the spellings seen in EHR data. The table is made when the
module is loaded; nothing is parsed per request. An unknown or missing unit is an error, never a guess. Case matters (`g/L` is
grams, `G/L` is 10*9 per litre) and an annotation such as `{FEU}` is only ignored where it is known to say nothing about size.

Two quantities of the same dimension convert by size alone. Crossing a dimension needs the analyte (`analytes.py`):
mass, substance and charge concentration; HbA1c % (NGSP) and mmol/mol (IFCC master equation, Hoelzel et al., Clin Chem
2004;50:166: NGSP = 0.09148 IFCC + 2.152); urine albumin per g or per mmol creatinine; and mL/min, which is a GFR per 1.73 m2
only if the analyte is "egfr", that is if its LOINC code says so.

To add a unit: one line in `_unit_table`; a spelling: one in `_SPELLINGS`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from fhir_adapters.analytes import ANALYTES
from fhir_adapters.errors import UnitError


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its UCUM unit."""

    value: float
    unit: str


class Linear(NamedTuple):
    """y = scale * x + offset: every conversion in medicine that this package makes is linear."""

    scale: float
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        return self.scale * value + self.offset

    def then(self, after: "Linear") -> "Linear":
        return Linear(after.scale * self.scale, after.scale * self.offset + after.offset)

    def inverse(self) -> "Linear":
        return Linear(1.0 / self.scale, -self.offset / self.scale)


class _Unit(NamedTuple):
    dimension: str
    to_base: Linear


_MASSES = {"kg": 1e3, "g": 1.0, "mg": 1e-3, "ug": 1e-6, "ng": 1e-9, "pg": 1e-12}
_SUBSTANCES = {"mol": 1.0, "mmol": 1e-3, "umol": 1e-6, "nmol": 1e-9, "pmol": 1e-12}
_CHARGES = {"eq": 1.0, "meq": 1e-3, "ueq": 1e-6}
# UCUM keeps U (enzyme unit) and [IU] apart; a laboratory that writes IU/L for ALT means U/L, and the LOINC code names the
# substance, so both are one dimension here.
_ACTIVITIES = {"U": 1.0, "[IU]": 1.0, "mU": 1e-3, "m[IU]": 1e-3, "uU": 1e-6, "u[IU]": 1e-6, "kU": 1e3, "k[IU]": 1e3}
_VOLUMES = {"L": 1.0, "dL": 0.1, "cL": 1e-2, "mL": 1e-3, "uL": 1e-6, "fL": 1e-15}
_TIMES = {"s": 1 / 60, "min": 1.0, "h": 60.0, "d": 1440.0}
_COUNTS = {"": 1.0, "10*3": 1e3, "10*6": 1e6, "10*9": 1e9, "10*12": 1e12}
_LENGTHS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "[in_i]": 0.0254, "[ft_i]": 0.3048}
_WEIGHTS = {"[lb_av]": 453.59237, "[oz_av]": 28.349523125}
_PRESSURES = {"Pa": 1.0, "kPa": 1e3, "mm[Hg]": 133.322387415, "cm[H2O]": 98.0665}  # UCUM's own definitions
_SCORES = ("{score}", "{count}", "{INR}", "{T-score}", "{nominal}", "{#}", "{beats}", "{ratio}")


def _unit_table() -> Iterator[tuple[str, str, float, float]]:
    """Every unit as (code, dimension, scale, offset) to the dimension's base."""
    for litres, volume in _VOLUMES.items():
        yield from ((f"{u}/{litres}", "mass concentration", m / volume, 0.0) for u, m in _MASSES.items())
        yield from ((f"{u}/{litres}", "substance concentration", m / volume, 0.0) for u, m in _SUBSTANCES.items())
        yield from ((f"{u}/{litres}", "charge concentration", m / volume, 0.0) for u, m in _CHARGES.items())
        yield from ((f"{u}/{litres}", "activity concentration", m / volume, 0.0) for u, m in _ACTIVITIES.items())
        yield from ((f"{u}/{litres}", "number concentration", m / volume, 0.0) for u, m in _COUNTS.items())
        yield from ((f"{litres}/{t}", "flow", volume / minutes, 0.0) for t, minutes in _TIMES.items())
        yield litres, "volume", volume, 0.0
    yield from ((unit, "mass", size, 0.0) for unit, size in (_MASSES | _WEIGHTS).items())
    yield from ((unit, "length", size, 0.0) for unit, size in _LENGTHS.items())
    yield from ((unit, "pressure", size, 0.0) for unit, size in _PRESSURES.items())
    yield from ((unit, "time", size, 0.0) for unit, size in _TIMES.items())
    yield from ((f"/{unit}", "rate", 1 / size, 0.0) for unit, size in _TIMES.items())
    yield from ((unit, "score", 1.0, 0.0) for unit in _SCORES)
    yield "ms", "time", 1 / 60_000, 0.0
    yield "wk", "time", 10_080.0, 0.0
    yield "mo", "time", 43_830.0, 0.0  # UCUM's mo is a twelfth of a Julian year
    yield "a", "time", 525_960.0, 0.0
    yield "Cel", "temperature", 1.0, 0.0
    yield "K", "temperature", 1.0, -273.15
    yield "[degF]", "temperature", 5 / 9, -160 / 9
    yield "1", "fraction", 1.0, 0.0
    yield "%", "fraction", 0.01, 0.0
    yield "mmol/mol", "substance ratio", 1.0, 0.0
    yield "mg/g", "mass ratio", 1.0, 0.0
    yield "ug/g", "mass ratio", 1e-3, 0.0
    yield "g/g", "mass ratio", 1e3, 0.0
    yield "mg/mmol", "mass per substance", 1.0, 0.0
    yield "g/mol", "mass per substance", 1.0, 0.0
    yield "ug/mmol", "mass per substance", 1e-3, 0.0
    yield "kg/m2", "body mass index", 1.0, 0.0
    yield "g/cm2", "area density", 1.0, 0.0
    yield "m2", "area", 1.0, 0.0
    yield "mL/min/{1.73_m2}", "indexed flow", 1.0, 0.0
    yield "mL/s/{1.73_m2}", "indexed flow", 60.0, 0.0
    yield "[pH]", "acidity", 1.0, 0.0


_SPELLINGS: dict[str, tuple[str, ...]] = {
    "mm[Hg]": ("mmHg", "mm Hg", "mm_Hg", "MMHG", "torr"),
    "cm[H2O]": ("cmH2O", "cm H2O"),
    "Cel": ("°C", "degC", "deg C", "C", "celsius", "degrees C", "Celsius"),
    "[degF]": ("°F", "degF", "deg F", "F", "fahrenheit", "degrees F", "Fahrenheit"),
    "/min": (
        *(
            "{beats}/min",
            "{breaths}/min",
            "{Beats}/min",
            "{resp}/min",
            "{counts}/min",
            "bpm",
            "beats/min",
            "beats/minute",
        ),
        *("breaths/min", "breaths/minute", "breaths per minute", "insp/min", "1/min", "per minute", "BPM", "br/min"),
    ),
    "%": ("percent", "Percent", "%{vol}", "%{Hb}", "%{HbA1c}", "%{total}", "% of total Hgb", "%O2", "% NGSP"),
    "1": ("{fraction}",),
    "mmol/mol": ("mmol/mol{Hb}", "mmol/mol Hb", "mmol/mol{creat}"),
    "[lb_av]": ("lb", "lbs", "[lb_tr]", "pounds"),
    "[oz_av]": ("oz",),
    "[in_i]": ("in", "inch", "inches", "[in_us]"),
    "[ft_i]": ("ft", "feet"),
    "kg": ("Kg", "KG", "kilograms", "kgs"),
    "cm": ("CM", "centimeters"),
    "kg/m2": ("kg/m^2", "kg/m²", "kg/m*2", "kg.m-2", "KG/M2"),
    "mL/min/{1.73_m2}": (
        *("mL/min/1.73m2", "mL/min/1.73 m2", "mL/min/1.73m*2", "mL/min/1.73_m2", "mL/min/1.73m^2", "mL/min/1.73m²"),
        *(
            "mL/min/{1.73m2}",
            "mL/min/{1.73}m2",
            "mL/min/1.73.m2",
            "mL/min/1.73 m²",
            "mL/min/{1.73_m2}",
            "mL/min/173.10*-2.m2",
        ),
    ),
    "mg/g": (
        "mg/g{creat}",
        "mg/g{Creat}",
        "mg/g{Cre}",
        "mg/g{creatinine}",
        "mg/g creat",
        "mg/g Cr",
        "ug/mg",
        "ug/mg{creat}",
    ),
    "mg/mmol": ("mg/mmol{creat}", "mg/mmol{Creat}", "mg/mmol{Cre}", "mg/mmol{creatinine}"),
    "10*3/uL": (
        *("K/uL", "k/uL", "10^3/uL", "10E3/uL", "x10E3/uL", "x10^3/uL", "x10(3)/uL", "10*3/mm3", "K/mm3", "K/cumm"),
        *("Thousand/uL", "thousand/uL", "Thou/uL", "thou/uL", "10*3{cells}/uL"),
    ),
    "10*6/uL": ("M/uL", "10^6/uL", "10E6/uL", "x10E6/uL", "x10^6/uL", "10*6/mm3", "Million/uL", "Mill/uL"),
    "10*9/L": ("G/L", "10^9/L", "10E9/L", "x10^9/L", "x10E9/L", "x10(9)/L", "giga/L"),
    "10*12/L": ("T/L", "10^12/L", "10E12/L", "x10^12/L", "x10E12/L", "tera/L"),
    "/uL": ("{cells}/uL", "cells/uL", "/mm3", "cells/mm3", "/cumm"),
    "U/L": ("IU/L", "[iU]/L", "units/L", "Units/L", "u/L"),
    "m[IU]/L": ("mIU/L", "m[iU]/L"),
    "u[IU]/mL": ("uIU/mL", "u[iU]/mL"),
    "meq/L": ("mEq/L", "MEQ/L", "mequiv/L", "meq/l", "mEq/l"),
    "mmol/L": ("mM", "MMOL/L", "mmole/L"),
    "mg/dL": ("MG/DL", "mg/100mL", "mg%", "mgs/dL"),
    "g/dL": ("G/DL", "gm/dL", "g%", "gms/dL", "gm/dl"),
    "mL": ("ml", "cc", "ML"),
    "{score}": ("score", "(score)", "{Score}", "points", "{points}", "Score"),
    "{INR}": ("INR", "{inr}"),
    "[pH]": ("pH", "{pH}", "units pH", "PH"),
    "h": ("hr", "hour", "hours"),
    "a": ("yr", "year", "years", "{years}"),
    "m2": ("m²", "m^2"),
    "L/min": ("lpm", "LPM", "liters/min"),
}


def _variants(code: str) -> Iterator[str]:
    """The code itself, the litre in lower case (UCUM has both), and the micro sign as Unicode and as "mc"."""
    for litre in {code, code.replace("L", "l") if "L" in code and "LPM" not in code else code}:
        yield litre
        if litre.startswith("u") and litre[1:2] in {"g", "m", "L", "l", "e", "U", "["}:
            yield from (micro + litre[1:] for micro in ("µ", "μ", "mc"))
        if "/u" in litre:
            yield from (litre.replace("/u", f"/{micro}") for micro in ("µ", "μ", "mc"))


def _load() -> tuple[dict[str, _Unit], dict[str, str]]:
    units = {code: _Unit(dimension, Linear(scale, offset)) for code, dimension, scale, offset in _unit_table()}
    spellings = {variant: code for code in units for variant in _variants(code)}
    for code, others in _SPELLINGS.items():
        for other in others:
            for variant in _variants(other):
                spellings.setdefault(variant, code)
    return units, spellings


_UNITS, _CODES = _load()
_IFCC_TO_NGSP = Linear(0.0009148, 0.02152)  # mmol/mol to a fraction; the equation is stated in %


def canonical_unit(text: str) -> str | None:
    """The UCUM code a received spelling stands for, or None if it is not in the table."""
    return _CODES.get(text) or _CODES.get(text.strip())


def convert(value: float, from_unit: str, to_unit: str, analyte: str | None = None) -> float:
    """The value in `to_unit`.

    Raises: UnitError if a unit is missing or unknown, or if the two are different quantities for this analyte.
    """
    return conversion(from_unit, to_unit, analyte)(value)


@lru_cache(maxsize=4096)
def conversion(from_unit: str, to_unit: str, analyte: str | None = None) -> Linear:
    """The linear map from one unit to the other; what `convert` applies. Raises: UnitError."""
    target_code = canonical_unit(to_unit)
    if target_code is None:
        raise UnitError("unknown", "a unit of the table")
    if not from_unit.strip():
        raise UnitError("missing", target_code)
    source_code = canonical_unit(from_unit)
    if source_code is None:
        raise UnitError("unknown", target_code)
    if source_code == target_code:
        return Linear(1.0)
    source, target = _UNITS[source_code], _UNITS[target_code]
    if source.dimension == target.dimension:
        return source.to_base.then(target.to_base.inverse())
    bridge = _bridge(source.dimension, target.dimension, analyte)
    # The plain number 1 is what senders use for scores; a percentage is not one.
    if bridge is None and {source_code, target_code} & {"1"} and "score" in {source.dimension, target.dimension}:
        bridge = Linear(1.0)
    if bridge is None:
        raise UnitError("incommensurable", target_code, source_code)
    return source.to_base.then(bridge).then(target.to_base.inverse())


def _bridge(source: str, target: str, analyte: str | None) -> Linear | None:
    """The map between the bases of two dimensions for this analyte, or None if there is none."""
    if analyte is None:
        return None
    if analyte not in ANALYTES:
        raise UnitError("unknown", "an analyte of the table")
    bridges = _bridges(analyte)
    if (source, target) in bridges:
        return bridges[source, target]
    return bridges[target, source].inverse() if (target, source) in bridges else None


@lru_cache(maxsize=64)
def _bridges(analyte: str) -> dict[tuple[str, str], Linear]:
    if analyte == "hba1c":
        return {("substance ratio", "fraction"): _IFCC_TO_NGSP}
    if analyte == "egfr":
        return {("flow", "indexed flow"): Linear(1000.0)}  # L/min to mL/min
    molar_mass, charge = ANALYTES[analyte]
    if analyte == "uacr":
        return {("mass ratio", "mass per substance"): Linear(molar_mass / 1000.0)}
    bridges = {("mass concentration", "substance concentration"): Linear(1.0 / molar_mass)}
    if charge:
        bridges["substance concentration", "charge concentration"] = Linear(float(charge))
        bridges["mass concentration", "charge concentration"] = Linear(charge / molar_mass)
    return bridges
