"""What is under legal hold: by the vault, and by the signed log, which no one who writes in the vault alone can change.

A hold/v1 entry names its patient by a commitment under the patient's own key. So whether a key is held is asked of the key
itself: a hold that vanished from the vault, or that an older copy put in its place lacks, still keeps what it is on.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from audit.approvals import HOLD_PLACE
from audit.custody import APPROVED, RECORDED, Custody
from audit.custody_epochs import epochs
from audit.entry import parse_entry
from audit.entry_custody import HoldEntry
from audit.errors import HoldError
from audit.log import read_entry
from audit.merkle import LeafIndex
from audit.storage import Query, Storage
from audit.storage.vault_store import Hold
from audit.vault import SubjectKey

PLACE, RELEASE = "place", "release"
HOLD_TYPE = "hold/v1"


@dataclass(frozen=True, slots=True)
class Difference:
    """A hold of which log and vault say different things."""

    hold: str
    text: str


def in_force(custody: Custody) -> list[Hold]:
    """The holds that the vault has in force now."""
    now = custody.now()
    return [hold for hold in custody.store.holds() if hold.until is None or hold.until > now]


def held_key_refs(custody: Custody) -> dict[int, str]:
    """The keys on which the vault has a hold in force now, with its name."""
    found = {}
    for hold in in_force(custody):
        key = custody.store.key(hold.lookup)
        if key is not None:
            found[key.key_ref] = hold.hold
    return found


def logged_holds(custody: Custody) -> dict[str, HoldEntry]:
    """The holds that were placed and not released, and haven't ended, by the log and the epochs before it that are given."""
    now = custody.now()
    placed: dict[str, HoldEntry] = {}
    released: set[str] = set()
    for epoch in epochs(custody):
        for entry in _entries(epoch.storage):
            if entry.action == RELEASE:
                released.add(entry.hold)
            elif entry.until is None or entry.until > now:
                placed[entry.hold] = entry
    return {name: entry for name, entry in placed.items() if name not in released}


def placed_since(custody: Custody, size: int) -> dict[str, HoldEntry]:
    """The holds that the log's entries from `size` on place."""
    return {entry.hold: entry for entry in _entries(custody.log.storage, size) if entry.action == PLACE}


def check_not_held(
    custody: Custody, key_refs: Collection[int], lookups: Iterable[bytes], logged: dict[str, HoldEntry]
) -> None:
    """Returns if nothing keeps these keys and subjects: no hold of the vault, none of `logged`, none that is being placed.

    A subject whose key is gone may be held again, as of a new patient: then the hold's entry is under the new key.

    Raises:
        HoldError: with the names of the holds.
        PayloadError: a key can't be opened, so nobody can tell.
    """
    by_lookup: dict[bytes, list[str]] = {}
    for hold in in_force(custody):
        by_lookup.setdefault(hold.lookup, []).append(hold.hold)
    for row in custody.store.requests():
        if row.kind == HOLD_PLACE and row.state in (APPROVED, RECORDED):
            for lookup in row.subjects:
                by_lookup.setdefault(lookup, []).append(row.id)
    held = held_key_refs(custody)
    found = {held[key_ref] for key_ref in key_refs if key_ref in held}
    for lookup in lookups:
        found |= {name for name in by_lookup.get(lookup, ()) if not _is_of_new_key(custody, lookup, name, key_refs)}
    if logged:
        for key_ref in key_refs:
            if custody.store.key_at(key_ref) is not None:
                found |= names_on(custody.vault.key_at(key_ref), logged)
    if found:
        raise HoldError(tuple(sorted(found)))


def names_on(key: SubjectKey, logged: dict[str, HoldEntry]) -> set[str]:
    """Those of these holds that are on the subject whose key this is."""
    return {name for name, entry in logged.items() if key.commitment(entry.id) == entry.patient}


def find_differences(custody: Custody) -> list[Difference]:
    """The holds that are in force by the log and not by the vault, and the other way round, by name."""
    logged = logged_holds(custody)
    vault = {hold.hold for hold in in_force(custody)}
    lost = [Difference(name, "in the log, and missing in the vault; it holds") for name in logged.keys() - vault]
    extra = [
        Difference(name, "in the vault, and in the log not placed, or released; it holds")
        for name in vault - logged.keys()
    ]
    return sorted(lost + extra, key=lambda one: one.hold)


def _is_of_new_key(custody: Custody, lookup: bytes, name: str, key_refs: Collection[int]) -> bool:
    key = custody.store.key(lookup)
    if key is None or key.key_ref in key_refs:
        return False
    index = custody.log.index_of(name)
    entry = None if index is None else parse_entry(custody.log.entry(index))
    return isinstance(entry, HoldEntry) and name in names_on(custody.vault.key_at(key.key_ref), {name: entry})


def _entries(storage: Storage, size: int = 0) -> Iterator[HoldEntry]:
    """The hold entries from `size` on, the newest first."""
    before: int | None = None
    while found := storage.find(Query(type=HOLD_TYPE, before=before)):
        for one in found:
            if one.index < size:
                return
            entry = parse_entry(read_entry(storage, LeafIndex(one.index)))
            if isinstance(entry, HoldEntry):
                yield entry
        before = found[-1].index
