"""`bedside audit replay`: repeats a recorded decision and says whether the same bytes gave the same answer."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from audit.entry import read_header
from audit.merkle import LeafIndex
from bedside.wiring import load_models, open_log, read_config
from cds_service.replay import replay


def add_replay(verbs: Any) -> None:
    """Adds the verb."""
    parser = verbs.add_parser("replay", help="repeat a recorded decision; needs the payload key")
    parser.add_argument("index", type=int, help="index of the decision in the log")
    parser.set_defaults(run=run_replay)


def run_replay(options: argparse.Namespace) -> int:
    """Exit code 0 if the decision was reproduced bit for bit, 1 if not or if the entry holds nothing to repeat."""
    config = read_config()
    audit_log = open_log(config)
    try:
        entry = read_header(audit_log.entry(LeafIndex(options.index)))
        if entry.payload is None:
            sys.stdout.write(f"entry {options.index}: nothing to replay, {entry.type} {entry.id} has no payload\n")
            return 1
        report = replay(audit_log.payload(LeafIndex(options.index)), load_models(config))
    finally:
        audit_log.close()
    sys.stdout.write(
        f"entry {options.index}: {report.outcome}\n"
        f"model {report.model_id} {report.model_version}\n"
        f"recorded answer {report.recorded_answer or 'none, the model abstained before it ran'}\n"
        f"repeated answer {report.repeated_answer or 'none'}\n"
    )
    return 0 if report.outcome == "reproduced" else 1
