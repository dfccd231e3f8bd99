"""Whether an exported copy says what the log says: the check for whoever finds a line in a SIEM or an audit repository.

    copies = parse_copies(line)                   a line of NDJSON, CEF (also in syslog) or OTLP
    check_copy(copy, proof, log_keys, signed)     with the proof of the entry at the index that the copy names

(1) the proof carries the entry, and holds under a checkpoint that the log signed;
(2) the copy names this origin, this index and this leaf hash, and a tree that the log signed;
(3) a proof that the copy carries itself holds too;
(4) the entry, exported anew, gives the copy, element by element; of gathered OTLP records each with all that lies around it.

A line that says something twice, under one name, is none: readers differ in which they take. What a FHIR server adds to a
resource it stores is not compared: `id`, `text`, and in `meta` versionId, lastUpdated, source and tag.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import msgspec

from audit.checkpoint import Checkpoint
from audit.encoding import parse_decimal
from audit.errors import FormatError, ProofError, VerificationError
from audit.export.cef import cef_line, parse_cef
from audit.export.fhir_auditevent import audit_events
from audit.export.fhir_codes import LOG_EXTENSION, LOG_RECORD
from audit.export.otlp import logs_data
from audit.export.provenance import provenances
from audit.export.records import LogRecord, make_record
from audit.merkle import LeafIndex, TreeSize, leaf_hash
from audit.note import VerifierKey
from audit.proof import LogProof, check_proof, parse_proof

Json = Mapping[str, Any]
# The log's own checkpoint of exactly this size, None where it never signed one.
Signed = Callable[[TreeSize], bytes | None]

_PART = "copy"
_ADDED_BY_SERVERS = ("id", "text")
_META_ADDED_BY_SERVERS = ("versionId", "lastUpdated", "source", "tag")


@dataclass(frozen=True, slots=True)
class Copy:
    """What a copy says of its place, the rest of it in comparable form, and how it is made from the entry."""

    origin: str
    index: LeafIndex
    leaf_hex: str
    tree_size: TreeSize
    proof: bytes | None
    document: Any
    remake: Callable[[LogRecord], Any]


def parse_copies(line: str) -> tuple[Copy, ...]:
    """The copies in one exported line: one, or several where OTLP records were gathered.

    Raises:
        FormatError: not a line of one of our exports.
    """
    if not line.startswith("{"):
        return (_from_cef(line),)
    try:
        document = json.loads(line, object_pairs_hook=_named_once)
    except (ValueError, RecursionError) as exc:
        raise FormatError("copy: expected JSON or CEF") from exc
    try:
        if "resourceLogs" in document:
            return tuple(_from_otlp(found) for found in _single_records(document))
        return (_from_fhir(document),)
    except (KeyError, TypeError, IndexError, AttributeError, StopIteration, ValueError) as exc:
        raise FormatError("copy: doesn't say where in the log it is from") from exc


def check_copy(copy: Copy, proof: LogProof, log_keys: Sequence[VerifierKey], signed: Signed) -> Checkpoint:
    """The checkpoint under which the copy is proven to say what the log says.

    Raises:
        VerificationError: it says otherwise; names what differs.
        ProofError, SignatureError, FormatError: the proof doesn't hold.
    """
    entry = proof.extra
    if entry is None or not entry.startswith(b"{"):
        raise ProofError("proof: expected one that carries the entry")
    leaf = leaf_hash(entry)
    checkpoint = check_proof(proof, leaf, log_keys, origin=copy.origin)  # (1)
    _require(copy.index == proof.index, copy, "the proof is of another index")  # (2)
    _require(copy.leaf_hex == leaf.hex(), copy, "another leaf hash than the log's")
    had = copy.index < copy.tree_size <= checkpoint.size and signed(copy.tree_size) is not None
    _require(had, copy, "names a tree the log hasn't had")
    if copy.proof is not None:
        check_proof(parse_proof(copy.proof), leaf, log_keys, origin=copy.origin)  # (3)
    record = make_record(copy.origin, copy.index, copy.tree_size, entry, copy.proof)
    difference = _difference("", copy.remake(record), copy.document)  # (4)
    _require(difference is None, copy, f"another value than the log's at {difference}")
    return checkpoint


def _require(holds: bool, copy: Copy, reason: str) -> None:
    if not holds:
        raise VerificationError(_PART, reason, copy.index)


def _named_once(pairs: list[tuple[str, Any]]) -> Json:
    """The object with these members, no name twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise FormatError("copy: expected each member of an object once")
    return members


