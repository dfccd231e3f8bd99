"""What is read from outside the program: the environment, for where the configuration lies, and the clock.

Only here and in `bedside.wiring`. Apart from it, since every verb needs these, and most need nothing else that is wired there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bedside.config import Config, load_config


def read_config(environment: Mapping[str, str] | None = None) -> Config:
    """The configuration named by the environment.

    Raises:
        ConfigError: it cannot be used.
    """
    env = os.environ if environment is None else environment
    path = env.get("BEDSIDE_CONFIG")
    return load_config(Path(path) if path else None, env)


def now() -> datetime:
    """The present moment, aware UTC."""
    return datetime.now(UTC)
