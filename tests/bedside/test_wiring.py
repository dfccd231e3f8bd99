from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from audit.log import LogConfig
from bedside.config import Config, ConfigError
from bedside.environment import read_config
from bedside.offered import load_models
from bedside.tenants import log_configs
from bedside.wiring import config_digest, require_way_in, software_digest
from model_artifacts.runtime import ReleasedModel


def _config(**sections: dict[str, object]) -> Config:
    return msgspec.convert(sections, Config)


def test_wiring_reads_the_file_that_the_environment_names(tmp_path: Path) -> None:
    path = tmp_path / "bedside.toml"
    path.write_text("[server]\nport = 9000\n")
    assert read_config({"BEDSIDE_CONFIG": str(path)}).server.port == 9000
    assert read_config({}) == Config()


@pytest.mark.parametrize("first", ["vaults", None])
def test_wiring_gives_each_tenant_a_vault_of_its_own(first: str | None, tmp_path: Path) -> None:
    """Two in one vault would find each other's keys."""

    def configs(second: str) -> tuple[LogConfig, ...]:
        path = tmp_path / "bedside.toml"
        own = f'vault_directory = "{tmp_path / first}"' if first else ""
        path.write_text(
            f"""[audit]
            directory = "{tmp_path / "audit"}"
            {own}
            [[tenants]]
            name = "south"
            origin = "hospital.example/cds-audit/south/1"
            directory = "{tmp_path / "south"}"
            vault_directory = "{tmp_path / second}"
            """
        )
        return log_configs(read_config({"BEDSIDE_CONFIG": str(path)}))

    with pytest.raises(ConfigError, match=r"^tenants: expected each name, .*, heads directory and vault once, got "):
        configs(first or "audit")
    assert len(configs("elsewhere")) == 2


def test_wiring_refuses_two_tenants_with_one_heads_directory(tmp_path: Path) -> None:
    """After a round of anchoring neither would start: each would find a head of the other's."""

    def configs(second: str) -> tuple[LogConfig, ...]:
        path = tmp_path / "bedside.toml"
        path.write_text(
            f"""[audit]
            directory = "{tmp_path / "audit"}"
            heads_directory = "{tmp_path / "heads"}"
            [[tenants]]
            name = "south"
            origin = "hospital.example/cds-audit/south/1"
            directory = "{tmp_path / "south"}"
            heads_directory = "{tmp_path / second}"
            """
        )
        return log_configs(read_config({"BEDSIDE_CONFIG": str(path)}))

    with pytest.raises(ConfigError, match=rf"^tenants: .*, heads directory and vault once, got {tmp_path}/heads twice"):
        configs("audit/../heads")
    assert len(configs("elsewhere")) == 2


def test_wiring_lets_nobody_in_unless_configured() -> None:
    with pytest.raises(ConfigError, match=r"^clients: expected at least one, as nobody could call"):
        require_way_in(Config())
    require_way_in(_config(access={"open_on_loopback": True}))


def test_wiring_refuses_a_model_that_is_not_installed() -> None:
    with pytest.raises(ConfigError, match=r"^models\.enabled: expected some of prevent_cvd, .*, got a, b$"):
        load_models(_config(models={"enabled": ["a", "b"]}))


def test_wiring_digests_tell_configurations_apart() -> None:
    assert config_digest(Config()) == config_digest(Config())
    assert config_digest(Config()) != config_digest(_config(server={"port": 9000}))


def test_wiring_software_digest_covers_the_models_code(tmp_path: Path) -> None:
    model = ReleasedModel.load("model_artifacts.prevent_cvd")
    (tmp_path / "inputs.py").write_text("INPUTS = 1")
    other = replace(model, code=tmp_path)
    digests = {software_digest([]), software_digest([model]), software_digest([other])}
    (tmp_path / "inputs.py").write_text("INPUTS = 2")
    digests.add(software_digest([other]))
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)
