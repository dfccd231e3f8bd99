"""The command line: `bedside serve | demo | doctor | switch … | report … | audit … | model …`.

Each verb is a function that takes the parsed arguments and returns an exit code. Exit codes of `audit`: 0 valid, 1 invalid,
2 usage, 3 rollback or fork. A new verb is a module with that function and one that adds its arguments, and a line here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pkgutil import resolve_name

from audit.commands import add_commands
from audit.commands.running import FAILURES, Configured, outcome
from audit.commands.verbs import Verb, add_verbs, more_verbs
from audit.errors import AuditError
from bedside.config import Config, ConfigError
from bedside.environment import read_config
from bedside.logs import configure_logging
from bedside.tenants import log_configs
from cds_service.errors import ServiceError
from model_artifacts.errors import ModelError

VERBS = (
    Verb("serve", "answer CDS Hooks calls", "bedside.serving:fill"),
    Verb("demo", "run Bedside with the pocket EHR on this machine", "bedside.demo:fill"),
    Verb("doctor", "check the installation and configuration", "bedside.doctor:fill"),
    Verb("model", "the models: look at them, verify, promote", "bedside.models:fill"),
    Verb("report", "what the log tells: feedback", "bedside.report:fill"),
    Verb("switch", "switch services, models or a tenant off and on, while the service runs", "bedside.switching:fill"),
)
# Those of `bedside audit` that need more of the configuration than where the log is.
AUDIT_VERBS = (
    Verb("replay", "repeat a recorded decision; needs the patient's key in the vault", "bedside.replaying:fill"),
    Verb("anchor", "give the logs' heads to the configured witnesses and authorities", "bedside.anchoring:fill"),
    Verb("erase", "forget patients: their keys and payloads", "bedside.custody:fill_erase"),
    Verb("hold", "legal holds", "bedside.custody:fill_hold"),
    Verb("retention", "what may go by its age", "bedside.custody:fill_retention"),
    Verb("officer", "keys that officers sign with", "audit.commands.custody:fill_officer"),
)


def build_parser(config: Config) -> argparse.ArgumentParser:
    """The whole command line; defaults come from the configuration."""
    parser = argparse.ArgumentParser(prog="bedside", description=__doc__)
    verbs = add_verbs(parser, "verb", VERBS)
    audit = verbs.add_parser(
        "audit", help="the decision log: look into it, verify it, prove, export, erase, hold, keys"
    )
    given = Configured(
        log=config.audit.directory,
        vault=config.audit.vault_directory,
        # made when it is needed: no other verb looks at it
        ask=lambda *asked, **how: resolve_name("bedside.outsiders:way_out")(config)(*asked, **how),
        logs=lambda: log_configs(config),
    )
    more_verbs(add_commands(audit, given), AUDIT_VERBS)
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
