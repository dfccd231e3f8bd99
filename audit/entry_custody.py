"""Entry kinds about what was done with the log's contents: who looked, what was erased, what is held.

As `audit.entry` says: kinds share no base, and one that has been released is never edited. Pure.
"""

import msgspec

from audit.fields import Code, Count, EntryId, Hex256, Timestamp


class AccessEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="access/v1"
):
    """Someone looked: `action` is read, search, export, decrypt, replay, report or prove; `filter` digests what was asked.

    `actor` is the keyed digest of an account, `index` the entry that was looked at where it was one, `results` how many
    entries were given.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    actor: Hex256
    role: Code
    action: Code
    index: Count | None
    filter: Hex256 | None
    results: Count
    reason: Code


class ErasureEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="erasure/v1"
):
    """Keys and payloads of patients were destroyed; the id is the request's.

    `subjects` patients lost their key, `payloads` entries their payload; `erased` is SHA-256 over a salt and the indices of
    these entries, both kept with the store, so that a payload missing otherwise shows. `approval` is SHA-256 of the signed
    approvals. `retention` says how the retention duty was met: `ended`, or the code of the law that lets it be cut short.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    reason: Code
    subjects: Count
    payloads: Count
    erased: Hex256
    requested_by: Hex256
    approved_by: Hex256
    approval: Hex256
    retention: Code


class HoldEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="hold/v1"):
    """A legal hold was placed on a patient's entries, or released; `patient` is the commitment under the patient's key."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    hold: EntryId
    action: Code
    patient: Hex256
    reason: Code
    until: Timestamp | None
    requested_by: Hex256
    approved_by: Hex256 | None
