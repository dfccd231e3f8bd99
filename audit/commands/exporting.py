"""export: the log in formats that others read, to a file, to standard output, or to a server; and the check of a copy.

Each format is a subcommand of `bedside audit export`, added by its own function below; a new one is a function and a line in
`fill`. What is sent goes by a cursor, so that each run continues where the last one got an acknowledgement.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from audit.access import Look
from audit.commands.auditors import add_bundle, add_csv
from audit.commands.opening import note_look, now, reading
from audit.commands.running import (
    INVALID,
    VALID,
    Configured,
    Subparsers,
    add_log,
    add_look,
    guarded,
    index_argument,
    trusted_keys,
)
from audit.errors import FormatError, NoSuchEntryError, ProofError, SignatureError, VerificationError
from audit.export.cef import cef_line
from audit.export.copies import check_copy, parse_copies
from audit.export.cursor import Cursor
from audit.export.delivery import AppendedFile, Destination, Lines, deliver, write_file
from audit.export.errors import DeliveryError, ExportError
from audit.export.fhir_auditevent import audit_events
from audit.export.fhir_profiles import definitions
from audit.export.otlp import OtlpCollector, logs_data
from audit.export.provenance import provenances
from audit.export.push import FhirServer, Resources, Sending, json_line, ndjson
from audit.export.records import LogRecord, head_of, read_records
from audit.export.retrying import Patience
from audit.export.syslog import PORT, SyslogCollector, tls_context
from audit.keys import VKEY_FILE
from audit.log import prove_entry
from audit.merkle import LeafIndex
from audit.note import VerifierKey
from audit.outside import Ask
from audit.private_files import read_private
from audit.storage import Storage

DEFAULT_REASON = "operations"
EVERY_S, LONGEST_EVERY_S = 5.0, 86400.0

# A destination, from the arguments that name it.
ToDestination = Callable[[argparse.Namespace], Destination]


@dataclass(frozen=True, slots=True)
class Format:
    """A format by name: its lines in a file, and what takes it over a network."""

    name: str
    lines: Lines
    destination: ToDestination


def fill(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds the formats; without `given.ask` what goes over HTTP can only be written to files."""
    default_log, ask = given.log, given.ask
    formats = parser.add_subparsers(dest="export_format", required=True, metavar="FORMAT")
    _add_fhir(formats, default_log, ask, "fhir-auditevent", audit_events, "FHIR R4 AuditEvents (IHE BALP)")
    _add_fhir(formats, default_log, ask, "provenance", provenances, "FHIR R4 Provenance of what models made")
    _add_cef(formats, default_log)
    _add_otlp(formats, default_log, ask)
    add_bundle(formats, default_log)
    add_csv(formats, default_log)
    _add_profiles(formats)
    _add_check(formats, default_log)


def export(arguments: argparse.Namespace, kind: Format) -> int:
    """Writes or sends the log from where the arguments say."""
    destination = _destination(arguments, kind)
    with reading(arguments.log) as storage:
        if destination is None:
            _write(arguments, storage, kind)
        else:
            _send(arguments, storage, kind, destination)
    return VALID


def check(arguments: argparse.Namespace) -> int:
    """Says of each line of a file whether it is a copy of what the log says."""
    good = bad = 0
    with reading(arguments.log) as storage, arguments.file.open("rb") as file:
        keys = trusted_keys(arguments.key, arguments.log / VKEY_FILE)
        for number, line in enumerate(file, 1):
            if line.strip():
                problem = _problem(storage, line.rstrip(b"\r\n"), keys)
                good, bad = good + (problem is None), bad + (problem is not None)
                if problem is not None:
                    print(f"line {number}: {problem}")
    print(f"{good} of {good + bad} lines are copies of what the log says")
    return INVALID if bad or not good else VALID


def profiles(arguments: argparse.Namespace) -> int:
    """Writes our own FHIR definitions, one file each."""
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    for resource in definitions():
        path = folder / f"{resource['resourceType']}-{resource['id']}.json"
        path.write_text(json.dumps(resource, indent=2) + "\n")
        print(path)
    return VALID


def _problem(storage: Storage, line: bytes, keys: tuple[VerifierKey, ...]) -> str | None:
    """What is wrong with a copy, None where nothing is."""
    try:
        for copy in parse_copies(line.decode()):
            check_copy(copy, prove_entry(storage, copy.index), keys, storage.checkpoint)
    except UnicodeDecodeError:
        return "expected UTF-8"
    except NoSuchEntryError as exc:
        return f"the log has {exc}"
    except (FormatError, ProofError, SignatureError, VerificationError) as exc:
        return str(exc)
    return None


