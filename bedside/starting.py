"""What a start leaves in each tenant's log: the software and configuration in force, and each model version that is new there.

Several worker processes start at once: each writes its configuration, and a model's entry has an id made of what it says, so
that only one of them is the first.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import version

from audit.commitments import keyed_digest
from audit.entry import format_time, parse_entry
from audit.entry_operations import ConfigEntry, ModelEntry
from audit.errors import EntryConflictError
from audit.log import AuditLog
from audit.storage import Query
from cds_service.desk import Book, Desk
from model_artifacts.runtime import ReleasedModel

WITHDRAWN = ("withdraw", "kill")
BESIDE = ("shadow", "shadow-end", "refuse", "evaluate")
"""What is recorded of a version that doesn't come into force by it."""
SEARCHED = 1000


def record_start(desk: Desk) -> None:
    """Records the start in every tenant's log.

    Raises:
        AppendError: it can't be recorded; the service must not start.
    """
    models = tuple({service.model.identity.manifest_sha256: service.model for service in desk.services}.values())
    for book in desk.books.values():
        _record_configuration(book, models, desk)
        for model in models:
            _record_model(book, model, desk)


def _record_configuration(book: Book, models: tuple[ReleasedModel, ...], desk: Desk) -> None:
    moment = desk.clock()
    entry = ConfigEntry(
        id=book.log.new_entry_id(),
        time=format_time(moment),
        clock=book.log.clock_status(moment),
        tenant=book.context.tenant,
        software=book.context.software,
        software_version=version("bedside"),
        config=book.context.config,
        models=tuple(model.identity.artifact_sha256 for model in models),
    )
    book.log.record(entry)


def _record_model(book: Book, model: ReleasedModel, desk: Desk) -> None:
    """Records that a version came into use, if the newest entry about what is in force is of another or withdrew it."""
    identity = model.identity
    newest = newest_in_force(book.log, identity.id)
    if newest is not None and newest.manifest == identity.manifest_sha256 and newest.action not in WITHDRAWN:
        return
    moment = desk.clock()
    what = f"{identity.manifest_sha256} after {newest.id if newest else 'nothing'}"
    entry = ModelEntry(
        id=keyed_digest(book.log.keys.index_key, "deploy", what.encode())[:32],
        time=format_time(moment),
        clock=book.log.clock_status(moment),
        tenant=book.context.tenant,
        action="deploy",
        model=identity.id,
        version=identity.version,
        artefact=identity.artifact_sha256,
        manifest=identity.manifest_sha256,
        card=identity.card_sha256,
        replaces=None if newest is None else newest.artefact,
        reason="start",
        operator=None,
    )
    with suppress(EntryConflictError):  # another worker was faster
        book.log.record(entry)


def newest_in_force(log: AuditLog, model_id: str) -> ModelEntry | None:
    """The newest entry by which a version of the model came into force or left it; None where there is none."""
    for found in log.find(Query(type="model/v1", model=model_id, limit=SEARCHED)):
        entry = parse_entry(log.entry(found.index))
        if isinstance(entry, ModelEntry) and entry.action not in BESIDE:
            return entry
    return None
