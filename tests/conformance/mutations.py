"""Hook calls that are nearly right: made by chance from a valid call of any hook, and a few changes to it.

A change picks a place (from the outside inwards) and puts something odd there, takes it away, repeats it or puts another
part of the call in its stead. At last the bytes themselves may be cut, changed or packed in garbage.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.calls import REQUIRED

Json = dict[str, Any]
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": [value]}
    return value


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e308, 1e-320, 2**53, 2**63, 2**70, -(2**70)),
    *(float("nan"), float("inf")),
    *("", " ", "x", "\x00", "\u202e", "\ud800", "𝄞" * 40, "ä" * 3000, "<b>", "|", "](", "null", "Patient/", "../.."),
    *("Bundle", "Patient", "OperationOutcome", "entered-in-error", "active", "final", "male", "http://loinc.org"),
    *("2026", "2026-11", "2026-11-24", "2026-11-24T09:30:00+14:00", "2999-01-01", "1874-06-01", "0000-00-00", "24:00"),
    *("9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+14:00", "1900-02-29", "2026-11-24T09:30", "T", "-1"),
    *("mg/dL", "mmol/L", "mm[Hg]", "furlong", "%", "{1.73_m2}", "8480-6", "2093-3", "98979-8", "44054006"),
    *([], {}, [None], [[]], [{}], {"a": None}, {"resourceType": 5}, {"resourceType": "Bundle"}, {"value": 1e400}),
    {"resourceType": "Bundle", "type": "searchset", "total": 2**40},
    {"resourceType": "Bundle", "entry": [{"resource": None}, None, {}, 5]},
    {"resourceType": "Bundle", "entry": {}},
    OUTCOME,
    patients.bundle(OUTCOME),
    patients.bundle(next_page=True),
    patients.diabetes("somebody-else"),
    {"resource": patients.patient()},
    {"coding": [{"system": 5, "code": "44054006"}, None]},
    {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]},
    {"value": 151.0, "unit": "mm[Hg]"},
    {"value": -5, "comparator": "<", "code": "mg/dL", "system": "http://unitsofmeasure.org"},
    {"value": 10**30, "code": "mg/dL", "system": "http://unitsofmeasure.org"},
    {"reference": "Patient/somebody-else"},
    {"reference": {"reference": 5}},
    _nested(30),
    _nested(400),
    [patients.patient()] * 3,
)
# Most where resources are, as what is wrong further out is soon said.
STARTS = ("", "context", "fhirAuthorization", "prefetch", *["prefetch.resource"] * 4, *["prefetch.entry"] * 8)
KINDS = ("set", "set", "set", "drop", "repeat", "swap", "add", "rename")


@dataclass(frozen=True, slots=True)
class Change:
    """One change: from where, which way inwards, what, with which odd value."""

    start: str
    way: tuple[int, ...]
    kind: str
    odd: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one request; `cut` and `flip` are places in its bytes, -1 for none."""

    hook: str
    access: bool
    changes: tuple[Change, ...]
    cut: int
    flip: int


def changes() -> st.SearchStrategy[Change]:
    """Any one change."""
    return st.builds(
        Change,
        st.sampled_from(STARTS),
        st.binary(max_size=7).map(tuple),
        st.sampled_from(KINDS),
        st.integers(0, len(ODD) - 1),
    )


_RARELY = (-1,) * 200 + (0, 1, 40, 300, 2500, 6000)
_HOW_MANY = (0, *(1, 2, 3, 4) * 5)


def make_recipe(random: Random) -> Recipe:
    """Any request: most with one to four changes, some with their bytes broken as well.

    No hypothesis strategy: one that ran for thousands of examples repeated itself six times out of seven. A recipe is small
    enough to be read as it is, without being made smaller.
    """
    return Recipe(
        random.choice(tuple(REQUIRED)),
        random.random() < 0.5,
        tuple(_make_change(random) for _ in range(random.choice(_HOW_MANY))),
        random.choice(_RARELY),
        random.choice(_RARELY),
    )


def _make_change(random: Random) -> Change:
    way = tuple(random.randbytes(random.randint(0, 7)))
    return Change(random.choice(STARTS), way, random.choice(KINDS), random.randrange(len(ODD)))


