"""A site with two tenants' logs, one model, and a developer whom it trusts."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit.entry import parse_entry
from audit.entry_operations import ModelEntry
from audit.keys import init_keys
from audit.log import AuditLog, LogConfig, create_log
from bedside.environment import read_config
from bedside.tenants import log_configs
from model_artifacts.versions import Standing, VersionStore
from tests.model_artifacts.candidates import make_candidate
from tests.model_artifacts.signer import Signer

TENANTS = ("north", "south")


@dataclass(frozen=True, slots=True)
class Hospital:
    """Where everything lies, and what the logs and the store say."""

    folder: Path
    signer: Signer

    def candidate(self, name: str = "candidate", **changes: Any) -> Path:
        return make_candidate(self.folder / name, self.signer, **changes)

    @property
    def store(self) -> VersionStore:
        return VersionStore(read_config().model_store)

    @property
    def standing(self) -> Standing:
        return self.store.standing("prevent_cvd")

    def log(self, tenant: str = "north") -> closing[AuditLog]:
        place = next(place for place in log_configs(read_config()) if place.tenant == tenant)
        return closing(AuditLog.open(place, clock=lambda: datetime.now(UTC)))

    def entries(self, tenant: str = "north") -> list[ModelEntry]:
        """What the tenant's log has of models, in its order."""
        with self.log(tenant) as log:
            entries = [parse_entry(data) for data in log.entries()]
        return [entry for entry in entries if isinstance(entry, ModelEntry)]

    def told(self, tenant: str = "north") -> list[tuple[str, str, str]]:
        return [(entry.action, entry.version, entry.reason) for entry in self.entries(tenant)]


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    for name in [name for name in os.environ if name.startswith("BEDSIDE_")]:
        monkeypatch.delenv(name)
    signer = Signer(tmp_path / "keys", "maker.pub")
    config = tmp_path / "bedside.toml"
    north, south = (tmp_path / f"audit-{tenant}" for tenant in TENANTS)
    config.write_text(
        f'[audit]\ndirectory = "{north}"\norigin = "{_origin("north")}"\ntenant = "north"\n'
        f'[[tenants]]\nname = "south"\ndirectory = "{south}"\norigin = "{_origin("south")}"\n'
        f'[models]\nenabled = ["prevent_cvd"]\ntrusted_keys = ["{signer.public_file}"]\n'
        f'[state]\ndirectory = "{tmp_path / "state"}"\n'
    )
    monkeypatch.setenv("BEDSIDE_CONFIG", str(config))
    for tenant, directory in zip(TENANTS, (north, south), strict=True):
        directory.mkdir()
        place = LogConfig(directory, _origin(tenant), tenant)
        create_log(place, init_keys(directory, place.origin, os.urandom))
    return Hospital(tmp_path, signer)


def _origin(tenant: str) -> str:
    return f"tests.example/cds-audit/{tenant}/1"
