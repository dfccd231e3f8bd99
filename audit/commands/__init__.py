"""The verbs of `bedside audit`, one module for each group of them.

Each verb is a function from parsed arguments to an exit status, set as `run` in the parsed arguments: 0 done or valid,
1 invalid, 2 usage, 3 rollback or fork. A new verb is one function, and a line in the `add` of its module; a new module is a
line here.
"""

from pathlib import Path

from audit.commands import basic
from audit.commands.running import Subparsers


def add_commands(subparsers: Subparsers, default_log: Path | None = None) -> None:
    """Adds the verbs to the subparsers of `bedside audit`; `default_log` is the configured log directory."""
    basic.add(subparsers, default_log)