def _note(arguments: argparse.Namespace, storage: Storage, kind: Format) -> bool:
    """Whether there is anything to export; then it is recorded that the log leaves.

    Once for a run: what is looked at while following would be an entry about itself.
    """
    size = int(storage.newest_checkpoint().size)
    if size == 0:  # nobody's log yet, so no look can be recorded, and nothing may leave it
        return False
    asked = {"format": kind.name, "to": arguments.to, "from": arguments.start}
    note_look(arguments, storage, lambda: Look("export", max(size - arguments.start, 0), asked=asked))
    return True


def _destination(arguments: argparse.Namespace, kind: Format) -> Destination | None:
    """Where it goes by a cursor; None where all of it is written at once."""
    if arguments.to is not None:
        return kind.destination(arguments)
    if not arguments.follow:
        return None
    if arguments.output is None:
        raise ExportError("--follow: expected --to or --output")
    return AppendedFile(arguments.output, kind.lines)


def _write(arguments: argparse.Namespace, storage: Storage, kind: Format) -> None:
    records: Iterable[LogRecord] = ()
    if _note(arguments, storage, kind):
        records = read_records(storage, LeafIndex(arguments.start), proofs=arguments.proofs)
    if arguments.output is None:
        for record in records:
            sys.stdout.write(kind.lines(record).decode())
        return
    print(f"{write_file(arguments.output, records, kind.lines)} entries written", file=sys.stderr)


def _send(arguments: argparse.Namespace, storage: Storage, kind: Format, destination: Destination) -> None:
    """Delivers from the cursor on; while following, until interrupted, and a destination that fails is tried again."""
    origin = head_of(storage.newest_checkpoint().note).origin
    place = f"{kind.name} {_place(arguments)}"
    with Cursor(arguments.log, _cursor_name(arguments, kind), origin, place) as cursor:
        step = partial(deliver, storage, destination, cursor, start=LeafIndex(arguments.start), proofs=arguments.proofs)
        if not arguments.follow:
            delivered = step() if _note(arguments, storage, kind) else 0
            print(f"{delivered} entries delivered", file=sys.stderr)
            return
        try:
            while not _note(arguments, storage, kind):
                time.sleep(arguments.every)
            _follow(step, arguments.every)
        except KeyboardInterrupt:
            print(f"stopped before index {cursor.next or 0}", file=sys.stderr)


def _follow(step: Callable[[], int], every_s: float) -> None:
    while True:
        try:
            step()
        except DeliveryError as exc:
            print(exc, file=sys.stderr)
        time.sleep(every_s)


def _cursor_name(arguments: argparse.Namespace, kind: Format) -> str:
    """A name of its own for each format and destination, unless one is given."""
    if arguments.cursor is not None:
        return str(arguments.cursor)
    return f"{kind.name}-{sha256(os.fsencode(_place(arguments))).hexdigest()[:12]}"


def _place(arguments: argparse.Namespace) -> str:
    return str(arguments.output.resolve()) if arguments.to is None else arguments.to


def _patience() -> Patience:
    return Patience(time.sleep, now)


def _headers(arguments: argparse.Namespace) -> Mapping[str, str]:
    """The headers in a private file, one `Name: value` to a line: they may hold a token."""
    if arguments.headers is None:
        return {}
    lines = [line.partition(":") for line in read_private(arguments.headers).splitlines() if line.strip()]
    if not all(separator and name.strip() for name, separator, _ in lines):
        raise ExportError("--headers: expected lines of the form Name: value")
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _need(ask: Ask | None, arguments: argparse.Namespace) -> Ask:
    if ask is None:
        raise ExportError("--to: expected an outbound configuration; without one, export to a file")
    _address(arguments, ("http", "https"), "an http or https address")
    return ask


def _address(arguments: argparse.Namespace, schemes: tuple[str, ...], expected: str) -> SplitResult:
    """The address that was given, with a host that can be asked for and a port that can be.

    Raises:
        ExportError: it isn't such a one.
    """
    message = f"--to: expected {expected}"
    try:
        text: str = arguments.to
        text.encode()
        parts = urlsplit(text)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError as exc:  # a UnicodeError is one
        raise ExportError(message) from exc
    if parts.scheme not in schemes or not host:
        raise ExportError(message)
    return parts


