"""The model card for machines: the schema plug-ins' answers as JSON, each filled or openly not available.

    {"schema": "bedside-model-card/1", "model": {"id": …, "version": …, "sha256": …, "manifest_sha256": …},
     "card_sha256": …, "hti1-dsi-31": {31 keys}, "tripod-ai": {52 keys}}

where each answer is {"status": "available", "text": …} or {"status": "not-available", "reason": …}. `card_schema` says the same
as JSON Schema (2020-12); it is kept in docs/model-card.schema.json, where a test holds it to this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model_artifacts import source_attributes as dsi
from model_artifacts import tripod
from model_artifacts.metrics import METRICS_FILE, read_metrics
from model_artifacts.runtime import ReleasedModel

SCHEMA = "bedside-model-card/1"


def card_json(model: ReleasedModel) -> dict[str, Any]:
    """The content; the digests are those that a decision's entry in the log holds. Without `metrics.json` nothing is measured.

    Raises:
        ArtifactError: `metrics.json` is unreadable.
        ManifestError: the manifest authors what cannot be authored.
    """
    measured = (model.folder / METRICS_FILE).exists()
    sections, identity = read_metrics(model.folder) if measured else (), model.identity
    attributes = dsi.source_attributes(model.manifest, model.inputs, sections)
    items = tripod.tripod_items(model.manifest, sections)
    return {
        "schema": SCHEMA,
        "model": {
            "id": identity.id,
            "version": identity.version,
            "title": model.manifest.title,
            "sha256": identity.artifact_sha256,
            "manifest_sha256": identity.manifest_sha256,
        },
        "card_sha256": identity.card_sha256,
        dsi.SCHEMA: {key: answer.to_json() for key, answer in attributes.items()},
        tripod.SCHEMA: {key: answer.to_json() for key, answer in items.items()},
    }


def card_schema() -> dict[str, Any]:
    """The JSON Schema of what `card_json` gives: exactly these keys, each answered or openly not."""
    digest = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    text = {"type": "string", "minLength": 1}
    model = {"id": text, "version": text, "title": text, "sha256": digest, "manifest_sha256": digest}
    answered = {"status": {"const": "available"}, "text": text}
    empty = {"status": {"const": "not-available"}, "reason": text}
    answer = {"oneOf": [_object(answered), _object(empty)]}
    members = {
        "schema": {"const": SCHEMA},
        "model": _object(model),
        "card_sha256": digest,
        dsi.SCHEMA: _keyed(dsi.ATTRIBUTES),
        tripod.SCHEMA: _keyed(tripod.ITEMS),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bedside model card, answers",
        **_object(members),
        "$defs": {"answer": answer},
    }


def _object(members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _keyed(keys: Iterable[str]) -> dict[str, Any]:
    return _object({key: {"$ref": "#/$defs/answer"} for key in keys})
