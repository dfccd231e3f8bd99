import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.analytes import ANALYTES
from fhir_adapters.errors import UnitError
from fhir_adapters.units import _UNITS, Linear, canonical_unit, conversion, convert

CONVENTIONAL = [  # factors as the AMA Manual of Style and the IFCC print them
    (100.0, "mg/dL", "mmol/L", "glucose", 5.55),
    (200.0, "mg/dL", "mmol/L", "cholesterol", 5.17),
    (150.0, "mg/dL", "mmol/L", "triglycerides", 1.69),
    (1.0, "mg/dL", "umol/L", "creatinine", 88.4),
    (1.0, "mg/dL", "umol/L", "bilirubin", 17.1),
    (20.0, "mg/dL", "mmol/L", "urea_nitrogen", 7.14),
    (60.06, "mg/dL", "mmol/L", "urea", 10.0),
    (10.0, "mg/dL", "mmol/L", "calcium", 2.495),
    (2.0, "mg/dL", "mmol/L", "magnesium", 0.823),
    (2.0, "meq/L", "mmol/L", "magnesium", 1.0),
    (2.0, "mg/dL", "meq/L", "magnesium", 1.646),
    (140.0, "mEq/L", "mmol/L", "sodium", 140.0),
    (4.1, "mmol/L", "meq/L", "potassium", 4.1),
    (9.01, "mg/dL", "mmol/L", "lactate", 1.0),
    (4.0, "g/dL", "g/L", None, 40.0),
    (7.0, "%", "mmol/mol", "hba1c", 53.0),
    (48.0, "mmol/mol", "%", "hba1c", 6.54),
    (30.0, "mg/g", "mg/mmol", "uacr", 3.39),
    (300.0, "ug/mg{creat}", "mg/g", None, 300.0),
    (60.0, "mL/min", "mL/min/{1.73_m2}", "egfr", 60.0),
    (98.6, "[degF]", "Cel", None, 37.0),
    (310.15, "K", "Cel", None, 37.0),
    (120.0, "mm[Hg]", "kPa", None, 16.0),
    (70.0, "[in_i]", "cm", None, 177.8),
    (154.0, "[lb_av]", "kg", None, 69.85),
    (0.21, "1", "%", None, 21.0),
    (7.5, "K/uL", "10*9/L", None, 7.5),
    (7500.0, "/uL", "10*3/uL", None, 7.5),
    (0.04, "ng/mL", "ng/L", None, 40.0),
    (0.04, "ug/L", "ng/mL", None, 0.04),
    (25.0, "IU/L", "U/L", None, 25.0),
    (15.0, "1", "{score}", None, 15.0),
]


@pytest.mark.parametrize(("value", "source", "target", "analyte", "expected"), CONVENTIONAL)
def test_units_convert_by_the_published_factors(
    value: float, source: str, target: str, analyte: str | None, expected: float
) -> None:
    assert convert(value, source, target, analyte) == pytest.approx(expected, rel=5e-3)
    assert convert(expected, target, source, analyte) == pytest.approx(value, rel=5e-3)


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("mmHg", "mm[Hg]"),
        ("mg/dl", "mg/dL"),
        ("µmol/L", "umol/L"),
        ("μmol/l", "umol/L"),
        ("mcg/L", "ug/L"),
        ("{beats}/min", "/min"),
        ("bpm", "/min"),
        ("breaths/minute", "/min"),
        ("mL/min/1.73m2", "mL/min/{1.73_m2}"),
        ("°F", "[degF]"),
        ("10^3/uL", "10*3/uL"),
        ("G/L", "10*9/L"),
        ("g/L", "g/L"),
        (" mg/dL ", "mg/dL"),
    ],
)
def test_units_reads_the_spellings_of_ehrs(spelling: str, code: str) -> None:
    assert canonical_unit(spelling) == code


@pytest.mark.parametrize(
    ("source", "target", "analyte", "kind"),
    [
        ("kg", "mg/dL", "cholesterol", "incommensurable"),
        ("mmol/L", "mg/dL", None, "incommensurable"),
        ("mmol/L", "mg/dL", "albuminoid", "unknown"),
        ("meq/L", "mmol/L", "glucose", "incommensurable"),
        ("%", "mmol/mol", None, "incommensurable"),
        ("%", "{score}", None, "incommensurable"),
        ("mL/min", "mL/min/{1.73_m2}", None, "incommensurable"),
        ("ug/mL{FEU}", "ug/mL", None, "unknown"),
        ("furlong", "cm", None, "unknown"),
        ("", "mg/dL", None, "missing"),
        ("  ", "mg/dL", None, "missing"),
        ("mg/dL", "furlong", None, "unknown"),
    ],
)
def test_units_refuses_to_guess(source: str, target: str, analyte: str | None, kind: str) -> None:
    with pytest.raises(UnitError) as caught:
        convert(1.0, source, target, analyte)
    assert caught.value.kind == kind
    assert "furlong" not in str(caught.value)


def test_units_same_unit_is_exact() -> None:
    assert conversion("mg/dL", "mg/dl") == Linear(1.0, 0.0)


SAME_DIMENSION = [(a, b) for a in _UNITS for b in _UNITS if _UNITS[a].dimension == _UNITS[b].dimension]
MOLAR = [name for name, analyte in ANALYTES.items() if analyte.molar_mass and name != "uacr"]


@given(st.sampled_from(SAME_DIMENSION), st.floats(-1e6, 1e6))
def test_units_round_trip_within_a_dimension(pair: tuple[str, str], value: float) -> None:
    there = convert(value, *pair)
    assert convert(there, pair[1], pair[0]) == pytest.approx(value, rel=1e-9, abs=1e-6)


@given(st.sampled_from(MOLAR), st.floats(1e-3, 1e4))
def test_units_round_trip_through_moles(analyte: str, value: float) -> None:
    there = convert(value, "mg/dL", "mmol/L", analyte)
    assert convert(there, "mmol/L", "mg/dL", analyte) == pytest.approx(value, rel=1e-12)


@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from([None, *ANALYTES, "x"]))
def test_units_raises_nothing_but_unit_errors(source: str, target: str, analyte: str | None) -> None:
    with contextlib.suppress(UnitError):
        convert(1.0, source, target, analyte)