def _add_fhir(
    formats: Subparsers, default_log: Path | None, ask: Ask | None, name: str, make: Resources, words: str
) -> None:
    def destination(arguments: argparse.Namespace) -> Destination:
        base = arguments.to.rstrip("/")
        sending = Sending(arguments.sending)
        return FhirServer(base, make, _need(ask, arguments), _patience(), _headers(arguments), sending)

    def lines(record: LogRecord) -> bytes:
        return ndjson(make(record))

    parser = _add_format(formats, default_log, Format(name, lines, destination), words)
    parser.add_argument("--proofs", action="store_true", help="attach to each resource its proof")
    parser.add_argument("--headers", type=Path, metavar="FILE", help="headers to send, one a line, as Authorization: …")
    parser.add_argument(
        "--sending",
        choices=[one.value for one in Sending],
        default=Sending.BATCH.value,
        help="in Bundles of this kind, one by one, or as updates by id (default batch)",
    )


def _add_cef(formats: Subparsers, default_log: Path | None) -> None:
    def destination(arguments: argparse.Namespace) -> Destination:
        parts = _address(arguments, ("syslog+tls",), "syslog+tls://host:port")
        context = tls_context(arguments.ca, arguments.certificate, arguments.certificate_key)
        port, accept_fin = PORT if parts.port is None else parts.port, arguments.accept_fin
        return SyslogCollector(parts.hostname or "", port, context, time.sleep, accept_fin=accept_fin)

    def lines(record: LogRecord) -> bytes:
        return cef_line(record).encode() + b"\n"

    parser = _add_format(formats, default_log, Format("cef", lines, destination), "CEF lines, over syslog and TLS")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="authorities to trust, PEM (default: the system's)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="our own certificate, PEM")
    parser.add_argument("--certificate-key", type=Path, metavar="FILE", help="its key, PEM")
    parser.add_argument(
        "--accept-fin", action="store_true", help="for collectors that end the connection without TLS's close_notify"
    )


def _add_otlp(formats: Subparsers, default_log: Path | None, ask: Ask | None) -> None:
    def destination(arguments: argparse.Namespace) -> Destination:
        def warn(message: str) -> None:
            print(message, file=sys.stderr)

        return OtlpCollector(arguments.to, _need(ask, arguments), _patience(), _headers(arguments), warn)

    def lines(record: LogRecord) -> bytes:
        return json_line(logs_data([record]))

    parser = _add_format(formats, default_log, Format("otlp", lines, destination), "OpenTelemetry logs, OTLP/HTTP JSON")
    parser.add_argument("--headers", type=Path, metavar="FILE", help="headers to send, one a line, as Authorization: …")


def _add_format(formats: Subparsers, default_log: Path | None, kind: Format, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = formats.add_parser(kind.name, help=words)
    add_log(parser, default_log)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file (default: print)")
    where.add_argument("--to", metavar="URL", help="send, from where the last acknowledged sending ended")
    parser.add_argument(
        "--from",
        dest="start",
        type=index_argument,
        default=0,
        metavar="N",
        help="begin at index N, where nothing was sent before",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is appended, until interrupted")
    parser.add_argument(
        "--every",
        type=_pause_argument,
        default=EVERY_S,
        metavar="S",
        help=f"look for more every S seconds (default {EVERY_S:g})",
    )
    parser.add_argument(
        "--cursor", metavar="NAME", help="the name under which the place is kept (default: from the address)"
    )
    add_look(parser, DEFAULT_REASON)
    parser.set_defaults(run=guarded(partial(export, kind=kind)), proofs=False)
    return parser


def _pause_argument(text: str) -> float:
    value = float(text)
    if not 0 < value <= LONGEST_EVERY_S:
        message = f"expected seconds above 0 and at most {LONGEST_EVERY_S:g}"
        raise argparse.ArgumentTypeError(message)
    return value


def _add_profiles(formats: Subparsers) -> None:
    parser = formats.add_parser("profiles", help="write our own FHIR profiles, extension and codes, for a FHIR server")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to write into")
    parser.set_defaults(run=guarded(profiles))


def _add_check(formats: Subparsers, default_log: Path | None) -> None:
    parser = formats.add_parser("check", help="say whether exported lines are copies of what the log says")
    add_log(parser, default_log)
    parser.add_argument("file", type=Path, metavar="FILE", help="lines of NDJSON, CEF (also in syslog) or OTLP")
    parser.add_argument("--key", help="the log's verifier key, or a file of them (default: log.vkey beside the log)")
    parser.set_defaults(run=guarded(check))
