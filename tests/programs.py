"""Programs of the operating system that some tests need: PostgreSQL, SoftHSM, OpenSSL, Go, strace, rsyslog.

A machine without one skips those tests and says which program is missing. Where all are meant to be there, as in continuous
integration, `TESTS_REQUIRE_PROGRAMS=1` turns the skip into a failure.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Debian keeps the servers' programs out of PATH, or of a user's.
POSTGRESQL = Path("/usr/lib/postgresql")
_SYSTEM = "/usr/sbin"


def need(name: str) -> str:
    """The path of the program `name`; skips the test, or fails it, where it isn't installed."""
    folders = [str(folder) for folder in sorted(POSTGRESQL.glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), _SYSTEM]))
    if found is not None:
        return found
    raise _missing(name)


def need_library(path: Path, package: str) -> Path:
    """The folder of a library that the package brings; skips the test, or fails it, where it isn't there."""
    if path.is_dir():
        return path
    raise _missing(package)


def need_file(folder: Path, pattern: str, package: str) -> Path:
    """A file that the package brings; skips the test, or fails it, where none is there."""
    for found in folder.glob(pattern):
        return found
    raise _missing(package)


def _missing(name: str) -> BaseException:
    message = f"{name} is not installed"
    if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
        return pytest.fail.Exception(message)
    return pytest.skip.Exception(message)
