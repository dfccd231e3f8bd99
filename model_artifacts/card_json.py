"""The model card for machines: the schema plug-ins' answers as JSON, each filled or openly not available.

    {"schema": "bedside-model-card/1", "model": {"id": …, "version": …, "sha256": …, "manifest_sha256": …},
     "card_sha256": …, "hti1-dsi-31": {31 keys}, "tripod-ai": {52 keys}}

where each answer is {"status": "available", "text": …} or {"status": "not-available", "reason": …}.
"""

from __future__ import annotations

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
