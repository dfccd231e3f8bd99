"""What can go wrong in the log, split by what the caller must do about it.

`FormatError`, `SignatureError` and `ProofError` say that bytes handed to us prove nothing. `AppendError` says that a
decision has no receipt, so no card may be shown. `RollbackError` and `ForkError` say that the log contradicts an
older head of its own: both heads are data of the error, because together they are the evidence.
"""


class AuditError(Exception):
    """Base of every error this package raises."""


class FormatError(AuditError):
    """Bytes that aren't in the format they claim to be in."""


class EntryError(FormatError):
    """An entry that may not be logged: not canonical, of unknown kind, too large, or with a field of the wrong form."""


class SignatureError(AuditError):
    """A note without a valid signature of a trusted key, or with a wrong one."""


class ProofError(AuditError):
    """An inclusion or consistency proof that doesn't hold."""


class KeyFileError(AuditError):
    """A key file that is missing, malformed, or readable by others."""


class TokenError(KeyFileError):
    """A token (PKCS#11) that can't be reached, refuses the PIN, or lacks the key."""


class PayloadError(AuditError):
    """A payload that can't be opened: absent, altered, or sealed under another key."""


class ErasedError(PayloadError):
    """The key was destroyed, and with it whatever was under it: nobody can read that any more."""


class StorageError(AuditError):
    """The store can't be opened, read or written."""


class UnsignedHeadError(StorageError):
    """The newest checkpoint in the store isn't one that the log signed, so nothing may be built on it."""


class HoldError(AuditError):
    """Something a legal hold keeps; `holds` are the names of those in force."""

    def __init__(self, holds: tuple[str, ...]) -> None:
        self.holds = holds
        super().__init__(f"under legal hold: {', '.join(holds)}")


class NoSuchEntryError(AuditError):
    """The log has no entry at an index, or none with a payload."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"no entry {index}")


class AppendError(AuditError):
    """An entry that was not acknowledged; whoever asked must act as if nothing had been logged."""


class AppendTimeoutError(AppendError):
    """No acknowledgement within the deadline; `withdrawn` tells whether the entry is sure never to be written."""

    def __init__(self, deadline_s: float, *, withdrawn: bool) -> None:
        self.deadline_s = deadline_s
        self.withdrawn = withdrawn
        state = "withdrawn" if withdrawn else "may still be written"
        super().__init__(f"no acknowledgement within {deadline_s * 1000:.0f} ms, entry {state}")


class LogOverloadedError(AppendError):
    """Too many entries are waiting already; this one was shed."""


class EntryConflictError(AppendError):
    """The entry id is taken by an entry with other bytes."""


class LogClosedError(AppendError):
    """The log was closed, or is used in another process than the one that opened it."""


class ApprovalError(AuditError):
    """An erasure, or the end of a hold, that wasn't approved as it has to be: by different officers, of this request."""


class CustodyError(AuditError):
    """An act of custody that can't be done: no such request or hold, no record of a patient, or not at this point."""


class RetentionError(AuditError):
    """Records that have to be kept longer, or a rule that would let them go too early."""


class EpochEndedError(AppendError):
    """The log was closed for good: it is read and verified as before, and goes on in the epoch `following`."""

    def __init__(self, following: str, reason: str) -> None:
        self.following = following
        self.reason = reason
        super().__init__(f"the log is closed ({reason}); it goes on in epoch {following}")


class RollbackError(AuditError):
    """The log is smaller than a head it signed before."""

    def __init__(self, known: bytes, found: bytes) -> None:
        self.known = known
        self.found = found
        super().__init__(f"the log was rolled back\nknown head:\n{_shown(known)}\nfound head:\n{_shown(found)}")


class ForkError(AuditError):
    """The log isn't an extension of a head it signed before."""

    def __init__(self, known: bytes, found: bytes) -> None:
        self.known = known
        self.found = found
        super().__init__(f"the log forked\nknown head:\n{_shown(known)}\nfound head:\n{_shown(found)}")


class VerificationError(AuditError):
    """The first thing in the log that doesn't hold: `index` of the entry, or None where the part isn't an entry's."""

    def __init__(self, part: str, reason: str, index: int | None = None) -> None:
        self.part = part
        self.reason = reason
        self.index = index
        place = f"first bad index {index}, {part}" if index is not None else part
        super().__init__(f"{place}: {reason}")


def _shown(note: bytes) -> str:
    return note.decode("utf-8", "backslashreplace") or "(none)"
