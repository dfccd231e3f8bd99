"""Anchoring: giving the log's heads to outsiders, and writing down in the log what came back. Never on the response path.

A round asks each witness and each time-stamping authority that hasn't seen the log's newest entries; entries that only tell of
anchors are no news, or every round would make the next one necessary. What comes back is kept in the store (the evidence), in
the heads directory (what opening compares with) and as an anchor/v1 entry (so that losing the evidence shows). One outsider
that fails costs the others nothing: it is asked again later, and later each time.

`anchor_loop` runs rounds in a thread. A further kind of outsider is a field of `Outsiders`, and a method here that asks it.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256

from audit.anchor_check import ANCHOR_TYPE, COSIGNATURE, RFC3161
from audit.checkpoint import parse_checkpoint
from audit.entry import format_entry, format_time, read_header
from audit.entry_operations import AnchorEntry
from audit.errors import AuditError, StorageError
from audit.heads import keep_head
from audit.keys import VKEY_FILE, load_vkeys
from audit.log import AuditLog
from audit.merkle import LeafIndex, TreeSize
from audit.note import parse_note
from audit.outside import Ask, OutsideError
from audit.storage import Anchor
from audit.timestamps import TimestampAuthority, TimestampError, ask_timestamp
from audit.witness_heads import check_warrant
from audit.witnessing import (
    NEVER,
    KnownWitness,
    WitnessContradictionError,
    ask_cosignature,
    fetch_head,
)

log = logging.getLogger("bedside.audit.anchoring")

_PAGE = 500
FIRST_PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Outsiders:
    """Who is asked, the way out to them, and how often heads are time-stamped at most; `publish` publishes the log."""

    ask: Ask
    witnesses: tuple[KnownWitness, ...] = ()
    authorities: tuple[TimestampAuthority, ...] = ()
    stamp_every: timedelta = timedelta(hours=1)
    publish: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What a round brought: anchors, and who failed and why."""

    anchors: tuple[Anchor, ...]
    failures: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Standing:
    """How an outsider stands: the size it anchored last and when; how often it failed since, when last, how long it rests."""

    size: TreeSize = NEVER
    time: datetime | None = None
    failures: int = 0
    failed: datetime | None = None
    pause: timedelta = FIRST_PAUSE

    def rests(self, now: datetime) -> bool:
        """Whether it failed of late; a failure that lies ahead is of a clock that was put right since, and doesn't count."""
        return self.failed is not None and self.failed <= now < self.failed + self.pause


@dataclass(slots=True)
class _Gathered:
    """What a round has so far."""

    kept: list[Anchor] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


