"""`bedside model promote | rollback | shadow`: changes which version of a model is in force, or runs beside it.

The order is the point. A candidate's signature and digests come first; then whether the installed code can run it, on the
package's own examples too; then its gate, the one in force's as well; then the comparison. What is refused there is recorded
as an attempt. What is let through is recorded in every tenant's log, and only then put in force, in one step: so whatever
happens in between, `bedside model show` says which of the two it was, and the log of the next start says what runs.

Workers that run keep the version they have loaded. They take the new one when they start: at a restart, or one after the other
where the service's main process is sent SIGHUP.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audit.commands.running import code_argument
from bedside.config import ConfigError
from bedside.versions.comparing import ExamplePair, compare_examples, metric_lines
from bedside.versions.recording import Change, record_change, take_back
from bedside.versions.site import Site
from model_artifacts.assessment import ModelIdentity
from model_artifacts.folder import ModelFolder
from model_artifacts.gate import Gate, Verdict, joined, judge, judge_against, verdict_lines
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel, identity_of
from model_artifacts.versions import Standing, StoreError, UnfitError, Version, check_follows

CODE_CHARS = 128  # of a code in the log
WHEN = "it acts when a worker starts: restart the service, or send its main process SIGHUP, which starts them anew one by one"


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that the installed code runs, beside the version in force."""

    model: ReleasedModel
    files: ModelFolder
    in_force: ReleasedModel
    examples: tuple[ExamplePair, ...]


