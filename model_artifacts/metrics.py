"""`metrics.json` as figures, grids and notes, whatever a model measures; the only source of numbers in a model card.

The file is an object of sections. Inside a section:

- a number is a figure; so is an object with `estimate`, `value` or `median`, where `low` and `high` are its 95 % interval and
  `interquartile` its quartiles; its other numbers stand beside it;
- objects that hold the same figures (a model and its rival, groups of people) form one grid; so does a list of objects;
- texts are notes, and lists of numbers or texts are notes too.

The section's name says what it is about (`KINDS`): `published` marks what others measured, `external` what was measured on
data from elsewhere; a section of another name is an evaluation. Sections `model`, `rivals` (by name) and `difference` (model
minus rival, by rival) become one grid, so that no figure of ours stands without its rival's. What stands outside of any
section says how everything was measured. To extend: a word in `KINDS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_artifacts.errors import ArtifactError
from model_artifacts.figures import Cell, Figure, Grid, number_words, words

Kind = Literal[
    "published", "external", "evaluation", "calibration", "subgroups", "uncertainty", "explanation", "data", "build"
]

KINDS: tuple[tuple[str, Kind], ...] = (
    ("published", "published"),
    ("external", "external"),
    ("subgroup", "subgroups"),
    ("fairness", "subgroups"),
    ("reliability", "calibration"),
    ("calibration", "calibration"),
    ("histogram", "calibration"),
    ("conformal", "uncertainty"),
    ("risk_coverage", "uncertainty"),
    ("out_of_distribution", "uncertainty"),
    ("novelty", "uncertainty"),
    ("uncertainty", "uncertainty"),
    ("abst", "uncertainty"),
    ("explanation", "explanation"),
    ("attribution", "explanation"),
    ("data", "data"),
    ("cohort", "data"),
    ("run", "build"),
    ("seed", "build"),
    ("version", "build"),
    ("software", "build"),
    ("training", "build"),
    ("build", "build"),
    ("export", "build"),
    ("measured", "build"),
    ("latency", "build"),
    ("variants", "build"),
)
"""Beginning of a section's name to what it is about; the first that fits."""

METRICS_FILE = "metrics.json"
_ESTIMATES = ("estimate", "value", "median")


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the file, in the file's order."""

    name: str
    kind: Kind
    notes: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    grids: tuple[Grid, ...]

    @property
    def says_external(self) -> bool:
        """Whether the figures come from data other than those the model was made from."""
        return self.kind == "external" or any("external validation" in text for _, text in self.notes)


def read_metrics(folder: Path) -> tuple[Section, ...]:
    """The sections of a model folder's `metrics.json`.

    Raises:
        ArtifactError: the file is missing or is not an object.
    """
    return parse_metrics(load_metrics(folder))


def load_metrics(folder: Path) -> dict[str, Any]:
    """The content of a model folder's `metrics.json`.

    Raises:
        ArtifactError: the file is missing or is not an object.
    """
    try:
        content = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ArtifactError(f"metrics.json of {folder.name} cannot be read: {type(exc).__name__}") from exc
    if not isinstance(content, dict):
        raise ArtifactError(f"metrics.json of {folder.name}: expected an object, got {type(content).__name__}")
    return content


def parse_metrics(content: Mapping[str, Any]) -> tuple[Section, ...]:
    """The sections of the file's content; what stands outside of any section makes the section "general"."""
    loose = {key: value for key, value in content.items() if _cell("", value) is not None}
    rest = {key: value for key, value in content.items() if key not in loose}
    sections = {"general": loose} if loose else {}
    compared = _beside_each_other(rest)
    if compared:
        sections["model_and_rivals"] = compared
        rest = {key: value for key, value in rest.items() if key not in {"model", "rivals", "difference"}}
    return tuple(_section(name, value) for name, value in (sections | rest).items())