class Anchoring:
    """Anchors one log, round by round; one at a time, which the loop's lock sees to."""

    def __init__(self, audit_log: AuditLog, outsiders: Outsiders, clock: Callable[[], datetime]) -> None:
        """Reads how far each outsider has come; raises StorageError."""
        self._log = audit_log
        self._outsiders = outsiders
        self._clock = clock
        self._standings: dict[tuple[str, str], _Standing] = {}
        self._published = NEVER
        for anchor in audit_log.storage.newest_anchors():
            standing = self._standing(anchor.kind, anchor.authority)
            standing.size, standing.time = anchor.size, datetime.fromisoformat(anchor.time)

    def round(self, stopped: Callable[[], bool] = lambda: False) -> Round:
        """Asks everyone who is due.

        (1) witnesses, each with the newest checkpoint of its moment;
        (2) time-stamping authorities, at most every `stamp_every`;
        (3) one entry for each anchor that was kept, all in one commit;
        (4) publish, where the log has grown.

        Raises:
            StorageError, AppendError: the log itself fails.
        """
        gathered = _Gathered()
        for witness in self._outsiders.witnesses:  # (1)
            if not stopped() and self._is_due(self._standing(COSIGNATURE, witness.name)):
                self._try(gathered, COSIGNATURE, witness.name, partial(self._cosign, witness))
        for authority in self._outsiders.authorities:  # (2)
            standing = self._standing(RFC3161, authority.name)
            if not stopped() and self._may_stamp(standing) and self._is_due(standing):
                self._try(gathered, RFC3161, authority.name, partial(self._stamp, authority))
        if gathered.kept:
            self._record(gathered.kept)  # (3)
        if not stopped():
            self._publish(gathered)  # (4)
        return Round(tuple(gathered.kept), tuple(gathered.failures))

    def _cosign(self, witness: KnownWitness) -> Anchor:
        known = self._standing(COSIGNATURE, witness.name).size
        try:
            given = ask_cosignature(self._log.storage, witness, self._outsiders.ask, known=known)
        except WitnessContradictionError:
            self._keep_contradiction(witness)
            raise
        return self._anchor(given.shown.size, COSIGNATURE, witness.name, given.cosigned.note)

    def _stamp(self, authority: TimestampAuthority) -> Anchor:
        newest = self._log.storage.newest_checkpoint()
        response = ask_timestamp(newest.note, authority, self._outsiders.ask)
        return self._anchor(newest.size, RFC3161, authority.name, response)

    def _anchor(self, size: TreeSize, kind: str, authority: str, evidence: bytes) -> Anchor:
        return Anchor(size, kind, authority, evidence, format_time(self._clock()))

    def _try(self, gathered: _Gathered, kind: str, authority: str, ask: Callable[[], Anchor]) -> None:
        """Keeps what `ask` brings; where it brings nothing, lets the outsider rest."""
        standing = self._standing(kind, authority)
        facts = {"kind": kind, "authority": authority}
        try:
            anchor = ask()
        except (OutsideError, TimestampError) as exc:
            standing.failures += 1
            standing.failed = self._clock()
            standing.pause = min(FIRST_PAUSE * 2 ** min(standing.failures - 1, 10), LONGEST_PAUSE)
            gathered.failures.append((authority, str(exc)))
            event = "witness contradicts the log" if isinstance(exc, WitnessContradictionError) else "anchoring failed"
            level = logging.ERROR if isinstance(exc, WitnessContradictionError) else logging.WARNING
            log.log(level, event, extra={**facts, "why": str(exc), "failures": standing.failures})
            return
        # Where another host was faster its evidence stands, and its entry.
        if self._log.storage.keep_anchor(anchor):
            gathered.kept.append(anchor)
            log.info("anchored", extra={**facts, "size": anchor.size})
        standing.failures, standing.failed = 0, None
        standing.size, standing.time = anchor.size, datetime.fromisoformat(anchor.time)
        if kind == COSIGNATURE:
            self._keep_head(gathered, authority, anchor.evidence)

    def _keep_head(self, gathered: _Gathered, witness: str, note: bytes) -> None:
        try:
            keep_head(self._log.config.heads_directory, witness, note)
        except StorageError as exc:
            gathered.failures.append((witness, str(exc)))
            log.error("head not kept", extra={"authority": witness, "why": str(exc)})

    def _record(self, anchors: list[Anchor]) -> None:
        entries = []
        for anchor in anchors:
            note = self._log.storage.checkpoint(anchor.size)
            if note is None:
                message = f"checkpoint of size {anchor.size}: missing"
                raise StorageError(message)
            entry = AnchorEntry(
                id=self._log.new_entry_id(),
                time=anchor.time,
                clock=self._log.clock_status(datetime.fromisoformat(anchor.time)),
                tenant=self._log.config.tenant,
                size=anchor.size,
                root=parse_checkpoint(parse_note(note).text).root.hex(),
                kind=anchor.kind,
                authority=anchor.authority,
                evidence=sha256(anchor.evidence).hexdigest(),
            )
            entries.append((format_entry(entry), None))
        self._log.append_all(entries)

    def _publish(self, gathered: _Gathered) -> None:
        """Publishes where there is something new to publish."""
        size = self._log.storage.newest_checkpoint().size
        if self._outsiders.publish is None or (size == self._published and not gathered.kept):
            return
        try:
            self._outsiders.publish()
            self._published = size
        except (AuditError, OSError) as exc:
            gathered.failures.append(("publishing", str(exc)))
            log.error("publishing failed", extra={"why": str(exc)})

    def _keep_contradiction(self, witness: KnownWitness) -> None:
        """Brings the head that contradicts the log to where the next start will find it, if the witness shows it."""
        if not witness.monitoring_url:
            return
        config = self._log.config
        try:
            keys = load_vkeys(config.directory / VKEY_FILE)
            note = fetch_head(witness, keys, config.origin, self._outsiders.ask)
            if note is not None:
                check_warrant(note, keys, witness, self._log.storage)
                keep_head(config.heads_directory, witness.name, note)
        except AuditError as exc:
            log.error("witness's head not kept", extra={"authority": witness.name, "why": str(exc)})

    def _standing(self, kind: str, authority: str) -> _Standing:
        return self._standings.setdefault((kind, authority), _Standing())

    def _may_stamp(self, standing: _Standing) -> bool:
        return standing.time is None or not standing.time <= self._clock() < standing.time + self._outsiders.stamp_every

    def _is_due(self, standing: _Standing) -> bool:
        if standing.rests(self._clock()):
            return False
        newest = self._log.storage.newest_checkpoint().size
        if newest < standing.size:
            return True  # the log was cut short: whoever is asked will say so
        return any(read_header(entry).type != ANCHOR_TYPE for entry in self._entries(standing.size, newest))

    def _entries(self, start: TreeSize, end: TreeSize) -> Iterator[bytes]:
        for first in range(start, end, _PAGE):
            yield from self._log.storage.entries(LeafIndex(first), min(_PAGE, end - first))
