"""The ids of the call that this thread works on, for every line it writes to the operations log.

Kept apart from the call's arguments because a line may be written where nothing else of the call is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

_NONE: Mapping[str, str] = {}
_ids: ContextVar[Mapping[str, str]] = ContextVar("bedside_call_ids", default=_NONE)


def call_ids() -> Mapping[str, str]:
    """Key to id; empty between calls."""
    return _ids.get()


def begin_call(ids: Mapping[str, str]) -> None:
    """From here on the thread works on the call with these ids, and on no other."""
    _ids.set(ids)


def add_call_id(key: str, value: str) -> None:
    """One more id of the call, known only now."""
    _ids.set({**_ids.get(), key: value})


def end_call() -> None:
    """The thread works on no call."""
    _ids.set(_NONE)
