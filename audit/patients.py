"""A patient's entries: found by trying the patient's key on each, since no leaf says whom it is about. Pure.

    an entry is about the patient    HMAC(K_patient, entry id) stands in it, or it is feedback on such a decision

One pass over the log, some 10 µs an entry; it also finds decisions that keep no payload. Where the payloads alone are asked
for, `Storage.payloads_under` finds them by an index.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from audit.entry import EntryHeader, read_header
from audit.merkle import LeafIndex
from audit.vault import SubjectKey

FEEDBACK = "feedback/v1"


@dataclass(frozen=True, slots=True)
class Found:
    """One entry about the patient."""

    index: LeafIndex
    header: EntryHeader
    entry: bytes


class _Feedback(msgspec.Struct, frozen=True):
    decision: str


_feedback_decoder = msgspec.json.Decoder(_Feedback)


def entries_about(entries: Iterable[bytes], key: SubjectKey) -> Iterator[Found]:
    """The entries about the patient whose key this is, in order of index; `entries` is the log from its first entry on.

    Raises:
        EntryError: an entry's header can't be read.
    """
    about: set[str] = set()
    for number, entry in enumerate(entries):
        header = read_header(entry)
        if header.type == FEEDBACK:
            is_about = _feedback_decoder.decode(entry).decision in about
        else:
            is_about = key.commitment(header.id).encode("ascii") in entry
        if is_about:
            about.add(header.id)
            yield Found(LeafIndex(number), header, entry)
