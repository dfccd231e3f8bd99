"""The verbs of `bedside audit`, one module for each group of them.

Each verb is a function from parsed arguments to an exit status, set as `run` in the parsed arguments: 0 done or valid,
1 invalid, 2 usage, 3 rollback or fork. A new verb is that function, another that adds its arguments, and a line here.
"""

import argparse

from audit.commands.running import UNCONFIGURED, Configured, Subparsers
from audit.commands.verbs import Verb, add_verbs

VERBS = (
    Verb("init", "make the keys and the empty log", "audit.commands.basic:fill_init"),
    Verb("prove", "write the proof of one entry", "audit.commands.basic:fill_prove"),
    Verb(
        "verify", "verify a log, a published folder, a bundle or a receipt, offline", "audit.commands.basic:fill_verify"
    ),
    Verb("keys", "the log's keys: list, new, rotate, retire, rewrap", "audit.commands.keys:fill"),
    Verb("epoch", "go on under a new origin and key, after a compromise", "audit.commands.epochs:fill"),
    Verb("show", "print entries", "audit.commands.reading:fill_show"),
    Verb("search", "find entries", "audit.commands.reading:fill_search"),
    Verb("timeline", "every entry about one patient; needs the log's keys", "audit.commands.reading:fill_timeline"),
    Verb("report", "what is in the log, with its head", "audit.commands.reading:fill_report"),
    Verb("export", "write or send the log in formats that others read", "audit.commands.exporting:fill"),
    Verb("publish", "write the log as plain tiles, or serve them over HTTP", "audit.commands.publishing:fill"),
    Verb("fsck", "look whether the log's files are in order", "audit.commands.checking:fill_fsck"),
    Verb("drill", "tamper with a copy in ten ways, and show each alarm", "audit.commands.checking:fill_drill"),
    Verb("witness", "cosign other logs' checkpoints", "audit.commands.witness:fill"),
)


def add_commands(parser: argparse.ArgumentParser, given: Configured = UNCONFIGURED) -> Subparsers:
    """The verbs as subparsers of `parser`, which is that of `bedside audit`; further ones can be added to them."""
    return add_verbs(parser, "audit_verb", VERBS, given)
