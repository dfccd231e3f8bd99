"""What `verify` checks besides a log and a receipt: a folder that a log was published in, and an auditor's bundle."""

import argparse
from pathlib import Path

from audit.commands.running import VALID, given_heads, head_paths, refuse_unheeded, trusted_keys
from audit.directory_scan import is_published_log, verify_folder
from audit.encoding import format_base64
from audit.export import verifier
from audit.export.bundle import SUMS_FILE
from audit.keys import VKEY_FILE
from audit.storage.opening import STORE_FILE
from audit.storage.sqlite_schema import DATABASE_FILE
from audit.verify import Trust

_BUNDLE_HINT = "; its verify.py asks for witnesses by --policy, and its README.txt says how OpenSSL checks time stamps"


def is_published(path: Path) -> bool:
    """Whether `verify_published` is for this folder: a published log or a bundle, and no log's own directory."""
    return is_published_log(path) and not any((path / name).exists() for name in (DATABASE_FILE, STORE_FILE))


def verify_published(path: Path, arguments: argparse.Namespace) -> int:
    """Verifies a bundle as its own verifier does, or a published folder; and prints what holds."""
    if (path / SUMS_FILE).is_file():
        refuse_unheeded(
            arguments, "a bundle", "head_file", "witness_key", "tsa_roots", "entry", "previous", hint=_BUNDLE_HINT
        )
        key = [] if arguments.key is None else ["--key", arguments.key]
        return verifier.main([str(path), *key, *(f"--head={head}" for head in head_paths(arguments))])
    refuse_unheeded(arguments, "a published folder", "head_file", "tsa_roots", "entry", "previous")
    keys = trusted_keys(arguments.key, path / VKEY_FILE)
    heads = given_heads(arguments)
    origin = None if arguments.foreign else keys[0].name
    witnesses = tuple(key for given in arguments.witness_key for key in trusted_keys(given, Path(given)))
    report = verify_folder(path, Trust(keys, origin, heads, witnesses), ours=not arguments.foreign)
    newest = report.checkpoint
    print(f"valid: {report.entries} entries, {report.files} files, {report.heads} heads kept elsewhere")
    print(f"origin {newest.origin}\nsize {newest.size}\nroot {format_base64(newest.root)}")
    if report.unchecked_signatures:
        print(f"{report.unchecked_signatures} signatures are by keys that were not given: not checked")
    return VALID
