from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from audit.entry import parse_entry
from audit.entry_operations import ConfigEntry, ModelEntry
from audit.log import AuditLog
from bedside.starting import record_start
from model_artifacts.manifest import Sha256
from tests.conftest import MakeDesk


def _entries(log: AuditLog) -> list[ConfigEntry | ModelEntry]:
    entries = [parse_entry(data) for data in log.entries()]
    assert all(isinstance(entry, ConfigEntry | ModelEntry) for entry in entries)
    return entries  # type: ignore[return-value]


def test_starting_tells_the_configuration_and_each_new_model(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    record_start(desk)
    configuration, *models = _entries(audit_log)
    assert isinstance(configuration, ConfigEntry)
    expected = {service.model.identity.id: service.model.identity for service in desk.services}
    assert [entry.model for entry in models if isinstance(entry, ModelEntry)] == list(expected)
    for entry in models:
        assert isinstance(entry, ModelEntry)
        identity = expected[entry.model]
        assert (entry.action, entry.reason, entry.replaces) == ("deploy", "start", None)
        assert (entry.version, entry.artefact, entry.manifest, entry.card) == (
            identity.version,
            identity.artifact_sha256,
            identity.manifest_sha256,
            identity.card_sha256,
        )


def test_starting_again_tells_the_configuration_alone(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    record_start(desk)
    before = len(_entries(audit_log))
    record_start(desk)
    assert [type(entry) for entry in _entries(audit_log)[before:]] == [ConfigEntry]


def test_starting_with_another_version_tells_what_it_replaces(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk()
    record_start(desk)
    service = desk.services[0]
    newer = replace(service.model.identity, version="9.0.0", manifest_sha256=Sha256("0" * 64))
    model = replace(service.model, identity=newer)
    again = replace(desk, services=(replace(service, model=model),))
    record_start(again)
    newest = _entries(audit_log)[-1]
    assert isinstance(newest, ModelEntry)
    assert (newest.version, newest.replaces) == ("9.0.0", service.model.identity.artifact_sha256)
    record_start(desk)
    newest = _entries(audit_log)[-1]
    assert isinstance(newest, ModelEntry)
    assert newest.version == service.model.identity.version  # rolled back, which is a change as well


def test_starting_after_a_candidate_was_evaluated_tells_nothing_of_models(
    make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    desk = make_desk()
    record_start(desk)
    deployed = next(entry for entry in reversed(_entries(audit_log)) if isinstance(entry, ModelEntry))
    audit_log.record(
        structs.replace(deployed, id="9" * 32, action="evaluate", manifest="0" * 64, reason=f"report:{'1' * 64}")
    )
    before = len(_entries(audit_log))
    record_start(desk)
    assert [type(entry) for entry in _entries(audit_log)[before:]] == [ConfigEntry]
