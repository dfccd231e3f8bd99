"""`bedside audit replay`: repeats a recorded decision and says whether the same bytes gave the same answer.

The decision lies in the log of a configured tenant, or in that of an earlier epoch (`--log`), which is opened for reading
alone. The look is an entry of the tenant's own log either way, durable before anything is printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from audit.access import Look
from audit.commands.opening import DEADLINE_S, config_of, reading, record_look
from audit.commands.running import code_argument
from audit.entry import DecisionEntry, parse_entry, read_header
from audit.errors import AuditError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.storage import Query
from bedside.config import Config, ConfigError
from bedside.environment import now, read_config
from bedside.offered import load_models
from bedside.tenants import tenant_log
from bedside.wiring import software_digest
from cds_service.replay import DECISION, Outcome, Recorded, ReplayReport, read_recorded, replay
from model_artifacts.archive import find_kept
from model_artifacts.runtime import ReleasedModel

LATEST = "latest"
SEARCHED = 1000
REASON = "verification"
GOOD: tuple[Outcome, ...] = ("reproduced", "answer-reproduced", "abstained-before-running")

# docs/review-the-log.md says the same at greater length; a test holds it to name each.
MEANINGS: dict[Outcome, str] = {
    "reproduced": "the same answer bit for bit, and the same words; the leaf says the same",
    "answer-reproduced": "the same answer bit for bit, by the version kept; words aren't compared",
    "abstained-before-running": "the model abstained before it ran: no answer to repeat, and that version isn't installed",
    "leaf-differs": "the log's entry doesn't say what the payload and the repeated answer say",
    "answer-differs": "the recorded inputs give another answer",
    "card-differs": "the same answer, but the card reads otherwise",
    "filed-differs": "the same answer and card, but what was filed would be another",
    "model-changed": "that version of the model is neither installed nor kept",
    "model-unknown": "no version of the model is enabled, and that one isn't kept",
}


class NothingToReplayError(AuditError):
    """No recorded decision holds an answer that could be repeated."""


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument(
        "index", type=_index, help='index of the decision, or "latest": the newest that a model answered'
    )
    parser.add_argument(
        "--reason", type=code_argument, default=REASON, metavar="CODE", help=f"why, for the log (default {REASON})"
    )
    parser.add_argument("--tenant", metavar="NAME", help="whose log (default: audit.tenant)")
    parser.add_argument(
        "--log",
        type=Path,
        metavar="DIR",
        help="an earlier epoch of that tenant's log; the look goes into the present one",
    )
    parser.set_defaults(run=run_replay)


def run_replay(options: argparse.Namespace) -> int:
    """Exit code 0 if the answer was reproduced bit for bit, or there is none; 1 if not, or if there is nothing to repeat."""
    config = read_config()
    with closing(_open_present(config, options.tenant)) as present, _opened(options.log, present) as log:
        index = _latest_answered(log) if options.index == LATEST else LeafIndex(options.index)
        header = read_header(log.entry(index))
        record_look(options, log.storage, present, Look("replay", 1, index=index))
        recorded = read_recorded(log, index)
        if recorded is None:
            sys.stdout.write(f"entry {index}: nothing to replay, {header.type} {header.id} holds no model's answer\n")
            return 1
        models = load_models(config)
        report = replay(recorded, models, partial(find_kept, config.model_archive))
    sys.stdout.writelines(f"{line}\n" for line in _lines(index, recorded, report, models))
    return 0 if report.outcome in GOOD else 1


def _open_present(config: Config, tenant: str | None) -> AuditLog:
    """The tenant's log; no clinician waits here, so it may be waited for."""
    return AuditLog.open(replace(tenant_log(config, tenant), deadline_s=DEADLINE_S), clock=now)


@contextmanager
def _opened(directory: Path | None, present: AuditLog) -> Iterator[AuditLog]:
    """The log to read: an earlier epoch's, or the present one.

    Raises:
        ConfigError: the earlier log is another tenant's.
    """
    if directory is None or directory.resolve() == present.config.directory.resolve():
        yield present
        return
    with reading(directory) as storage:
        # Epochs share the vault, wherever that lies.
        found = replace(config_of(directory, storage), vault_directory=present.config.vault_directory)
    if found.tenant != present.config.tenant:
        raise ConfigError(f"--log: expected a log of tenant {present.config.tenant}, got another's; see --tenant")
    with closing(AuditLog.open(found, clock=now, reading=True)) as earlier:
        yield earlier


def _lines(
    index: LeafIndex, recorded: Recorded, report: ReplayReport, models: dict[str, ReleasedModel]
) -> Iterator[str]:
    yield f"entry {index}: {report.outcome}"
    yield f"model {report.model_id} {report.model_version}"
    yield f"recorded answer {report.recorded_answer or 'none, the model abstained before it ran'}"
    yield f"repeated answer {report.repeated_answer or 'none'}"
    if recorded.entry.software == software_digest(models.values()):
        yield "software as today"
    else:
        yield "software another than today's, by which words may have changed"
    if report.differs:
        yield f"the leaf says otherwise of {', '.join(report.differs)}"
    yield MEANINGS[report.outcome]


def _index(text: str) -> int | str:
    return text if text == LATEST else int(text)


def _latest_answered(log: AuditLog) -> LeafIndex:
    """The newest of the last decisions in which a graph ran and gave a band."""
    for found in log.find(Query(type=DECISION, limit=SEARCHED)):
        entry = parse_entry(log.entry(found.index))
        if isinstance(entry, DecisionEntry) and entry.output is not None and entry.output.band is not None:
            return found.index
    raise NothingToReplayError(f"replay: none of the last {SEARCHED} decisions was answered by a model")
