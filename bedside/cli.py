"""The command line: `bedside serve | demo | doctor | switch … | report … | audit … | model … | report …`.

Each verb is a function that takes the parsed arguments and returns an exit code. Exit codes of `audit`: 0 valid, 1 invalid,
2 usage, 3 rollback or fork.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from audit.commands import add_commands
from audit.commands.running import FAILURES, outcome
from audit.errors import AuditError
from bedside.anchoring import add_anchor
from bedside.config import Config, ConfigError
from bedside.custody import add_custody
from bedside.demo import add_demo
from bedside.doctor import add_doctor
from bedside.logs import configure_logging
from bedside.models import add_model_commands
from bedside.outsiders import way_out
from bedside.replaying import add_replay
from bedside.report import add_report
from bedside.serving import add_serve
from bedside.switching import add_switch
from bedside.wiring import log_configs, read_config
from cds_service.errors import ServiceError
from model_artifacts.errors import ModelError


def build_parser(config: Config) -> argparse.ArgumentParser:
    """The whole command line; defaults come from the configuration."""
    parser = argparse.ArgumentParser(prog="bedside", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_serve(verbs)
    add_demo(verbs)
    add_doctor(verbs)
    add_model_commands(verbs)
    add_report(verbs)
    add_switch(verbs)
    audit = verbs.add_parser(
        "audit", help="the decision log: look into it, verify it, prove, export, erase, hold, keys"
    )
    audit_verbs = audit.add_subparsers(dest="audit_verb", required=True, metavar="VERB")
    add_commands(
        audit_verbs,
        config.audit.directory,
        ask=lambda *asked, **how: way_out(config)(*asked, **how),  # made when it is needed: no other verb looks at it
        default_vault=config.audit.vault_directory,
        logs=lambda: log_configs(config),
    )
    add_replay(audit_verbs)
    add_anchor(audit_verbs)
    add_custody(audit_verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; errors of ours become one line on standard error and exit code 2."""
    try:
        options = build_parser(read_config()).parse_args(arguments)
        if options.verb == "audit" and options.audit_verb == "witness":
            configure_logging()
        code = _run(options)
    except (ConfigError, ModelError, AuditError, ServiceError) as exc:
        sys.stderr.write(f"bedside: {exc}\n")
        return 2
    return code


def _run(options: argparse.Namespace) -> int:
    """Its exit code; a verb of `audit` tells by it what is wrong with the log, also where it doesn't see to that itself."""
    run: Callable[[argparse.Namespace], int] = options.run
    if options.verb != "audit":
        return run(options)
    try:
        return run(options)
    except FAILURES as exc:
        code, message = outcome(exc)
    sys.stderr.write(f"bedside: {message}\n")
    return code
