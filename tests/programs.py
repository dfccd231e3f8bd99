"""Programs of the operating system that some tests need: PostgreSQL, SoftHSM, OpenSSL, Go, strace.

A machine without one skips those tests and says which program is missing. Where all are meant to be there, as in continuous
integration, `TESTS_REQUIRE_PROGRAMS=1` turns the skip into a failure.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Debian keeps the servers' programs out of PATH.
POSTGRESQL = Path("/usr/lib/postgresql")


def need(name: str) -> str:
    """The path of the program `name`; skips the test, or fails it, where it isn't installed."""
    folders = [str(folder) for folder in sorted(POSTGRESQL.glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]))
    if found is not None:
        return found
    raise _missing(name)


def need_library(path: Path, package: str) -> Path:
    """The folder of a library that the package brings; skips the test, or fails it, where it isn't there."""
    if path.is_dir():
        return path
    raise _missing(package)


def _missing(name: str) -> BaseException:
    message = f"{name} is not installed"
    if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
        return pytest.fail.Exception(message)
    return pytest.skip.Exception(message)