def _from_cef(line: str) -> Copy:
    event = parse_cef(line)
    extension = event.extension
    try:
        place = extension["cs1"], extension["cn1"], extension["cs2"], extension["cn2"]
    except KeyError as exc:
        raise FormatError("copy: doesn't say where in the log it is from") from exc
    return _copy(
        *place, None, msgspec.to_builtins(event), lambda record: msgspec.to_builtins(parse_cef(cef_line(record)))
    )


def _from_otlp(single: Json) -> Copy:
    """The copy in a document with one record."""
    (record,) = single["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    place = {item["key"]: next(iter(item["value"].values())) for item in record["attributes"] if item["value"]}
    names = ("origin", "log.index", "leaf.hash", "log.tree_size")
    origin, index, leaf, size = (str(place[name]) for name in names)
    return _copy(origin, index, leaf, size, None, single, lambda record: logs_data([record]))


def _single_records(document: Json) -> Iterator[Json]:
    """For each record the document with that record alone, and all that lies around it.

    Raises:
        FormatError: a part without records, which nothing would be compared with.
    """
    for resource in _some(document["resourceLogs"]):
        for scope in _some(resource["scopeLogs"]):
            for record in _some(scope["logRecords"]):
                alone = {**resource, "scopeLogs": [{**scope, "logRecords": [record]}]}
                yield {**document, "resourceLogs": [alone]}


def _some(items: list[Json]) -> list[Json]:
    if not items:
        raise FormatError("copy: expected at least one record")
    return items


def _from_fhir(document: Json) -> Copy:
    extension = next(item for item in document["extension"] if item["url"] == LOG_EXTENSION)
    parts = {
        part["url"]: next(value for name, value in part.items() if name != "url") for part in extension["extension"]
    }
    leaf = base64.b64decode(parts["leafHash"], validate=True).hex()
    proof = base64.b64decode(parts["proof"], validate=True) if "proof" in parts else None
    name = _record_name(document)

    def remake(record: LogRecord) -> Any:
        made = (*audit_events(record), *provenances(record))
        return next((_comparable(one) for one in made if _record_name(one) == name), None)

    return _copy(parts["origin"], parts["index"], leaf, parts["treeSize"], proof, _comparable(document), remake)


def _record_name(document: Json) -> str:
    """What tells the resources of one entry apart: our own identifier of an event, the type of a Provenance."""
    if document["resourceType"] != "AuditEvent":
        return str(document["resourceType"])
    identifiers = [item["what"]["identifier"] for item in document["entity"] if item["type"]["code"] == "AuditEvent"]
    return next(str(one["value"]) for one in identifiers if one["system"] == LOG_RECORD)


def _comparable(resource: Json) -> Json:
    kept = {name: value for name, value in resource.items() if name not in _ADDED_BY_SERVERS}
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in _META_ADDED_BY_SERVERS}
    return kept | {"meta": meta}


def _copy(
    origin: str,
    index: str,
    leaf_hex: str,
    tree_size: str,
    proof: bytes | None,
    document: Any,
    remake: Callable[[LogRecord], Any],
) -> Copy:
    place = LeafIndex(parse_decimal(index, "copy index")), TreeSize(parse_decimal(tree_size, "copy tree size"))
    return Copy(origin, place[0], leaf_hex, place[1], proof, document, remake)


def _difference(path: str, expected: Any, found: Any) -> str | None:
    """The path of the first place where two documents differ, None where they don't."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in {**expected, **found}:
            if name not in expected or name not in found:
                return f"{path}.{name}".lstrip(".")
            if difference := _difference(f"{path}.{name}", expected[name], found[name]):
                return difference
        return None
    if isinstance(expected, list) and isinstance(found, list):
        missing = object()
        for number, (one, other) in enumerate(zip_longest(expected, found, fillvalue=missing)):
            if difference := _difference(f"{path}[{number}]", one, other):
                return difference
        return None
    return None if type(expected) is type(found) and expected == found else path.lstrip(".") or "the whole"
