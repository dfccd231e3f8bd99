"""What a model's author has still to write: members of the manifest that say TODO, as `bedside model new` leaves them.

A model with such a text can be trained, listed and looked at, and is neither verified nor served.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from model_artifacts.errors import ManifestError
from model_artifacts.manifest import ModelManifest

_TODO = re.compile(r"\bTODO\b")


def require_finished(manifest: ModelManifest) -> None:
    """Returns if nothing is left to write.

    Raises:
        ManifestError: it names every member that still says TODO.
    """
    names = unfinished(manifest)
    if names:
        message = f"manifest of {manifest.id} is unfinished: still to be written: {', '.join(names)}"
        raise ManifestError(message, model_id=manifest.id)


def unfinished(manifest: ModelManifest) -> tuple[str, ...]:
    """The members that still say TODO, by where they stand: "intended_use.limits[0]"."""
    return tuple(_marked(msgspec.to_builtins(manifest), ""))


def _marked(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, str) and _TODO.search(value):
        yield place
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _marked(member, f"{place}.{name}" if place else name)
    if isinstance(value, (list, tuple)):
        for number, member in enumerate(value):
            yield from _marked(member, f"{place}[{number}]")
