"""What a model's author has still to write: members of the manifest that say TODO, as `bedside model new` leaves them.

What else the card says (metrics.json) counts too. A model with such a text can be trained and looked at; it is not signed, and
if somebody signs it all the same, not served.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from model_artifacts.errors import ManifestError
from model_artifacts.folder import CARD_FILE, ModelFolder

_TODO = re.compile(r"\bTODO\b")


def require_finished(folder: ModelFolder) -> None:
    """Returns if nothing is left to write.

    Raises:
        ManifestError: it names what still says TODO.
    """
    names, model_id = unfinished(folder), folder.manifest.id
    if names:
        message = f"model {model_id} is unfinished, still to be written (TODO): {', '.join(names)}"
        raise ManifestError(message, model_id=model_id)


def unfinished(folder: ModelFolder) -> tuple[str, ...]:
    """What still says TODO: members of the manifest by where they stand ("intended_use.limits[0]"), else the card."""
    card = folder.contents.get(CARD_FILE, b"").decode(errors="replace")
    return tuple(_marked(msgspec.to_builtins(folder.manifest), "")) or ((CARD_FILE,) if _TODO.search(card) else ())


def _marked(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, str) and _TODO.search(value):
        yield place
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _marked(member, f"{place}.{name}" if place else name)
    if isinstance(value, (list, tuple)):
        for number, member in enumerate(value):
            yield from _marked(member, f"{place}[{number}]")
