"""`bedside audit replay`: repeats a recorded decision and says whether the same bytes gave the same answer."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

from audit.access import Look, Visitor, record_access
from audit.entry import DecisionEntry, EntryHeader, parse_entry, read_header
from audit.errors import AuditError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.operators import operator_name
from audit.storage import Query
from bedside.wiring import load_models, now, open_log, read_config
from cds_service.replay import replay
from model_artifacts.archive import find_kept

LATEST = "latest"
SEARCHED = 1000
REASON = "verification"


class NothingToReplayError(AuditError):
    """No recorded decision holds an answer that could be repeated."""


def add_replay(verbs: Any) -> None:
    """Adds the verb."""
    parser = verbs.add_parser("replay", help="repeat a recorded decision; needs the patient's key in the vault")
    parser.add_argument(
        "index", type=_index, help='index of the decision, or "latest": the newest that a model answered'
    )
    parser.add_argument("--reason", default=REASON, metavar="CODE", help=f"why, for the log (default {REASON})")
    parser.set_defaults(run=run_replay)


def run_replay(options: argparse.Namespace) -> int:
    """Exit code 0 if the answer was reproduced bit for bit, 1 if not or if the entry holds nothing to repeat."""
    config = read_config()
    audit_log = open_log(config)
    try:
        index = _latest_answered(audit_log) if options.index == LATEST else LeafIndex(options.index)
        data = audit_log.entry(index)
        header = read_header(data)
        if not _is_answered(header, data):
            sys.stdout.write(f"entry {index}: nothing to replay, {header.type} {header.id} holds no model's answer\n")
            return 1
        visitor = Visitor(operator_name(os.getuid()), "operator", options.reason)
        record_access(audit_log, visitor, Look("replay", 1, index=index), now())
        report = replay(audit_log.payload(index), load_models(config), partial(find_kept, config.model_archive))
    finally:
        audit_log.close()
    sys.stdout.write(
        f"entry {index}: {report.outcome}\n"
        f"model {report.model_id} {report.model_version}\n"
        f"recorded answer {report.recorded_answer or 'none, the model abstained before it ran'}\n"
        f"repeated answer {report.repeated_answer or 'none'}\n"
    )
    return 0 if report.outcome in ("reproduced", "answer-reproduced") else 1


def _is_answered(header: EntryHeader, data: bytes) -> bool:
    """Whether a model came to an assessment, be it an abstention."""
    if header.type != "decision/v1":
        return False
    entry = parse_entry(data)
    return isinstance(entry, DecisionEntry) and entry.inputs is not None


def _index(text: str) -> int | str:
    return text if text == LATEST else int(text)


def _latest_answered(audit_log: AuditLog) -> LeafIndex:
    """The newest of the last decisions in which a graph ran and gave a band."""
    for found in audit_log.find(Query(type="decision/v1", limit=SEARCHED)):
        entry = parse_entry(audit_log.entry(found.index))
        if isinstance(entry, DecisionEntry) and entry.output is not None and entry.output.band is not None:
            return found.index
    raise NothingToReplayError(f"replay: none of the last {SEARCHED} decisions was answered by a model")
