"""Entry kinds about the log and the service itself: what was switched, configured, deployed, rotated, missed or checked.

As `audit.entry` says: kinds share no base, and one that has been released is never edited. Pure.
"""

import msgspec

from audit.fields import CheckpointText, Code, Count, EntryId, Hex256, LogOrigin, Timestamp, Token, VerifierKeyText


class SwitchEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="switch/v1"
):
    """Something was switched off or on again: a service, a model, or all of a tenant; by whom as a keyed digest."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    scope: Code
    name: Code
    off: bool
    reason: Code
    operator: Hex256 | None


class GapEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="gap/v1"):
    """Between `since` and `until`, `unacknowledged` entries were refused or timed out in one process."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    since: Timestamp
    until: Timestamp
    reason: Code
    unacknowledged: Count


class ConfigEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="config/v1"
):
    """The software and configuration in force from here on."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    software: Hex256
    software_version: Code
    config: Hex256
    models: tuple[Hex256, ...]


class EpochEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="epoch/v1"):
    """The first entry of an epoch: its origin, why it began, and the last checkpoint of the one before."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    origin: LogOrigin
    reason: Code
    previous: CheckpointText | None


class VerifyEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="verify/v1"
):
    """A full verification that was run, and what it found."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    size: Count
    root: Hex256
    outcome: Code
    first_bad_index: Count | None


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="model/v1"):
    """A model version came into use or left it; `action` is deploy, promote, rollback, shadow, withdraw or kill.

    Action `evaluate` says that a site validated it on its own patients: the reason is `report:` and the report's SHA-256.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    action: Code
    model: Code
    version: Code
    artefact: Hex256
    manifest: Hex256
    card: Hex256
    replaces: Hex256 | None
    reason: Code
    operator: Hex256 | None


class KeyRotationEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="keyrotate/v1"
):
    """A key came into use or left it; `purpose` is signing, witnessing or wrapping, `action` introduce, retire or destroy.

    A signing key is introduced under a checkpoint that the old and the new key sign both, so whoever trusts the old key can
    follow to the new one; `vkey` is its verifier key. A wrapping key has an id only.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    purpose: Code
    action: Code
    key_id: Code
    vkey: VerifierKeyText | None
    reason: Code
    operator: Hex256 | None


class AnchorEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="anchor/v1"
):
    """An outsider has the head of this size: a cosignature or rfc3161 (`kind`); `evidence` is SHA-256 of what came back."""

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    size: Count
    root: Hex256
    kind: Code
    authority: Token
    evidence: Hex256
