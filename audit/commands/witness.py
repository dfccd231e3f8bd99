"""witness: a witness of one's own, to run where the logs' operators have no power. docs/outside-heads.md says how."""

import argparse
import os
from pathlib import Path

from audit.commands.running import VALID, Configured, guarded, name_argument
from audit.note import format_vkey
from audit.witness_app.serving import serve_witness
from audit.witness_state import init_witness


def fill(parser: argparse.ArgumentParser, _given: Configured) -> None:
    """Adds `witness init` and `witness serve`."""
    verbs = parser.add_subparsers(dest="witness_verb", required=True, metavar="VERB")
    making = verbs.add_parser("init", help="make the witness's key and print its verifier key")
    making.add_argument("--state", type=Path, required=True, metavar="DIR", help="must never be restored from a backup")
    making.add_argument(
        "--name", type=name_argument, required=True, help="name of the witness, e.g. witness.example/w1"
    )
    making.set_defaults(run=guarded(init))
    serving = verbs.add_parser("serve", help="answer add-checkpoint over HTTP, until told to stop")
    serving.add_argument("--state", type=Path, required=True, metavar="DIR")
    serving.add_argument("--listen", type=_address, default=("127.0.0.1", 8713), metavar="HOST:PORT")
    serving.add_argument(
        "--log", type=Path, nargs="+", required=True, metavar="VKEY_FILE", help="verifier keys of the logs, one a line"
    )
    serving.set_defaults(run=guarded(serve))


def init(arguments: argparse.Namespace) -> int:
    """Makes the witness's state, and prints the key that logs and verifiers need."""
    print(format_vkey(init_witness(arguments.state, arguments.name, os.urandom)))
    return VALID


def serve(arguments: argparse.Namespace) -> int:
    """Serves until told to stop."""
    host, port = arguments.listen
    serve_witness(arguments.state, arguments.log, host, port)
    return VALID


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        message = "expected HOST:PORT"
        raise argparse.ArgumentTypeError(message)
    return host.strip("[]"), int(port)
