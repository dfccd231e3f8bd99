"""Canary identifiers through the real pipeline. Bar: 0 in leaves, tiles, exports without identifiers, logs, metrics, errors.

Every service of a real desk, with its released model, is called over its WSGI app with charts whose identifiers are
canaries: strings that occur nowhere else, as patient, practitioner and encounter ids, names, street, telephone, birth date,
access token, a hookInstance that is no UUID, the path of the FHIR server, and the comment in feedback. Besides good calls
there are broken ones: no JSON, a wrong type, a missing id, a prefetch that has to be fetched from a host that is refused.
Then the canaries are searched for, as they are, in hexadecimal, in base64 at each alignment and in UTF-16, in every file
that came to be: the log's database, write-ahead log and head, the vault, the desk's state, published tiles, every export, a
bundle, the operations log at its most talkative, what the verbs printed, and the bodies of refusals. That the search can
find them is shown on a file that holds them; that they went through is shown by the decrypted payloads, which must hold
them. There are no metrics yet.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from audit.commands import add_commands
from audit.errors import NoSuchEntryError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from bedside.logs import JsonFormatter
from benchmarks.charts import PATIENT_ID, call_body
from benchmarks.desks import only_book, opened_desk
from benchmarks.drills import Figures
from benchmarks.drills.workload import now
from cds_service.app import create_app
from cds_service.desk import Desk
from cds_service.services import CdsService

ROUNDS = 20
_OBSERVATIONS = 40
_EXPORTS = ("fhir-auditevent", "provenance", "cef", "otlp", "csv")
# What the charts say, and what stands there in its place: a mark each, that random digits make a word of its own.
_WORDS = {
    PATIENT_ID: "canarypatient",
    "Practitioner/1": "Practitioner/canarypractitioner",
    "e1": "canaryencounter",
    "Example": "Canaryfamily",
    "Made": "Canarygiven",
    "555-0100": "canarytelephone",
    "1 Example Way": "canarystreet",
}
_BIRTH_DATE, _CANARY_BIRTH_DATE = "1968-04-12", "1961-08-23"


@dataclass(frozen=True, slots=True)
class Canaries:
    """The strings that must be found nowhere, by what they replace."""

    words: dict[str, str]

    @classmethod
    def hatched(cls) -> Canaries:
        extra = {name: f"canary{name}" for name in ("token", "path", "hookinstance", "comment", "garbage")}
        return cls({old: new + secrets.token_hex(4) for old, new in (_WORDS | extra).items()})

    def put_in(self, body: bytes) -> dict[str, Any]:
        """The call with canaries for what it said."""
        text = body.decode().replace(_BIRTH_DATE, _CANARY_BIRTH_DATE)
        for old, new in self.words.items():
            text = text.replace(f'"{old}"', f'"{new}"').replace(f"/{old}", f"/{new}")
        call: dict[str, Any] = json.loads(text)
        return call

    @property
    def needles(self) -> list[str]:
        return [*(word.partition("/")[2] or word for word in self.words.values()), _CANARY_BIRTH_DATE]


def run(workspace: Path, scale: float) -> Figures:
    """The figures of ROUNDS * scale calls of each kind to each service."""
    canaries = Canaries.hatched()
    everything = workspace / "everything"
    everything.mkdir()
    with _operations_log(everything / "operations.log"), opened_desk(everything / "log") as desk:
        requests = call_all(desk, canaries, max(1, round(ROUNDS * scale)), everything / "refusals.log")
        log = only_book(desk).log
        held = _payloads_with(log, canaries)
        entries = log.storage.newest_checkpoint().size
        export_all(log.config.directory, everything)
    files, found = search(everything, canaries)
    control = workspace / "control"
    control.mkdir()
    (control / "control").write_text("\n".join(canaries.needles))
    return {
        "requests": requests,
        "entries": int(entries),
        "canaries": len(canaries.needles),
        "files_searched": files,
        "found": len(found),
        "found_in": ", ".join(sorted({name for name, _ in found})) or "nothing",
        "payloads_with_canary": held,
        "control_missed": len(canaries.needles) - len(search(control, canaries)[1]),
    }


def call_all(desk: Desk, canaries: Canaries, rounds: int, refusals: Path) -> int:
    """How many requests were made; the bodies of those that were refused are written down."""
    client = create_app(desk, max_body_bytes=1 << 20).test_client()
    count = 0
    with refusals.open("ab") as file:
        for service in desk.services:
            for number in range(rounds):
                for path, body in _requests(service, canaries, number):
                    given = client.post(path, data=body, content_type="application/json")
                    count += 1
                    if given.status_code >= 400:
                        file.write(given.data + str(given.headers).encode())
                    elif "feedback" not in path:
                        path, body = _feedback(path, given.data, canaries)
                        file.write(client.post(path, data=body, content_type="application/json").data)
                        count += 1
    return count


def _requests(service: CdsService, canaries: Canaries, number: int) -> Iterator[tuple[str, bytes]]:
    """Good and broken calls of one service."""
    path, words = f"/cds-services/{service.id}", canaries.words
    call = canaries.put_in(call_body(service, _OBSERVATIONS + number, now() - timedelta(hours=1)))
    access = {"access_token": words["token"], "token_type": "Bearer", "expires_in": 300, "scope": "patient/*.rs"}
    server = {
        "fhirServer": f"https://ehr.example.org/{words['path']}",
        "fhirAuthorization": access | {"subject": "ehr"},
    }
    yield path, _json(call)
    yield path, _json(call | server)
    yield path, _json(call | {"hookInstance": words["hookinstance"]})
    yield path, _json(call | server | {"prefetch": {}})
    yield path, _json(call | {"prefetch": {}})
    yield path, _json(call | {"context": {"userId": call["context"]["userId"], "patientId": [words["garbage"]]}})
    yield path, _json(call | {"context": {"encounterId": words["e1"]}})
    yield path, _json(call | {"hook": words["garbage"]})
    yield path, _json(call)[:-20]
    yield path, words["garbage"].encode()
    yield f"{path}/feedback", _json({"feedback": [{"card": words["garbage"], "outcome": "accepted"}]})
    yield f"/cds-services/{words['garbage']}", _json(call)


def _feedback(path: str, given: bytes, canaries: Canaries) -> tuple[str, bytes]:
    """Feedback on the card that was shown, or on none, with a comment in the clinician's own words."""
    cards = json.loads(given).get("cards") or [{"uuid": "0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1"}]
    reason = {"reason": {"code": "other"}, "userComment": f"{canaries.words['comment']} says otherwise"}
    moment = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = {"card": cards[0]["uuid"], "outcome": "overridden", "overrideReason": reason, "outcomeTimestamp": moment}
    return f"{path}/feedback", _json({"feedback": [entry]})


