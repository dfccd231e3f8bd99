"""`bedside model show | compare`: what a model is here, in which version, who vouches for it, and how two versions differ.

What the log has is read from one tenant's log, and the look is recorded there before anything is printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from audit.access import Look
from audit.commands.opening import note_look, reading
from audit.commands.running import add_look
from audit.entry import parse_entry
from audit.entry_operations import ModelEntry
from audit.errors import AuditError
from audit.log import LogConfig, read_entries
from audit.storage import Query, Storage
from bedside.config import ConfigError
from bedside.offered import build_services, load_models
from bedside.starting import BESIDE
from bedside.tenants import tenant_log
from bedside.versions.comparing import agreement, agreement_lines, compare_examples, metric_lines
from bedside.versions.site import Site
from model_artifacts.errors import ModelError
from model_artifacts.folder import ModelFolder
from model_artifacts.gate import judge, verdict_lines
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from model_artifacts.versions import Standing, load_version

REASON = "operations"
ENTRIES = 1000


def fill_show(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("model", choices=tuple(model_packages()))
    _add_log(parser)
    parser.set_defaults(run=run_show)


def fill_compare(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("model", choices=tuple(model_packages()))
    parser.add_argument("--candidate", type=Path, metavar="DIR", help="a signed version (default: the one in shadow)")
    parser.add_argument("--examples", action="store_true", help="only what both say of the package's examples")
    _add_log(parser)
    parser.set_defaults(run=run_compare)


def run_show(options: argparse.Namespace) -> int:
    """Exit code 0, or 1 where the service wouldn't start with this model as it is, or the log tells another version.

    Raises:
        ConfigError: no such tenant.
        ModelError: the store can't be read.
    """
    site, code = Site.open(options.model), 0
    standing = site.standing
    try:
        model = site.in_force()
    except ModelError as exc:
        sys.stdout.write(f"{site.name}: REFUSED: {exc}\n")
        code = 1
    else:
        _write(_model_lines(site, model, standing))
    _write(_standing_lines(standing))
    try:
        entries = _history(site, options)
    except AuditError as exc:
        sys.stdout.write(f"log: {exc}\n")
        return code
    _write(_history_lines(entries))
    told = _disagreement(site, entries)
    _write([] if told is None else [told])
    return code if told is None else 1


def run_compare(options: argparse.Namespace) -> int:
    """Exit code 0 if both run on every example, whatever they say.

    Raises:
        ConfigError: nothing to compare with.
        ModelError: the candidate isn't one, doesn't fit the installed code, or fails on an example.
        AuditError: the look can't be recorded.
    """
    site = Site.open(options.model)
    one, other = site.in_force(), _other(site, options.candidate)
    names = one.manifest.version, other.manifest.version
    pairs = compare_examples(one, other)
    _write([f"version {names[0]} -> version {names[1]}"])
    _write(f"  {pair.case}: {pair.one} -> {pair.other}{'' if pair.alike else '  DIFFERS'}" for pair in pairs)
    if options.examples:
        return 0
    _write(metric_lines(site.files_of(one).metrics, site.files_of(other).metrics, names[0]))
    place = tenant_log(site.config, options.tenant)
    digests = one.identity.manifest_sha256, other.identity.manifest_sha256
    with reading(place.directory) as storage:
        found = agreement(read_entries(storage), site.name, *digests)
        _record_look(options, storage, place, found.calls)
    _write(agreement_lines(found))
    return 0


def _other(site: Site, folder: Path | None) -> ReleasedModel:
    if folder is not None:
        digest = site.candidate(folder).manifest_sha256
        return load_version(site.package, folder, site.trust, digest)
    shadow = site.standing.shadow
    if shadow is None:
        raise ConfigError("--candidate: expected a folder, as nothing runs in shadow")
    return site.stored(shadow.manifest)


def _model_lines(site: Site, model: ReleasedModel, standing: Standing) -> Iterator[str]:
    manifest, identity, files = model.manifest, model.identity, site.files_of(model)
    where = "installed" if standing.in_force is None else "promoted"
    yield f"{manifest.id} {manifest.version} ({where}): {manifest.title}"
    yield f"signed by {_signer(files)}"
    yield f"manifest {identity.manifest_sha256}"
    yield f"graph {identity.artifact_sha256}"
    yield f"card {identity.card_sha256}"
    for band in manifest.bands:
        yield f"band {band.code} from {band.at_least:g}: {band.label} ({band.indicator})"
    yield f"population: {manifest.population.text}"
    yield f"used: {', '.join(_uses(site)) or 'nowhere, it is not among models.enabled'}"
    yield from verdict_lines(judge(manifest.gate, files.metrics)) or ["gate: none, so no version can be promoted by it"]


def _signer(files: ModelFolder) -> str:
    return "nobody" if files.signed is None else f"{files.signed.key.name} {files.signed.key.hint}"


def _uses(site: Site) -> Iterator[str]:
    """The services of this model, each with its hooks; what is off now is `bedside switch list`'s."""
    config = site.config
    if site.name not in config.models.enabled:
        return
    for service in build_services(config, load_models(config)):
        if service.model.manifest.id == site.name:
            hidden = " (shadow, by models.shadow)" if site.name in config.models.shadow else ""
            yield f"{service.id} at {', '.join(service.hooks)}{hidden}"


def _standing_lines(standing: Standing) -> Iterator[str]:
    shadow = standing.shadow
    yield "shadow: none" if shadow is None else f"shadow: version {shadow.version}, manifest {shadow.manifest}"
    for before in standing.before:
        yield f"before: version {before.version}, manifest {before.manifest}"


def _history(site: Site, options: argparse.Namespace) -> list[ModelEntry]:
    """What the tenant's log has about the model's versions, the newest first."""
    place = tenant_log(site.config, options.tenant)
    with reading(place.directory) as storage:
        found = storage.find(Query(type="model/v1", model=site.name, limit=ENTRIES))
        entries = [parse_entry(data) for item in found if (data := storage.entry(item.index)) is not None]
        _record_look(options, storage, place, len(found))
    return [entry for entry in entries if isinstance(entry, ModelEntry)]


def _record_look(options: argparse.Namespace, storage: Storage, place: LogConfig, results: int) -> None:
    look = Look("report", results, asked={"report": "model-versions", "model": options.model})
    asking = argparse.Namespace(**vars(options) | {"log": place.directory})
    note_look(asking, storage, lambda: look, head_path=place.head_path)


def _history_lines(entries: list[ModelEntry]) -> Iterator[str]:
    for entry in entries:
        yield f"log: {entry.time} {entry.action} version {entry.version}, manifest {entry.manifest[:16]}: {entry.reason}"
    if not entries:
        yield "log: nothing about this model"


def _disagreement(site: Site, entries: list[ModelEntry]) -> str | None:
    """Where the log tells of a change that didn't come about: the power was cut in between, or the store was changed."""
    newest = next((entry for entry in entries if entry.action not in BESIDE), None)
    current = site.identity_in_force()
    if newest is None or current is None or newest.manifest == current.manifest_sha256:
        return None
    return (
        f"the log's newest entry is {newest.action} of version {newest.version}, and in force is version {current.version}: "
        "that change did not come about; what runs is recorded at the next start"
    )


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", metavar="NAME", help="whose log (default: audit.tenant)")
    add_look(parser, REASON)


def _write(lines: Iterator[str] | list[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
