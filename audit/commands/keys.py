"""keys: list, new, rotate, retire, rewrap. What they do, and when, is in docs/keys.md.

A key in a token is named by its `pkcs11:` URI. A PIN never stands on a command line, which other users and the shell's history
see: the URI names the file it is in.
"""

import argparse
import os
from functools import partial
from pathlib import Path

from audit.commands.opening import appending, now, reading
from audit.commands.running import VALID, Configured, Subparsers, add_log, code_argument, guarded
from audit.errors import KeyFileError
from audit.key_history import SIGNING, WRAPPING, format_periods
from audit.keys import (
    DESTROYED,
    KEY_DIRECTORY,
    NEXT_SIGNING_FILE,
    OLD_WRAPPING_FILE,
    VKEY_FILE,
    load_keys,
)
from audit.note import format_vkey
from audit.pkcs11 import Pkcs11Signer, Pkcs11Wrapper, make_signing_key, make_wrapping_key
from audit.pkcs11_uri import Pkcs11Uri, format_uri, parse_uri
from audit.private_files import read_private
from audit.rewrapping import rewrap as run_rewrap
from audit.rotation import OLD_SIGNING_FILE, SCHEDULED, OpenLog, signing_periods
from audit.rotation import retire as run_retire
from audit.rotation import rotate as run_rotate


def fill(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds the verbs."""
    verbs = parser.add_subparsers(dest="keys_verb", required=True, metavar="VERB")
    _add_list(verbs, given.log)
    _add_new(verbs)
    rotate_parser = _add_changing(verbs, "rotate", "bring in a new signing key beside the old one", given.log)
    retire_parser = _add_changing(verbs, "retire", "end the old signing key of a rotation", given.log)
    rewrap_parser = _add_changing(verbs, "rewrap", "replace the wrapping key, and destroy it", given.log)
    for parser in (rotate_parser, retire_parser, rewrap_parser):
        add_vault(parser, given.vault)
    for parser, verb in ((rotate_parser, rotate), (retire_parser, retire), (rewrap_parser, rewrap)):
        parser.set_defaults(run=guarded(verb))
    for parser in (rotate_parser, rewrap_parser):
        parser.add_argument("--token-key", type=token_uri, metavar="URI", help="a key that `keys new` made in a token")
    retire_parser.add_argument(
        "--destroy-token-key",
        action="store_true",
        help="destroy the old key in its token, where no other host needs it",
    )


def list_keys(arguments: argparse.Namespace) -> int:
    """Prints each verifier key with the first and last tree size it signs, and what is under way."""
    directory: Path = arguments.log
    with reading(directory) as storage:
        print(format_periods(signing_periods(storage, directory / VKEY_FILE)), end="")
    keys = directory / KEY_DIRECTORY
    if not keys.is_dir():
        return VALID
    print(f"# wrapping key {load_keys(directory).wrapper.key_id}")
    if (keys / NEXT_SIGNING_FILE).exists() or (keys / OLD_SIGNING_FILE).exists():
        print("# a rotation of the signing key is under way: `keys retire` ends it")
    old = keys / OLD_WRAPPING_FILE
    if old.exists() and not read_private(old).startswith(DESTROYED):
        print("# keys are being wrapped anew: `keys rewrap` goes on with it")
    return VALID


def new(arguments: argparse.Namespace) -> int:
    """Makes a key in a token, and prints its URI, and what it is known by."""
    uri: Pkcs11Uri = arguments.in_token
    if arguments.purpose == WRAPPING:
        made = make_wrapping_key(uri, os.urandom)
        print(f"{format_uri(made)}\n{Pkcs11Wrapper(made, os.urandom).key_id}")
        return VALID
    if arguments.origin is None:
        raise KeyFileError("keys new: expected --origin, the name that the log signs in")
    made = make_signing_key(uri, os.urandom)
    print(f"{format_uri(made)}\n{format_vkey(Pkcs11Signer(made, arguments.origin).verifier_key)}")
    return VALID


def rotate(arguments: argparse.Namespace) -> int:
    """Brings in a new signing key, and prints the verifier key to give to those who verify."""
    uri = None if arguments.token_key is None else format_uri(arguments.token_key)
    key = run_rotate(arguments.log, _opener(arguments), now(), os.urandom, uri=uri, reason=arguments.reason)
    print(format_vkey(key))
    return VALID


def retire(arguments: argparse.Namespace) -> int:
    """Ends the old signing key, and prints the one that signs alone now."""
    destroy: bool = arguments.destroy_token_key
    key = run_retire(arguments.log, _opener(arguments), now(), destroy_in_token=destroy, reason=arguments.reason)
    print(format_vkey(key))
    return VALID


def rewrap(arguments: argparse.Namespace) -> int:
    """Replaces the wrapping key, and prints the new one's id."""
    uri = None if arguments.token_key is None else format_uri(arguments.token_key)
    report = run_rewrap(arguments.log, _opener(arguments), now(), os.urandom, uri=uri, reason=arguments.reason)
    print(f"{report.key_id}: {report.keys} keys wrapped anew; the old wrapping key is destroyed")
    return VALID


def token_uri(text: str) -> Pkcs11Uri:
    """The URI given on a command line, without a PIN."""
    try:
        uri = parse_uri(text)
    except KeyFileError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    if uri.pin is not None:
        message = "give pin-source=file:..., for pin-value shows on a command line"
        raise argparse.ArgumentTypeError(message)
    return uri


def add_vault(parser: argparse.ArgumentParser, default_vault: Path | None) -> None:
    """Adds the directory of the vault, where it isn't the log's."""
    parser.add_argument(
        "--vault", type=Path, default=default_vault, metavar="DIR", help="directory of the vault (default: the log's)"
    )


def _opener(arguments: argparse.Namespace) -> OpenLog:
    return partial(appending, arguments.log, arguments.vault)


def _add_list(verbs: Subparsers, default_log: Path | None) -> None:
    parser = verbs.add_parser("list", help="print verifier keys with the tree sizes they sign")
    add_log(parser, default_log)
    parser.set_defaults(run=guarded(list_keys))


def _add_new(verbs: Subparsers) -> None:
    parser = verbs.add_parser("new", help="make a key in a token")
    parser.add_argument(
        "--in-token", type=token_uri, required=True, metavar="URI", help="with token, object, module-path"
    )
    parser.add_argument("--purpose", choices=(SIGNING, WRAPPING), default=SIGNING)
    parser.add_argument("--origin", help="name of the log, for a signing key")
    parser.set_defaults(run=guarded(new))


def _add_changing(verbs: Subparsers, name: str, text: str, default_log: Path | None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    add_log(parser, default_log)
    parser.add_argument(
        "--reason", type=code_argument, default=SCHEDULED, help=f"a code for the log entry (default {SCHEDULED})"
    )
    return parser