def _beside_each_other(content: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the comparison, or none where there is no rival."""
    model, rivals, difference = (content.get(key, {}) for key in ("model", "rivals", "difference"))
    if not (model and rivals and _is_object(model) and _holds_objects(rivals) and _holds_objects(difference)):
        return {}
    minus = {f"this model minus {name}": figures for name, figures in difference.items()}
    return {"this_model": model, **rivals, **minus}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _holds_objects(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_object, value.values()))


class _Collector:
    """Gathers what is found on the way down one section; `as_rows` puts the groups of a grid into its rows."""

    def __init__(self, *, as_rows: bool) -> None:
        self.notes: list[tuple[str, str]] = []
        self.figures: list[Figure] = []
        self.grids: list[Grid] = []
        self._as_rows = as_rows

    def take(self, path: tuple[str, ...], value: Any) -> None:
        """Sorts `value` under its path: a figure, a note, a grid, or an object to go down into."""
        name = ", ".join(words(part) for part in path)
        cell = _cell(name, value)
        if isinstance(cell, str):
            self.notes.append((name, cell))
        elif isinstance(cell, Figure):
            self.figures.append(cell)
        elif cell is not None:
            self.figures.append(Figure(name, cell))
        elif isinstance(value, list) and not all(isinstance(item, dict) for item in value):
            self.notes.append((name, f"{len(value)} rows, see metrics.json"))
        elif isinstance(value, list):
            self.grids.append(_grid_of_rows(name, value))
        elif isinstance(value, dict):
            self._take_members(path, name, value)

    def _take_members(self, path: tuple[str, ...], name: str, value: dict[str, Any]) -> None:
        flat = {key: member for key, member in value.items() if _is_flat(member)}
        first: dict[str, Any] = next(iter(flat.values()), {})
        alike = {key: member for key, member in flat.items() if _mostly_shared(member, first)}
        if len(alike) >= 2:
            self.grids.append(_grid(name, alike, as_rows=self._as_rows))
        for key, member in value.items():
            if len(alike) < 2 or key not in alike:
                self.take((*path, key), member)


def _section(name: str, value: Any) -> Section:
    kind: Kind = next((kind for start, kind in KINDS if name.startswith(start)), "evaluation")
    found = _Collector(as_rows=kind in {"subgroups", "calibration", "data"})
    found.take((), value)
    return Section(name, kind, tuple(found.notes), tuple(found.figures), tuple(found.grids))


def _cell(name: str, value: Any) -> Cell:
    """The value as one cell, or None where it is an object or a list of objects."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, list) and all(isinstance(item, (int, float, str)) for item in value):
        return ", ".join(item if isinstance(item, str) else number_words(item) for item in value)
    return _figure(name, value)


def _figure(name: str, value: Any) -> Figure | None:
    if not isinstance(value, dict):
        return None
    main = next((key for key in _ESTIMATES if _is_number(value.get(key))), None)
    if main is None:
        return None
    low, high, spread = value.get("low"), value.get("high"), "95 % interval"
    quartiles = value.get("interquartile")
    if isinstance(quartiles, list) and len(quartiles) == 2:
        (low, high), spread = quartiles, "interquartile range"
    if not (_is_number(low) and _is_number(high)):
        low, high, spread = None, None, ""
    beside = tuple(
        (words(key), number) for key, number in value.items() if key not in (main, "low", "high") and _is_number(number)
    )
    return Figure(name, value[main], low, high, spread, beside)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mostly_shared(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return 2 * len(one.keys() & other.keys()) > min(len(one), len(other))


def _is_flat(value: Any) -> bool:
    """An object that is no figure and whose members are all cells."""
    return (
        isinstance(value, dict)
        and _figure("", value) is None
        and all(_cell("", member) is not None for member in value.values())
    )


def _grid(name: str, groups: Mapping[str, Mapping[str, Any]], *, as_rows: bool) -> Grid:
    keys = tuple(dict.fromkeys(key for group in groups.values() for key in group))
    if as_rows:
        rows = {group: [member.get(key) for key in keys] for group, member in groups.items()}
        return _make_grid(name, keys, rows)
    return _make_grid(name, tuple(groups), {key: [group.get(key) for group in groups.values()] for key in keys})


def _grid_of_rows(name: str, items: list[dict[str, Any]]) -> Grid:
    """A row for each object, named by its texts, else by its place."""
    rows: dict[str, dict[str, Any]] = {}
    for place, item in enumerate(items, start=1):
        texts = [value for value in item.values() if isinstance(value, str)]
        rows[" ".join(texts) or str(place)] = {key: value for key, value in item.items() if not isinstance(value, str)}
    return _grid(name, rows, as_rows=True)


def _make_grid(name: str, columns: tuple[str, ...], rows: Mapping[str, list[Any]]) -> Grid:
    return Grid(
        name,
        tuple(words(column) for column in columns),
        tuple((words(row), tuple(_cell("", value) for value in values)) for row, values in rows.items()),
    )