def export_all(directory: Path, target: Path) -> None:
    """Every export, the published tiles, a bundle, and what the verbs print, into files of `target`."""
    verbs = [["export", name, "--log", str(directory), "-o", str(target / f"{name}.export")] for name in _EXPORTS]
    verbs += [
        ["export", "bundle", "--log", str(directory), "-o", str(target / "bundle")],
        ["publish", "--log", str(directory), "-o", str(target / "published")],
        ["show", "--log", str(directory), "--last", "1000"],
        ["prove", "0", "--log", str(directory), "-o", str(target / "0.tlog-proof")],
        ["verify", str(directory)],
        ["fsck", "--log", str(directory)],
    ]
    parser = argparse.ArgumentParser()
    add_commands(parser)
    printed = io.StringIO()
    for words in verbs:
        parsed = parser.parse_args(words)
        with redirect_stdout(printed), redirect_stderr(printed):
            status = parsed.run(parsed)
        if status != 0:
            message = f"{' '.join(words[:2])} ended with {status}: {printed.getvalue()[-500:]}"
            raise RuntimeError(message)
    (target / "printed.log").write_text(printed.getvalue(), encoding="utf-8")


def search(folder: Path, canaries: Canaries) -> tuple[int, list[tuple[str, str]]]:
    """How many files there are, and which canary is in which."""
    forms = {needle: _forms(needle) for needle in canaries.needles}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = []
    for path in files:
        data = path.read_bytes()
        lower = data.lower()
        for needle, (plain, others) in forms.items():
            if plain in lower or any(form in data for form in others):
                found.append((path.relative_to(folder).as_posix(), needle))
    return len(files), found


def _forms(needle: str) -> tuple[bytes, list[bytes]]:
    """In lower case as it is; and encoded: of base64, the letters that don't depend on what stands before and after."""
    data = needle.encode()
    others = [data.hex().encode(), data.hex().upper().encode(), needle.encode("utf-16-le")]
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        others.append(encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6])
    return data.lower(), others


def _payloads_with(log: AuditLog, canaries: Canaries) -> int:
    """How many payloads hold a canary once they are decrypted."""
    held = 0
    for index in range(log.storage.newest_checkpoint().size):
        try:
            payload = log.payload(LeafIndex(index)).decode("utf-8", "replace")
        except NoSuchEntryError:
            continue
        held += any(needle in payload for needle in canaries.needles)
    return held


@contextmanager
def _operations_log(path: Path) -> Iterator[None]:
    """Everything that any logger says, written as `bedside serve` writes it."""
    handler = logging.FileHandler(path)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
