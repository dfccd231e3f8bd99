"""`bedside model list | verify | card`: what models there are and whether their folders are as released."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial

from bedside.environment import read_config
from bedside.versions.site import Site
from model_artifacts.card_json import card_json
from model_artifacts.errors import ModelError
from model_artifacts.folder import read_folder
from model_artifacts.local_validity import site_section
from model_artifacts.model_card import CARD_FILE, model_card
from model_artifacts.packages import package_folder
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import UNSIGNED
from model_artifacts.unfinished import unfinished
from model_artifacts.versions import Standing, Version
from smart_app.card_page import standalone_page


def fill_list(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.set_defaults(run=list_models)


def fill_verify(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.set_defaults(run=verify_models)


def fill_card(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("model", choices=tuple(model_packages()))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--write", action="store_true", help="generate MODEL_CARD.md anew from manifest and metrics")
    how.add_argument(
        "--format",
        choices=("md", "html", "json"),
        default="md",
        help="the card as released; as a page with its plots; its answers to HTI-1 and TRIPOD+AI",
    )
    parser.set_defaults(run=print_card)


def list_models(_options: argparse.Namespace) -> int:
    """Prints id, version in force, hooks and title of each installed model; exit code 1 if one is refused."""
    code = 0
    for name in model_packages():
        site = Site.open(name)
        try:
            manifest, shadow = site.in_force().manifest, site.standing.shadow
        except ModelError as exc:
            sys.stdout.write(f"{name}: REFUSED: {exc}\n")
            code = 1
        else:
            beside = "" if shadow is None else f"  (and {shadow.version} in shadow)"
            hooks = ", ".join(manifest.hooks)
            sys.stdout.write(f"{manifest.id} {manifest.version}  {hooks}  {manifest.title}{beside}\n")
    return code


def verify_models(_options: argparse.Namespace) -> int:
    """Loads each model as the service would, and each version it could go back to; exit code 1 if one is refused."""
    code = 0
    for name in model_packages():
        site = Site.open(name)
        code |= _verify(name, site.in_force)
        sys.stdout.writelines(_to_be_written(name))
        for part, versions in _kept(site.standing):
            for version in versions:
                code |= _verify(f"{name} {part} {version.version}", partial(site.stored, version.manifest))
    return code


def _to_be_written(name: str) -> Iterator[str]:
    """A line that names what the installed folder's author has still to write, where there is anything."""
    try:
        names = unfinished(read_folder(package_folder(model_packages()[name]), UNSIGNED))
    except ModelError:  # said already
        return
    if names:
        yield f"{name}: still to be written (TODO): {', '.join(names)}\n"


def _kept(standing: Standing) -> Iterator[tuple[str, tuple[Version, ...]]]:
    yield "in shadow", () if standing.shadow is None else (standing.shadow,)
    yield "before", standing.before


def _verify(name: str, load: Callable[[], ReleasedModel]) -> int:
    try:
        model = load()
    except ModelError as exc:
        sys.stdout.write(f"{name}: REFUSED: {exc}\n")
        return 1
    sys.stdout.write(f"{name}: as released, sha-256 {model.identity.artifact_sha256}\n")
    return 0


def print_card(options: argparse.Namespace) -> int:
    """Prints the card of the version in force and what this site measured of it, or writes it anew into the model's folder."""
    config = read_config()
    # Who writes a card makes the model, and signs it when the card is there. Whoever reads one wants that of what answers here.
    installed = model_packages()[options.model]
    model = ReleasedModel.load(installed, UNSIGNED) if options.write else Site.open(options.model).in_force()
    card = model.folder / CARD_FILE
    if options.write:
        card.write_text(model_card(model), encoding="utf-8")
        sys.stdout.write(f"{card} written; what is signed has changed: bedside model sign {options.model}\n")
    elif options.format == "html":
        sys.stdout.write(standalone_page(model))
    elif options.format == "json":
        sys.stdout.write(f"{json.dumps(card_json(model), ensure_ascii=False, indent=2)}\n")
    else:
        sys.stdout.write(card.read_text(encoding="utf-8") if card.exists() else model_card(model))
        sys.stdout.write("\n" + site_section(config.local_validation, model.identity))
    return 0
