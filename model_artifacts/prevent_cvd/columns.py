"""The columns of the graph's input and the reference values of its explanation, shared by training and serving.

The published ranges outside of which the equations are not valid are here too: Khan et al., Circulation 2024;149:430, Table 1
and its footnotes, as the calculator of the American Heart Association and `preventr` apply them.
"""

from typing import NamedTuple

COLUMNS = (
    "age",
    "male",
    "total_cholesterol",
    "hdl_cholesterol",
    "sbp",
    "bmi",
    "egfr",
    "diabetes",
    "smoking",
    "bp_treatment",
    "statin",
    "hba1c",
    "uacr",
)
"""One row per person, float32: years, 0/1, mg/dL, mg/dL, mmHg, kg/m2, mL/min/1.73 m2, 0/1 four times, %, mg/g.

Not-a-number in the last two means "not measured" and selects another equation; nowhere else is it allowed.
"""

MEASURED = (
    "total_cholesterol",
    "hdl_cholesterol",
    "sbp_below_110",
    "sbp_above_110",
    "bmi_below_30",
    "bmi_above_30",
    "egfr_below_60",
    "egfr_above_60",
    "diabetes",
    "smoking",
    "bp_treatment",
    "statin",
    "hba1c",
    "ln_uacr",
)
"""What the attributions are over, in their order: a value with a knot in the equations counts below and above it."""

SLOTS: dict[str, tuple[int, ...]] = {
    name: tuple(
        position
        for position, part in enumerate(MEASURED)
        if part == name or part.startswith((f"{name}_below", f"{name}_above")) or part == f"ln_{name}"
    )
    for name in COLUMNS
}
"""Column to its positions among `MEASURED`; age and sex have none, as the reference person has the same."""

# Non-HDL-C 3.5 and HDL-C 1.3 mmol/L, BMI 25, eGFR 90 and HbA1c 5.3 % are where the published equations are centred. They
# centre SBP at 130 mmHg and UACR at 1 mg/g, which nobody would call a reference: 120 mmHg is the upper end of normal (ACC/AHA
# 2017), and 10 mg/g the upper end of normal albuminuria in young adults (KDIGO 2012, chapter 1).
REFERENCE: dict[str, float] = {
    "total_cholesterol": 4.8 / 0.02586,
    "hdl_cholesterol": 1.3 / 0.02586,
    "sbp_below_110": 110.0,
    "sbp_above_110": 120.0,
    "bmi_below_30": 25.0,
    "bmi_above_30": 30.0,
    "egfr_below_60": 60.0,
    "egfr_above_60": 90.0,
    "diabetes": 0.0,
    "smoking": 0.0,
    "bp_treatment": 0.0,
    "statin": 0.0,
    "hba1c": 5.3,
    "ln_uacr": 2.302585092994046,
}


class Validity(NamedTuple):
    """Bounds, both included, outside of which the equations say nothing."""

    low: float
    high: float


VALID: dict[str, Validity] = {
    "total_cholesterol": Validity(130, 320),
    "hdl_cholesterol": Validity(20, 100),
    "sbp": Validity(90, 200),
    "bmi": Validity(18.5, 39.9),
    "egfr": Validity(15, 140),
    "hba1c": Validity(3, 15),
    "uacr": Validity(0.1, 25_000),
}
