"""The types of entry fields: each held to a form that leaves no room for free text or a person's name. Pure."""

from typing import Annotated, TypeAlias

from msgspec import Meta

MAX_INTEGER = 2**53 - 1  # RFC 8785 writes numbers as IEEE 754 doubles

# \Z, not $: a dollar would let a final line feed through.
EntryId: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]  # a UUID; the idempotency key
Hex256: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Timestamp: TypeAlias = Annotated[
    str, Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{6}Z\Z")
]
Code: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}\Z")]
Token: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,255}\Z")]
WebOrigin: TypeAlias = Annotated[
    str, Meta(pattern=r"^https?://[A-Za-z0-9.\[\]_:-]{1,255}\Z")
]  # no path: it may name a patient
LogOrigin: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x2a\x2c-\x7e]{1,255}\Z")]  # no space, no plus
CheckpointText: TypeAlias = Annotated[str, Meta(pattern=r"^[\x0a\x20-\x7e\u2014]{1,8192}\Z")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
VerifierKeyText: TypeAlias = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,512}\Z")]
Millionths: TypeAlias = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]  # of a figure: entries hold no fractions
