"""The verbs of `bedside audit`, one module for each group of them.

Each verb is a function from parsed arguments to an exit status, set as `run` in the parsed arguments: 0 done or valid,
1 invalid, 2 usage, 3 rollback or fork. A new verb is one function, and a line in the `add` of its module; a new module is a
line here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from audit.commands import basic, checking, epochs, exporting, keys, publishing, reading, witness
from audit.commands.running import Subparsers
from audit.log import LogConfig
from audit.outside import Ask


def add_commands(
    subparsers: Subparsers,
    default_log: Path | None = None,
    ask: Ask | None = None,
    default_vault: Path | None = None,
    logs: Callable[[], Sequence[LogConfig]] = tuple,
) -> None:
    """Adds the verbs to the subparsers of `bedside audit`.

    The defaults are the configured directories of the log and of its vault, `ask` is the way out, `logs` gives every log
    that is configured, for what lies elsewhere of it.
    """
    basic.add(subparsers, default_log, logs)
    keys.add(subparsers, default_log, default_vault)
    epochs.add(subparsers, default_log, default_vault)
    reading.add(subparsers, default_log, default_vault)
    exporting.add(subparsers, default_log, ask)
    publishing.add(subparsers, default_log)
    checking.add(subparsers, default_log, default_vault)
    witness.add(subparsers)
