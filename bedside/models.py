"""`bedside model`: the table of its verbs. Imports none of them, so that each costs its own imports only.

A new verb is a module of its own with a function that adds its arguments to a parser, and a line here.
"""

from __future__ import annotations

import argparse

from audit.commands.verbs import Verb, add_verbs

VERBS = (
    Verb("list", "installed models and their versions", "bedside.models_installed:fill_list"),
    Verb("verify", "check every model folder as a start of the service does", "bedside.models_installed:fill_verify"),
    Verb("evaluate", "validate a model on this site's own patients", "bedside.site_evaluation.command:fill"),
    Verb("new", "write a package for a model of one's own", "bedside.new_model.command:fill"),
    Verb("card", "print a model's card", "bedside.models_installed:fill_card"),
    Verb("show", "one model: version, signature, gate, bands, history", "bedside.versions.showing:fill_show"),
    Verb("compare", "two versions: examples, metrics, the log", "bedside.versions.showing:fill_compare"),
    Verb("promote", "put a signed version in force", "bedside.versions.promoting:fill_promote"),
    Verb("rollback", "put the version before in force again", "bedside.versions.promoting:fill_rollback"),
    Verb("shadow", "run a signed version beside the one in force", "bedside.versions.promoting:fill_shadow"),
    Verb("sign", "sign a model folder, as its developer", "bedside.models_signing:fill"),
    Verb(
        "drift", "whether a model still sees what it was made for, and its risks still hold", "bedside.drift.verb:fill"
    ),
)


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds the verbs."""
    add_verbs(parser, "model_verb", VERBS)
