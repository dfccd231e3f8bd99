"""What the verbs of custody are given: patients in a file, and the key of the officer who signs."""

import argparse
import re
import sys
from pathlib import Path

from audit.errors import CustodyError, KeyFileError
from audit.keys import make_signer
from audit.note import Signer
from audit.pkcs11_uri import is_uri
from audit.private_files import read_private

_PATIENT_ID = re.compile(r"[!-~]{1,255}")  # a FHIR id, or whatever else an EHR sends in its place


def read_patients(path: Path) -> list[str]:
    """The ids in a file, `-` for standard input, one a line.

    Raises:
        CustodyError: a line that holds no id, or several; it names the line.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CustodyError("patients: expected UTF-8") from None
    patients = text.splitlines()
    for number, patient in enumerate(patients, start=1):
        if not _PATIENT_ID.fullmatch(patient):
            message = f"line {number}: expected one patient id without spaces"
            raise CustodyError(message)
    return patients


def read_signer(arguments: argparse.Namespace) -> Signer:
    """The officer's key; one in a token (PKCS#11) says whose it is by `--officer`."""
    text = read_private(arguments.key)
    if is_uri(text) and not arguments.officer:
        raise KeyFileError("--officer: expected your name, for the key is in a token")
    return make_signer(text, arguments.officer or "")


def add_patients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patients", type=Path, metavar="FILE", help="patient ids, one a line; - for standard input")


def add_signature(parser: argparse.ArgumentParser, default_reason: str | None = None) -> None:
    add_key(parser)
    required = default_reason is None
    parser.add_argument("--reason", default=default_reason, required=required, metavar="CODE", help="why, for the log")


def add_previous(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--previous",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="directory of the epoch before, whose records count and go too; repeated for those before it",
    )


def add_key(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--key", type=Path, required=required, metavar="FILE", help="your key, or the pkcs11: URI of it"
    )
    parser.add_argument("--officer", metavar="NAME", help="your name, where your key is in a token")
