"""publish: the log as files and over HTTP, for those who check it."""

import argparse
import sys
from pathlib import Path

from audit.commands.opening import reading
from audit.commands.running import USAGE, VALID, Configured, add_log, guarded
from audit.keys import VKEY_FILE, load_vkeys
from audit.publish import Publisher
from audit.tiles_app.serving import serve_tiles


def fill(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    add_log(parser, given.log)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="bring this folder up to the newest entry")
    parser.add_argument("--cosigned", action="store_true", help="stay at the newest size that a witness signed")
    parser.add_argument("--rewrite", action="store_true", help="write files again that are there already")
    parser.add_argument(
        "--serve", type=_address, metavar="HOST:PORT", help="serve the folder, or without one the log as it grows"
    )
    parser.set_defaults(run=guarded(publish))


def publish(arguments: argparse.Namespace) -> int:
    """Brings a folder up to date, serves it or the log, or both."""
    if arguments.output is None and arguments.serve is None:
        print("publish: expected --output FOLDER, --serve HOST:PORT, or both", file=sys.stderr)
        return USAGE
    if arguments.output is not None:
        publisher = Publisher(arguments.output, load_vkeys(arguments.log / VKEY_FILE))
        with reading(arguments.log) as storage:
            done = publisher.publish(storage, cosigned=arguments.cosigned, rewrite=arguments.rewrite)
        print(
            f"published {done.checkpoint.size} entries: {done.files_written} files, {done.bytes_written} bytes written"
        )
    if arguments.serve is not None:
        host, port = arguments.serve
        serve_tiles(arguments.log, arguments.output, host, port)
    return VALID


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        message = "expected HOST:PORT"
        raise argparse.ArgumentTypeError(message)
    return host.removeprefix("[").removesuffix("]"), int(port)