class Kitchen:
    """Makes requests of recipes; `moment` is the service's present, `server` the FHIR server that calls name."""

    def __init__(self, moment: datetime, server: str) -> None:
        prefetched = patients.prefetch(moment)
        self._texts = {
            (hook, access): json.dumps(
                patients.call(prefetched, hook=hook, context=calls.context(hook))
                | (patients.fhir_access(server) if access else {})
            )
            for hook in REQUIRED
            for access in (False, True)
        }

    def make(self, recipe: Recipe) -> bytes:
        """The request's body."""
        call = json.loads(self._texts[recipe.hook, recipe.access])
        for change in recipe.changes:
            _apply(call, change)
        body = json.dumps(call).encode()
        if 0 <= recipe.flip < len(body):
            at = recipe.flip
            body = body[:at] + bytes([(body[at] + 1 + at) % 256]) + body[at + 1 :]
        return body[: recipe.cut] if recipe.cut >= 0 else body


def feedback_bodies(card: Json) -> st.SearchStrategy[bytes]:
    """Feedback on a card with suggestions that is nearly right."""
    entry = {
        "card": card["uuid"],
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": one["uuid"]} for one in card["suggestions"]],
        "overrideReason": {"reason": {"code": "x", "system": "urn:x"}, "userComment": "y"},
        "overrideReasons": [{"code": "x"}],
        "outcomeTimestamp": "2026-11-24T09:31:30Z",
    }
    text = json.dumps({"feedback": [entry, entry | {"outcome": "overridden"}]})

    def make(steps: list[Change]) -> bytes:
        body = json.loads(text)
        for step in steps:
            _apply(body, step)
        return json.dumps(body).encode()

    return st.lists(changes(), max_size=4).map(make)


def _apply(call: Any, change: Change) -> None:
    holder, key = _place(call, change)
    if holder is None:
        return
    _DEEDS[change.kind](holder, key, ODD[change.odd], call)


def _place(call: Any, change: Change) -> tuple[Any, Any]:
    """What holds the place, and its key there; nothing where the call has no such place any more."""
    way = list(change.way)
    at, holder, key = call, None, None
    for name in _named(call, change.start, way):
        if not isinstance(at, dict) or name not in at:
            return holder, key
        holder, key, at = at, name, at[name]
    for step in way:
        if isinstance(at, dict) and at:
            found: Any = list(at)[step % len(at)]
        elif isinstance(at, list) and at:
            found = step % len(at)
        else:
            break
        holder, key, at = at, found, at[found]
    return holder, key


def _named(call: Any, start: str, way: list[int]) -> list[str]:
    if not start.startswith("prefetch."):
        return [start] if start else []
    prefetch = call.get("prefetch") if isinstance(call, dict) else None
    if not isinstance(prefetch, dict) or not prefetch:
        return ["prefetch"]
    name = list(prefetch)[way.pop(0) % len(prefetch) if way else 0]
    return ["prefetch", name, "entry"] if start.endswith("entry") else ["prefetch", name]


def _set(holder: Any, key: Any, odd: Any, _: Any) -> None:
    holder[key] = json.loads(json.dumps(odd))


def _drop(holder: Any, key: Any, *_: Any) -> None:
    del holder[key]


def _repeat(holder: Any, key: Any, *_: Any) -> None:
    if isinstance(holder, list):
        holder += [holder[key]] * 3
    else:
        holder[key] = [holder[key]] * 2


def _swap(holder: Any, key: Any, _: Any, call: Any) -> None:
    context = call.get("context") if isinstance(call, dict) else None
    holder[key] = json.loads(json.dumps(context))


def _add(holder: Any, _: Any, odd: Any, __: Any) -> None:
    if isinstance(holder, dict):
        holder["unheard-of"] = json.loads(json.dumps(odd))
    else:
        holder.insert(0, json.loads(json.dumps(odd)))


def _rename(holder: Any, key: Any, *_: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)


_DEEDS: dict[str, Callable[[Any, Any, Any, Any], None]] = {
    "set": _set,
    "drop": _drop,
    "repeat": _repeat,
    "swap": _swap,
    "add": _add,
    "rename": _rename,
}
