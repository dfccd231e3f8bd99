"""A real PKCS#11 token for tests: SoftHSM's, in a directory of its own.

SoftHSM reads its configuration when a process first uses it, so all tests of one process share a token directory, and each
test has a token of its own in it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import need

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PIN = "4711-kept-secret"
_directory: Path | None = None


@dataclass(frozen=True)
class Token:
    """A token, its module, its PIN file, and the directory SoftHSM keeps it in."""

    label: str
    module: str
    pin_file: Path
    store: Path

    def uri(self, label: str, pin_file: Path | None = None) -> str:
        """The URI of a key in it."""
        pin = pin_file or self.pin_file
        return f"pkcs11:token={self.label};object={label}?module-path={self.module}&pin-source=file:{pin}"


@contextmanager
def make_token(directory: Path, label: str) -> Iterator[Token]:
    """A new token; skips the test where SoftHSM isn't installed. `directory` takes the PIN file."""
    program = need("softhsm2-util")
    tokens = _configure() / "tokens"
    before = set(tokens.iterdir())
    command = [program, "--init-token", "--free", "--label", label, "--so-pin", "8888-officer", "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True)
    (store,) = set(tokens.iterdir()) - before
    pin_file = directory / "pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(PIN)
    module = next(path for path in MODULES if Path(path).exists())
    yield Token(label, module, pin_file, store)
    shutil.rmtree(store, ignore_errors=True)


def _configure() -> Path:
    global _directory
    if _directory is None:
        pytest.importorskip("pkcs11")
        _directory = Path(tempfile.mkdtemp(prefix="softhsm-"))
        atexit.register(shutil.rmtree, _directory, ignore_errors=True)
        (_directory / "tokens").mkdir()
        configuration = _directory / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {_directory}/tokens\nobjectstore.backend = file\n")
        os.environ["SOFTHSM2_CONF"] = str(configuration)
    return _directory
