"""What the verbs of `bedside audit` share: exit statuses, errors as one line, the arguments that several take."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from audit.errors import (
    AuditError,
    ForkError,
    FormatError,
    KeyFileError,
    ProofError,
    RollbackError,
    SignatureError,
    VerificationError,
)
from audit.heads import head_files
from audit.key_history import parse_periods
from audit.note import VerifierKey, parse_vkey

VALID, INVALID, USAGE, ROLLBACK_OR_FORK = 0, 1, 2, 3

Subparsers = Any  # argparse keeps the type of add_subparsers() to itself


def guarded(verb: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The verb with its errors as exit statuses and one message on standard error."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            return verb(arguments)
        except (RollbackError, ForkError) as exc:
            status, message = ROLLBACK_OR_FORK, str(exc)
        except (VerificationError, ProofError, SignatureError, FormatError) as exc:
            status, message = INVALID, f"invalid: {exc}"
        except AuditError as exc:
            status, message = USAGE, str(exc)
        except OSError as exc:
            status, message = USAGE, f"{exc.filename}: {exc.strerror}"
        print(message, file=sys.stderr)
        return status

    return run


def add_log(parser: argparse.ArgumentParser, default_log: Path | None) -> None:
    parser.add_argument(
        "--log", type=Path, default=default_log, required=default_log is None, metavar="DIR", help="log directory"
    )


def trusted_keys(given: str | None, beside: Path, size: int | None = None) -> tuple[VerifierKey, ...]:
    """The keys to trust: given as a vkey or a file of them, else those that lie beside what is verified.

    Of a file as `keys list` prints it, with a `size` only those in force at that size.

    Raises:
        KeyFileError: there are none.
    """
    if given is not None:
        with suppress(FormatError):
            return (parse_vkey(given),)
    path = beside if given is None else Path(given)
    try:
        periods = parse_periods(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, FormatError) as exc:
        message = f"verifier keys {path.name}: {exc}"
        raise KeyFileError(message) from exc
    return tuple(period.key for period in periods if size is None or period.covers(size))


def head_paths(arguments: argparse.Namespace) -> list[Path]:
    """The heads kept elsewhere that `verify` was given, as files and as directories of them."""
    return [*arguments.head, *(path for directory in arguments.heads for path in head_files(directory))]


def given_heads(arguments: argparse.Namespace) -> tuple[bytes, ...]:
    """Their contents; raises OSError."""
    return tuple(path.read_bytes() for path in head_paths(arguments))


def directory_argument(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():  # a misspelt one would pass for one without heads
        message = "expected a directory"
        raise argparse.ArgumentTypeError(message)
    return path


def index_argument(text: str) -> int:
    value = int(text)
    if value < 0:
        message = "expected a number from 0"
        raise argparse.ArgumentTypeError(message)
    return value
