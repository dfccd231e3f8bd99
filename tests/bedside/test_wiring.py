from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from bedside.config import Config, ConfigError
from bedside.wiring import config_digest, load_models, read_config, require_way_in, software_digest
from model_artifacts.runtime import ReleasedModel


def _config(**sections: dict[str, object]) -> Config:
    return msgspec.convert(sections, Config)


def test_wiring_reads_the_file_that_the_environment_names(tmp_path: Path) -> None:
    path = tmp_path / "bedside.toml"
    path.write_text("[server]\nport = 9000\n")
    assert read_config({"BEDSIDE_CONFIG": str(path)}).server.port == 9000
    assert read_config({}) == Config()


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
    other = replace(model, folder=tmp_path)
    digests = {software_digest([]), software_digest([model]), software_digest([other])}
    (tmp_path / "inputs.py").write_text("INPUTS = 2")
    digests.add(software_digest([other]))
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)
