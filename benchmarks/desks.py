"""A real Desk over a throw-away log, for measurements in one process: only the clock may be another."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from audit.keys import init_keys
from audit.log import LogConfig, create_log
from bedside.config import Access, Audit, Config, Models, State
from bedside.environment import now
from bedside.wiring import build_desk
from cds_service.desk import Access as CallAccess
from cds_service.desk import Book, Caller, Desk
from cds_service.gather import Fetched
from cds_service.request import FhirAuthorization
from fhir_adapters.errors import OriginNotAllowedError
from model_artifacts.manifest import read_manifest
from model_artifacts.registry import model_packages

ORIGIN = "localhost/benchmarks/1"


def released_models() -> tuple[str, ...]:
    """The registry's models that answer when a chart is opened, as it is here, and have a graph; one in training has none."""
    names = []
    for name, package in model_packages().items():
        folder = Path(str(files(package)))
        if not (folder / "manifest.toml").exists() or not (folder / "model.onnx").exists():
            continue
        if "patient-view" in read_manifest(folder)[0].hooks:
            names.append(name)
    return tuple(names)


def make_log(directory: Path) -> None:
    """An empty audit log with new keys."""
    directory.mkdir(mode=0o700, parents=True)
    create_log(LogConfig(directory, ORIGIN, tenant=""), init_keys(directory, ORIGIN, os.urandom))


@contextmanager
def opened_desk(directory: Path, clock: Callable[[], datetime] = now) -> Iterator[Desk]:
    """The Desk of `bedside serve`, with every released model, its log in `directory`; it never asks a FHIR server."""
    make_log(directory)
    # The default deadline is for people who wait; here a slow disk must show as time, not as refusals.
    audit = Audit(directory=directory, origin=ORIGIN, deadline_ms=10_000)
    state = State(directory.parent / f"{directory.name}-state")
    access = Access(open_on_loopback=True)
    desk = build_desk(Config(audit=audit, models=Models(released_models()), state=state, access=access))
    try:
        yield replace(desk, clock=clock, fetch=refuse, new_uuid=lambda: str(uuid.uuid4()))
    finally:
        for book in desk.books.values():
            book.log.close()


def caller_of(desk: Desk) -> Caller:
    """Whoever calls an open service."""
    return Caller(desk.gate.admit(None, ()), str(uuid.uuid4()))


def only_book(desk: Desk) -> Book:
    """The one tenant's."""
    (book,) = desk.books.values()
    return book


def refuse(access: CallAccess, server: str, token: FhirAuthorization | None, urls: Mapping[str, str]) -> Fetched:
    """Every address is refused: the examples name real hosts."""
    del access, server, token
    return dict.fromkeys(urls, OriginNotAllowedError("fhir server: expected none here"))