def fill_promote(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    _add_model(parser)
    parser.add_argument("--candidate", type=Path, required=True, metavar="DIR", help="the signed version's folder")
    _add_why(parser)
    parser.set_defaults(run=run_promote)


def fill_rollback(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    _add_model(parser)
    _add_why(parser)
    parser.set_defaults(run=run_rollback)


def fill_shadow(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    _add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--candidate", type=Path, metavar="DIR", help="the signed version's folder")
    what.add_argument("--off", action="store_true", help="nothing runs beside the version in force any more")
    _add_why(parser)
    parser.set_defaults(run=run_shadow)


def run_promote(options: argparse.Namespace) -> int:
    """Exit code 0 if the candidate is in force from each worker's next start, 1 if it was refused and that is recorded.

    Raises:
        ModelError: the candidate isn't one: unsigned, altered, of another model; or somebody else is at work.
        AuditError: it could not be recorded, so it isn't in force.
    """
    site = Site.open(options.model)
    with site.store.changing(site.name):
        candidate = site.candidate(options.candidate)
        try:
            tried = _try_out(site, candidate)
            check_follows(candidate.manifest, tried.in_force.manifest, site.known_versions(), candidate.manifest_sha256)
        except UnfitError as exc:
            return _refuse(site, candidate, options, exc.code, [str(exc)])
        verdicts = _gate_verdicts(site, tried)
        _tell(_comparison(site, tried), verdict_lines(verdicts))
        broken = [verdict for verdict in verdicts if not verdict.passed]
        if broken:
            return _refuse(site, candidate, options, _gate_code(broken), ["its gate isn't passed"])
        _put_in_force(site, tried, options)
    before = tried.in_force.manifest.version
    _tell([f"model {site.name}: version {candidate.manifest.version} is promoted, after {before}; {WHEN}"])
    return 0


def run_rollback(options: argparse.Namespace) -> int:
    """Exit code 0 if the version before is in force from each worker's next start.

    Raises:
        ConfigError: no version was in force here before.
        ModelError: that version was altered, is by no trusted key, or doesn't fit the installed code.
        AuditError: it could not be recorded, so nothing has changed.
    """
    site = Site.open(options.model)
    with site.store.changing(site.name):
        standing = site.standing
        if not standing.before:
            raise ConfigError(f"model {site.name}: expected a version to go back to, and none was in force here before")
        target, *rest = standing.before
        earlier, installed = site.stored(target.manifest), site.installed_identity()
        change = Change("rollback", options.reason, options.operator)
        record_change(site.config, earlier.identity, change, site.identity_in_force())
        is_installed = installed is not None and installed.manifest_sha256 == target.manifest
        after = msgspec.structs.replace(standing, in_force=None if is_installed else target, before=tuple(rest))
        _stand(site, earlier.identity, change, after)
    _tell([f"model {site.name}: back to version {earlier.manifest.version}; {WHEN}"])
    return 0


def run_shadow(options: argparse.Namespace) -> int:
    """Exit code 0 if the candidate runs in shadow from each worker's next start, or none does; 1 if it was refused.

    Raises:
        ConfigError: another one runs in shadow already, or none does.
        ModelError: as `run_promote`.
        AuditError: it could not be recorded, so nothing has changed.
    """
    site = Site.open(options.model)
    with site.store.changing(site.name):
        if options.off:
            return _end_shadow(site, options)
        standing = site.standing
        if standing.shadow is not None:
            message = f"model {site.name}: expected nothing in shadow, got version {standing.shadow.version}; see --off"
            raise ConfigError(message)
        candidate = site.candidate(options.candidate)
        try:
            tried = _try_out(site, candidate)
        except UnfitError as exc:
            return _refuse(site, candidate, options, exc.code, [str(exc)])
        _tell(_comparison(site, tried), verdict_lines(_gate_verdicts(site, tried)))
        change = Change("shadow", options.reason, options.operator)
        record_change(site.config, tried.model.identity, change, None)
        shadow = Version.of(tried.model.identity)
        _stand(site, tried.model.identity, change, msgspec.structs.replace(standing, shadow=shadow))
    _tell([f"model {site.name}: version {candidate.manifest.version} runs in shadow; {WHEN}"])
    return 0


def _end_shadow(site: Site, options: argparse.Namespace) -> int:
    standing = site.standing
    if standing.shadow is None:
        raise ConfigError(f"model {site.name}: expected a version in shadow, and there is none")
    change = Change("shadow-end", options.reason, options.operator)
    record_change(site.config, standing.shadow.identity(site.name), change, None)
    site.store.stand(site.name, msgspec.structs.replace(standing, shadow=None))
    _tell([f"model {site.name}: nothing runs in shadow; {WHEN}"])
    return 0


def _try_out(site: Site, candidate: ModelFolder) -> Tried:
    """The candidate, laid into the store and run on the examples by the installed code.

    Raises:
        UnfitError: the installed code can't run it, or it is in force already.
    """
    in_force = site.in_force()
    if candidate.manifest_sha256 == in_force.identity.manifest_sha256:
        message = f"version {candidate.manifest.version} of model {site.name} has the manifest of the one in force"
        raise UnfitError(message, model_id=site.name, code="in-force")
    site.store.keep(candidate)
    model = site.stored(candidate.manifest_sha256)
    return Tried(model, candidate, in_force, compare_examples(in_force, model))


def _gate_verdicts(site: Site, tried: Tried) -> tuple[Verdict, ...]:
    """What the candidate's gate and the one in force's say of the candidate."""
    current = site.files_of(tried.in_force)
    gate = joined(tried.files.manifest.gate, current.manifest.gate)
    if gate == Gate():
        reason = "a version is promoted by bounds that it keeps, and [gate] in its manifest gives none"
        return (Verdict("no-gate", False, "neither version has a gate", reason),)
    metrics = tried.files.metrics
    return judge(gate, metrics) + judge_against(gate, metrics, current.metrics, current.manifest.version)


def _comparison(site: Site, tried: Tried) -> Iterable[str]:
    """The examples on which the two differ, and both evaluations' figures."""
    one, other = tried.in_force.manifest.version, tried.files.manifest.version
    alike = sum(pair.alike for pair in tried.examples)
    yield f"version {one} -> version {other}: {alike} of {len(tried.examples)} examples alike"
    for pair in tried.examples:
        if not pair.alike:
            yield f"  {pair.case}: {pair.one} -> {pair.other}"
    yield from metric_lines(site.files_of(tried.in_force).metrics, tried.files.metrics, one)


def _gate_code(broken: Iterable[Verdict]) -> str:
    """The refusal's reason in the log: the rules that were broken, as many as fit."""
    code = "gate"
    for separator, verdict in zip((":", *"+" * 64), broken, strict=False):
        longer = f"{code}{separator}{verdict.name}"
        if len(longer) > CODE_CHARS:
            break
        code = longer
    return code


def _refuse(site: Site, candidate: ModelFolder, options: argparse.Namespace, code: str, why: Iterable[str]) -> int:
    """Records the attempt and says why; exit code 1."""
    site.store.discard(site.name, candidate.manifest_sha256)
    change = Change("refuse", code, options.operator)
    record_change(site.config, identity_of(candidate), change, site.identity_in_force())
    _tell([f"model {site.name}: version {candidate.manifest.version} is REFUSED: {line}" for line in why])
    return 1


def _put_in_force(site: Site, tried: Tried, options: argparse.Namespace) -> None:
    site.store.keep(site.files_of(tried.in_force))  # what is gone back to must be here, whatever is installed then
    standing, version = site.standing, Version.of(tried.model.identity)
    change = Change("promote", options.reason, options.operator)
    record_change(site.config, tried.model.identity, change, tried.in_force.identity)
    after = Standing(
        in_force=version,
        before=(Version.of(tried.in_force.identity), *standing.before),
        shadow=None if standing.shadow == version else standing.shadow,
    )
    _stand(site, tried.model.identity, change, after)


def _stand(site: Site, identity: ModelIdentity, change: Change, standing: Standing) -> None:
    """Acts on what was recorded; where that can't be done, the logs are told."""
    try:
        site.store.stand(site.name, standing)
    except StoreError:
        take_back(site.config, identity, change)
        raise


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", choices=tuple(model_packages()))


def _add_why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", type=code_argument, required=True, metavar="CODE", help="why, for the log")
    parser.add_argument("--operator", metavar="ACCOUNT", help="who decided it (default: the account this runs as)")


def _tell(*parts: Iterable[str]) -> None:
    for part in parts:
        sys.stdout.writelines(f"{line}\n" for line in part)
