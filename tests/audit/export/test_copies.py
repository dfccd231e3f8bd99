"""A copy found elsewhere is proven against the log, and any change of it is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import AuditError, FormatError, ProofError, VerificationError
from audit.export.cef import cef_line
from audit.export.copies import check_copy, parse_copies
from audit.export.fhir_auditevent import audit_events
from audit.export.otlp import logs_data
from audit.export.provenance import provenances
from audit.export.records import LogRecord, read_records
from audit.export.syslog import syslog_message
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.note import VerifierKey
from tests.audit.export.examples import EXAMPLES

Formats = dict[str, Callable[[LogRecord], list[str]]]
FORMATS: Formats = {
    "fhir-auditevent": lambda record: [json.dumps(event) for event in audit_events(record)],
    "provenance": lambda record: [json.dumps(resource) for resource in provenances(record)],
    "cef": lambda record: [cef_line(record)],
    "syslog": lambda record: [syslog_message(record).decode()],
    "otlp": lambda record: [json.dumps(logs_data([record]))],
}


def _keys(log: AuditLog) -> list[VerifierKey]:
    return [log.keys.signers[0].verifier_key]


def _check(log: AuditLog, line: str) -> None:
    for copy in parse_copies(line):
        check_copy(copy, log.prove(copy.index), _keys(log), log.storage.checkpoint)


@pytest.mark.parametrize("proofs", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_copy_of_every_kind_is_proven(full_log: AuditLog, make_entry, name: str, proofs: bool) -> None:
    records = read_records(full_log.storage, LeafIndex(0), proofs=proofs)
    lines = [line for record in records for line in FORMATS[name](record)]
    assert lines
    full_log.append(*make_entry(full_log))  # a copy stays provable when the log has grown
    for line in lines:
        _check(full_log, line)


def test_gathered_otlp_records_are_proven_one_by_one(full_log: AuditLog) -> None:
    line = json.dumps(logs_data(list(read_records(full_log.storage, LeafIndex(0)))))
    assert len(parse_copies(line)) == len(EXAMPLES)
    _check(full_log, line)


def test_what_a_fhir_server_adds_is_not_held_against_the_copy(full_log: AuditLog) -> None:
    record = next(read_records(full_log.storage, LeafIndex(0)))
    event = audit_events(record)[-1]
    added = {"versionId": "1", "lastUpdated": "2026-03-02T00:00:00Z", "source": "#x"}
    kept = event | {"id": "4711", "meta": event["meta"] | added, "text": {"status": "generated", "div": "<div/>"}}
    _check(full_log, json.dumps(kept))


def _changed(text: str, path: list[str | int], value: object) -> str:
    document = json.loads(text)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["outcome"], "8", "outcome"),
        (["recorded"], "2026-03-01T08:00:01.000000Z", "recorded"),
        (["agent", 0, "who", "identifier", "value"], "somebody-else", r"agent\[0\]\.who\.identifier\.value"),
        (["meta", "security"], [], "meta"),
        (["entity", 0, "what", "identifier", "value"], "5a" * 32, r"entity\[0\]\.what\.identifier\.value"),
        (["extension", 0, "extension", 1, "valueString"], "1", "leaf hash"),
        (["extension", 0, "extension", 2, "valueBase64Binary"], "AAAA", "leaf hash"),
        (["extension", 0, "extension", 3, "valueString"], "9999", "a tree the log hasn't had"),
        (["extension", 0, "extension", 3, "valueString"], "10", "a tree the log hasn't had"),
        (["language"], "en", "language"),
    ],
)
def test_a_changed_event_is_told_by_what_was_changed(
    full_log: AuditLog, path: list[str | int], value: object, named: str
) -> None:
    record = next(read_records(full_log.storage, LeafIndex(0)))
    line = _changed(json.dumps(audit_events(record)[-1]), path, value)
    with pytest.raises(VerificationError, match=named):
        _check(full_log, line)


@pytest.mark.parametrize(("old", "new"), [("outcome=answered", "outcome=failed"), ("|2|", "|9|"), ("act=", "act=x")])
def test_a_changed_cef_line_is_told(full_log: AuditLog, old: str, new: str) -> None:
    line = cef_line(next(read_records(full_log.storage, LeafIndex(0))))
    assert old in line
    with pytest.raises(VerificationError):
        _check(full_log, line.replace(old, new))


def test_a_changed_log_record_is_told(full_log: AuditLog) -> None:
    line = json.dumps(logs_data([next(read_records(full_log.storage, LeafIndex(0)))]))
    with pytest.raises(VerificationError, match="attributes"):
        _check(full_log, line.replace('"answered"', '"failed"'))


@pytest.mark.parametrize(
    "line",
    [
        '{"resourceLogs":[],"note":"a lie"}',
        '{"resourceLogs":[{"resource":{"lie":1},"scopeLogs":[]}]}',
        '{"resourceLogs":[{"scopeLogs":[{"scope":{"lie":1},"logRecords":[]}]}]}',
    ],
)
def test_a_document_without_a_record_is_no_copy(line: str) -> None:
    with pytest.raises(FormatError, match="at least one record"):
        parse_copies(line)


def test_an_empty_part_beside_a_true_record_is_no_copy(full_log: AuditLog) -> None:
    document = logs_data([next(read_records(full_log.storage, LeafIndex(0)))])
    document["resourceLogs"].append({"resource": {"lie": 1}, "scopeLogs": []})
    with pytest.raises(FormatError, match="at least one record"):
        parse_copies(json.dumps(document))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["note"], "a lie", "note"),
        (["resourceLogs", 0, "note"], "a lie", r"resourceLogs\[0\]\.note"),
        (["resourceLogs", 0, "resource", "attributes", 1, "value", "stringValue"], "other.example", "attributes"),
        (["resourceLogs", 0, "resource", "attributes", 0, "key"], "bedside.outcome", "attributes"),
        (["resourceLogs", 0, "scopeLogs", 0, "scope", "name"], "another", "scope.name"),
        (["resourceLogs", 0, "scopeLogs", 0, "schemaUrl"], "https://other.example", "schemaUrl"),
    ],
)
def test_a_lie_around_the_log_records_is_told(
    full_log: AuditLog, path: list[str | int], value: object, named: str
) -> None:
    gathered = logs_data(list(read_records(full_log.storage, LeafIndex(0), limit=2)))
    line = _changed(json.dumps(gathered), path, value)
    with pytest.raises(VerificationError, match=named):
        _check(full_log, line)


def test_a_member_that_is_there_twice_makes_no_copy(full_log: AuditLog) -> None:
    record = next(read_records(full_log.storage, LeafIndex(0)))
    line = json.dumps(audit_events(record)[0])
    doubled = line.replace('"outcome": "0"', '"outcome": "8", "outcome": "0"')
    assert doubled != line
    with pytest.raises(FormatError, match="each member of an object once"):
        parse_copies(doubled)


def test_a_leaf_hash_beyond_ascii_is_no_copy(full_log: AuditLog) -> None:
    record = next(read_records(full_log.storage, LeafIndex(0)))
    line = _changed(
        json.dumps(audit_events(record)[0]), ["extension", 0, "extension", 2, "valueBase64Binary"], "é" * 44
    )
    with pytest.raises(FormatError, match="where in the log"):
        parse_copies(line)


def test_a_copy_of_another_log_is_told(full_log: AuditLog) -> None:
    line = cef_line(replace(next(read_records(full_log.storage, LeafIndex(0))), origin="another/log"))
    with pytest.raises(AuditError, match="origin"):
        _check(full_log, line)


def test_a_copy_with_the_proof_of_another_entry_is_told(full_log: AuditLog) -> None:
    first, second = list(read_records(full_log.storage, LeafIndex(0), proofs=True))[:2]
    line = json.dumps(audit_events(replace(first, proof=second.proof))[0])
    with pytest.raises(ProofError):
        _check(full_log, line)


def test_a_copy_is_not_proven_by_the_proof_of_another_index(full_log: AuditLog) -> None:
    (copy,) = parse_copies(cef_line(next(read_records(full_log.storage, LeafIndex(0)))))
    with pytest.raises(VerificationError, match="another index"):
        check_copy(copy, full_log.prove(LeafIndex(1)), _keys(full_log), full_log.storage.checkpoint)


def test_a_proof_without_the_entry_is_not_enough(full_log: AuditLog) -> None:
    (copy,) = parse_copies(cef_line(next(read_records(full_log.storage, LeafIndex(0)))))
    proof = replace(full_log.prove(copy.index), extra=None)
    with pytest.raises(ProofError, match="carries the entry"):
        check_copy(copy, proof, _keys(full_log), full_log.storage.checkpoint)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "{}",
        "{",
        '{"resourceType":"Patient"}',
        '{"resourceLogs":[{}]}',
        '{"resourceLogs":["x"]}',
        "CEF:0|a|b|1|c|d|1|x=1",
    ],
)
def test_what_is_no_copy_is_refused(line: str) -> None:
    with pytest.raises(FormatError):
        parse_copies(line)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_one_changed_character_never_passes(full_log: AuditLog, data: st.DataObject) -> None:
    record = next(read_records(full_log.storage, LeafIndex(data.draw(st.integers(0, len(EXAMPLES) - 1)))))
    line = cef_line(record)
    place = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x7E).filter(lambda one: one != line[place]))
    with pytest.raises(AuditError):
        _check(full_log, line[:place] + other + line[place + 1 :])
