"""A configured log in which a version with a reference is counted."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.log import AuditLog
from bedside.config import Config
from bedside.environment import read_config
from cds_service.decision import Context
from cds_service.desk import Book
from model_artifacts.runtime import ReleasedModel
from tests.bedside.drift.world import make_version
from tests.conftest import ORIGIN, TENANT


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """The verb sends the operations log to standard error; the next test wants it where it was."""
    logger = logging.getLogger("bedside")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def version(prevent: ReleasedModel, archive: Path) -> ReleasedModel:
    return make_version(prevent, archive)


@pytest.fixture
def book(audit_log: AuditLog) -> Book:
    return Book(audit_log, Context(TENANT, "5a" * 32, "6b" * 32, audit_log.keys.index_key))


@pytest.fixture
def config(audit_log: AuditLog, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration that names this log; verbs read it too."""
    for name in [name for name in os.environ if name.startswith("BEDSIDE_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "bedside.toml"
    path.write_text(
        f'[audit]\ndirectory = "{audit_log.config.directory}"\norigin = "{ORIGIN}"\ntenant = "{TENANT}"\n'
        f'[models]\nenabled = ["prevent_cvd"]\narchive = "{archive}"\n[monitoring]\nperiod_days = 366\n'
    )
    monkeypatch.setenv("BEDSIDE_CONFIG", str(path))
    return read_config()
