"""What the verbs of `bedside audit` share: exit statuses, errors as one line, the arguments that several take."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

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
from audit.fields import MAX_INTEGER, Code, LogOrigin
from audit.heads import head_files
from audit.key_history import parse_periods
from audit.log import LogConfig
from audit.note import VerifierKey, parse_vkey
from audit.outside import Ask

VALID, INVALID, USAGE, ROLLBACK_OR_FORK = 0, 1, 2, 3

# What a verb may fail with: of ours, of the system's, and of values that the libraries refuse. All else is a mistake of ours.
FAILURES = (AuditError, OSError, ValueError, OverflowError)

Subparsers = Any  # argparse keeps the type of add_subparsers() to itself


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration gives the verbs, as far as there is one.

    `log` and `vault` are directories, `ask` is the way out, `logs` gives every log that is configured, for what lies elsewhere
    of it.
    """

    log: Path | None = None
    vault: Path | None = None
    ask: Ask | None = None
    logs: Callable[[], Sequence[LogConfig]] = tuple


UNCONFIGURED = Configured()


def guarded(verb: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The verb with its failures as exit statuses and one message on standard error."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            return verb(arguments)
        except FAILURES as exc:
            status, message = outcome(exc)
        print(message, file=sys.stderr)
        return status

    return run


def outcome(failure: Exception) -> tuple[int, str]:
    """The exit status that says what went wrong, and how a message words it; of `FAILURES`."""
    if isinstance(failure, RollbackError | ForkError):
        return ROLLBACK_OR_FORK, str(failure)
    if isinstance(failure, VerificationError | ProofError | SignatureError | FormatError):
        return INVALID, f"invalid: {failure}"
    if isinstance(failure, OSError):
        reason = failure.strerror or type(failure).__name__
        return USAGE, reason if failure.filename is None else f"{failure.filename}: {reason}"
    return USAGE, str(failure) if isinstance(failure, AuditError) else " ".join(str(failure).split())


def add_log(parser: argparse.ArgumentParser, default_log: Path | None) -> None:
    parser.add_argument(
        "--log", type=Path, default=default_log, required=default_log is None, metavar="DIR", help="log directory"
    )


def add_look(parser: argparse.ArgumentParser, default_reason: str) -> None:
    """Adds what every verb takes whose use is an entry of the log."""
    parser.add_argument(
        "--reason",
        type=code_argument,
        default=default_reason,
        metavar="CODE",
        help=f"why you look, for the log (default {default_reason})",
    )
    parser.add_argument(
        "--record-in",
        type=Path,
        metavar="DIR",
        help="of a closed log: directory of the epoch it goes on in, where the look is recorded",
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
    if given is None and path.exists() and not path.is_file():  # a pipe would be waited for
        message = f"verifier keys {path.name}: expected a plain file"
        raise KeyFileError(message)
    try:
        periods = parse_periods(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, FormatError) as exc:
        message = f"verifier keys {path.name}: {exc}"
        raise KeyFileError(message) from exc
    return tuple(period.key for period in periods if size is None or period.covers(size))


def refuse_unheeded(arguments: argparse.Namespace, what: str, *names: str, hint: str = "") -> None:
    """Returns if none of these options was given: what isn't heeded must not look as if it had been.

    Raises:
        ValueError: one was.
    """
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name)]
    if given:
        message = f"{' '.join(given)}: not checked for {what}{hint}"
        raise ValueError(message)


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
    if not 0 <= value <= MAX_INTEGER:
        message = f"expected a number from 0 to {MAX_INTEGER}"
        raise argparse.ArgumentTypeError(message)
    return value


def code_argument(text: str) -> str:
    """A word for an entry of the log, where no free text may stand: it could name a person."""
    try:
        return msgspec.convert(text, Code)
    except msgspec.ValidationError:
        message = "expected a code: letters, digits and . _ : + -, at most 128"
        raise argparse.ArgumentTypeError(message) from None


def name_argument(text: str) -> str:
    """The name of a log or a witness, as it signs: no space and no plus in it."""
    try:
        return msgspec.convert(text, LogOrigin)
    except msgspec.ValidationError:
        message = "expected up to 255 characters of ASCII without space and plus"
        raise argparse.ArgumentTypeError(message) from None
