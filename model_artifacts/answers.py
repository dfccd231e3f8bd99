"""An answer to one question that a regulation or a reporting guideline asks of a model: a text, or why there is none.

What the schema plug-ins of the model card return (`source_attributes`, `tripod`). To add a plug-in: a module that maps its
keys, in its own order, to answers, and its section in `model_card`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from model_artifacts.errors import ManifestError
from model_artifacts.manifest import ModelManifest

NOT_AVAILABLE = "not available"


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` if there is one, else the reason why there is none; never both, never neither."""

    text: str | None
    reason: str | None = None

    def to_json(self) -> dict[str, str]:
        """Wire form: {"status": "available", "text": …} or {"status": "not-available", "reason": …}."""
        if self.text is not None:
            return {"status": "available", "text": self.text}
        return {"status": "not-available", "reason": self.reason or ""}

    def words(self) -> str:
        """As the card shows it."""
        return self.text if self.text is not None else f"{NOT_AVAILABLE}: {self.reason}"


def see(section: str, there: bool, why_not: str) -> Answer:
    """A pointer to a section of the card, if what it is asked for is there."""
    return Answer(f"see section “{section}”") if there else Answer(None, why_not)


def check_authored(manifest: ModelManifest, member: str, authored: Mapping[str, str], allowed: Collection[str]) -> None:
    """Passes if a person may author each of these keys.

    Raises:
        ManifestError: a key is unknown, or what it stands for is derived.
    """
    wrong = ", ".join(sorted(authored.keys() - set(allowed)))
    if wrong:
        raise ManifestError(f"{member} of {manifest.id}: {wrong} cannot be authored", model_id=manifest.id)
