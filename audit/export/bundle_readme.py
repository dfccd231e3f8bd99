"""The letter to the auditor that lies in a bundle. Pure."""

from collections.abc import Sequence

from audit.checkpoint import Checkpoint
from audit.encoding import format_base64
from audit.note import VerifierKey, format_vkey

_TEXT = """\
A signed decision log, for audit
================================

origin  {origin}
size    {size} entries
root    {root}

Each decision of the service is one entry of an append-only log. The log is a Merkle tree (RFC 6962), its head is signed, and
all of it lies here as plain files (C2SP tlog-tiles, c2sp.org), so any tool that knows these formats can read it.

To check it, with Python 3.8 or later and nothing else, no network:

    python3 -I -S verify.py --key {key}

The key is what makes this the log of the one you audit: compare{keys} with what they gave you by other means, on paper or in
a contract. Where the log replaced its key, the first one alone isn't enough: ask for all of them, as `bedside audit keys list`
prints them, and give that file. Without --key the verifier takes log.vkey from this folder. verify.py itself came with the
bundle too; it is one file that can be read, and its digest can be compared with that of a copy from elsewhere. What SHA256SUMS
adds is protection from accidents; what proves is the signature.

The verifier ends with status 0 when all holds, 1 with the first bad index when something doesn't, 2 when it can't be run as
asked, 3 when the log contradicts an older head of its own.

What the check shows: every entry here is in the log at its index, unchanged, and none between them is left out. What it can't
show by itself: that whoever holds the log's key hasn't written another history. For that, bring a head from elsewhere, such
as the checkpoint in a receipt or in an earlier bundle:

    python3 -I -S verify.py --key ... --head checkpoint-of-last-year

A receipt (.tlog-proof), which belongs to one decision, is checked with --receipt FILE. The policy file says which witnesses
must have signed a head; give your own with --policy FILE.

Entries name no patient and hold no clinical value: they commit to them. Where `range` is there, entries of that part of the
log are given (in whole tiles of 256); of all others there are the hashes.
{time_stamps}"""

_TIME_STAMPS = """
Time stamps (RFC 3161): timestamps/SIZE.N.tsr is an authority's answer over the bytes of timestamps/SIZE.checkpoint. verify.py
sees that it is over that checkpoint; who signed it and when, OpenSSL tells, given the authority's certificates:

    openssl ts -verify -data timestamps/SIZE.checkpoint -in timestamps/SIZE.N.tsr -CAfile authority.pem
"""


def format_readme(checkpoint: Checkpoint, log_keys: Sequence[VerifierKey], time_stamps: int) -> str:
    """The text, for a bundle with so many time stamps."""
    vkeys = [format_vkey(key) for key in log_keys]
    several = "".join(f"\n\n    {vkey}" for vkey in vkeys) + "\n\n" if len(vkeys) > 1 else " the one above"
    return _TEXT.format(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=format_base64(checkpoint.root),
        key=f"'{vkeys[0]}'" if len(vkeys) == 1 else "FILE-OF-KEYS",
        keys=several,
        time_stamps=_TIME_STAMPS if time_stamps else "",
    )
