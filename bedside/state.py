"""The folder of what worker processes share, and the ward's state in it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bedside.config import Config, ConfigError
from cds_service.ward import Ward

WARD_FILE = "ward.sqlite3"


def open_state(config: Config) -> Path:
    """The folder of what worker processes share, made if it isn't there.

    Raises:
        ConfigError: it can't be made.
    """
    try:
        config.state.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigError(f"state.directory {config.state.directory}: {exc.strerror}") from exc
    return config.state.directory


def open_ward(config: Config) -> closing[Ward]:
    """What the worker processes share, for the length of a block.

    Raises:
        ConfigError, WardUnavailableError: it can't be opened.
    """
    return closing(Ward.open(open_state(config) / WARD_FILE))
