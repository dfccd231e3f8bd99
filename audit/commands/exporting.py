"""export: the log in formats that others read.

Each format is a subcommand of `bedside audit export`, added by its own function below; a new one is a function and a line in
`add`.
"""

from pathlib import Path

from audit.commands.running import Subparsers
from audit.outside import Ask


def add(subparsers: Subparsers, default_log: Path | None = None, ask: Ask | None = None) -> None:
    """Adds `export`; without `ask` what goes over HTTP can only be written to files."""
    parser = subparsers.add_parser("export", help="write or send the log in formats that others read")
    _formats = parser.add_subparsers(dest="export_format", required=True, metavar="FORMAT")
    # Each format's `add` goes here: add_csv(_formats, default_log), and so on.
