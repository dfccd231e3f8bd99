"""The PhysioNet/CinC Challenge 2012 as stays: the rows of its files, statics apart, every value as recorded.

Owns reading the data; implausible values are kept here and set aside later by `events.hourly`, as in live FHIR.
pandas is imported where it is used: serving never reads the challenge's files, and the bundled stays come as small
text files.

Data: ODC-BY 1.0, Silva I, Moody G, Scott DJ, Celi LA, Mark RG, Comput Cardiol 2012;39:245-248.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_artifacts.icu_mortality.events import INDEX, STATICS

UNKNOWN = -1.0
"""The challenge's mark for a static that was not recorded."""

WHERE = (
    "get PhysioNet/CinC Challenge 2012 sets a and b (physionet.org/content/challenge-2012/1.0.0, ODC-BY 1.0) as "
    "physionet2012/p12_long.parquet (set, RecordID, minutes, Parameter, Value) and physionet2012/outcomes_ab.csv"
)

_STATIC_NAMES = frozenset(static.name for static in STATICS)


@dataclass(frozen=True, slots=True)
class Stay:
    """One ICU stay: minutes since admission, variable (position in the table) and value as recorded, oldest first."""

    record_id: int
    minutes: npt.NDArray[np.int64]
    variable: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    statics: Mapping[str, float]

    @property
    def times_h(self) -> npt.NDArray[np.float64]:
        """Hours since admission."""
        return self.minutes / 60.0


def parse_stay(text: str) -> Stay:
    """The stay in a challenge text file: `Time,Parameter,Value`, times `hh:mm` since admission.

    Raises:
        ValueError: a row without three fields, an unreadable time or number, or no RecordID.
    """
    rows = list(csv.reader(StringIO(text)))[1:]
    parsed = [(_minutes(time), name, float(value)) for time, name, value in rows]
    statics = {name: value for _, name, value in parsed if name in _STATIC_NAMES and value != UNKNOWN}
    measured = [(at, INDEX[name], value) for at, name, value in parsed if name in INDEX]
    record = next((int(value) for _, name, value in parsed if name == "RecordID"), None)
    if record is None:
        raise ValueError("stay: expected a RecordID row, got none")
    columns = list(zip(*measured, strict=True)) if measured else [(), (), ()]
    minutes, variable = (np.array(column, dtype=np.int64) for column in columns[:2])
    return Stay(record, minutes, variable, np.array(columns[2], dtype=np.float64), statics)


def format_stay(stay: Stay) -> str:
    """The stay as a challenge text file, the inverse of `parse_stay`."""
    names = list(INDEX)
    lines = ["Time,Parameter,Value", f"00:00,RecordID,{stay.record_id}"]
    lines += [f"00:00,{name},{stay.statics.get(name, UNKNOWN)!r}" for name in sorted(_STATIC_NAMES)]
    lines += [
        f"{at // 60:02d}:{at % 60:02d},{names[variable]},{value!r}"
        for at, variable, value in zip(stay.minutes.tolist(), stay.variable.tolist(), stay.values.tolist(), strict=True)
    ]
    return "\n".join(lines) + "\n"


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)


@dataclass(frozen=True, slots=True)
class Challenge:
    """All stays, column-wise: `stay` is the position in `record_ids` of each measurement; statics not-a-number where unknown.

    `outcomes` holds one float column per outcome of the challenge's table, by its name there.
    """

    record_ids: npt.NDArray[np.int64]
    stay: npt.NDArray[np.int64]
    minutes: npt.NDArray[np.int64]
    variable: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    statics: npt.NDArray[np.float32]
    outcomes: Mapping[str, npt.NDArray[np.float64]]

    def one(self, position: int) -> Stay:
        """The stay at `position`. O(number of measurements)."""
        rows = np.flatnonzero(self.stay == position)
        known = {s.name: float(v) for s, v in zip(STATICS, self.statics[position], strict=True) if not np.isnan(v)}
        return Stay(int(self.record_ids[position]), self.minutes[rows], self.variable[rows], self.values[rows], known)


def read_challenge(folder: Path) -> Challenge:
    """The data under `folder`/physionet2012.

    Raises:
        FileNotFoundError: the files are not there; the message says where to get them.
    """
    import pandas as pd

    measurements, outcomes = folder / "physionet2012" / "p12_long.parquet", folder / "physionet2012" / "outcomes_ab.csv"
    if not (measurements.exists() and outcomes.exists()):
        raise FileNotFoundError(f"no challenge data under {folder.name}: {WHERE}")
    table = pd.read_csv(outcomes).sort_values("RecordID")
    rows = pd.read_parquet(measurements)
    record_ids = table["RecordID"].to_numpy(dtype=np.int64)
    stay = np.searchsorted(record_ids, rows["RecordID"].to_numpy())
    values = rows["Value"].to_numpy(dtype=np.float64)
    variable = rows["Parameter"].map(INDEX).fillna(-1).to_numpy(dtype=np.int64)
    measured = variable >= 0
    statics = np.full((len(record_ids), len(STATICS)), np.nan, dtype=np.float32)
    for column, static in enumerate(STATICS):
        named = (rows["Parameter"] == static.name).to_numpy() & (values >= static.low) & (values <= static.high)
        statics[stay[named], column] = values[named]
    names = ("In-hospital_death", "Survival", "Length_of_stay", "SAPS-I", "SOFA")
    return Challenge(
        record_ids,
        stay[measured],
        rows["minutes"].to_numpy(dtype=np.int64)[measured],
        variable[measured],
        values[measured],
        statics,
        {name: table[name].to_numpy(dtype=np.float64) for name in names},
    )
