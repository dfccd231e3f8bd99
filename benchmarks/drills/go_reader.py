"""A reader of published logs in Go, built offline from the libraries of Debian's golang-golang-x-mod-dev, and run.

What it checks stands in its source, which shares nothing with ours but the published formats.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import ROOT

SOURCE = ROOT / "tests" / "audit" / "interoperation" / "reader.go"
GOPATH = Path("/usr/share/gocode")
LIBRARY = GOPATH / "src/golang.org/x/mod/sumdb/tlog"
BUILD_S, RUN_S = 300.0, 300.0


class RefusedError(Exception):
    """What the reader said of the first thing that doesn't hold."""


def build(go: str, workspace: Path) -> Path:
    """The program, built in `workspace` by the compiler `go`; no network is asked."""
    program = workspace / "reader"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(workspace),
        "GOCACHE": str(workspace / "go-cache"),
        "GOPATH": str(GOPATH),
        "GO111MODULE": "off",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
    }
    command = [go, "build", "-o", str(program), str(SOURCE)]
    subprocess.run(command, env=environment, cwd=workspace, check=True, timeout=BUILD_S)
    return program


def read(program: Path, folder: Path, vkey: str, receipts: Sequence[Path] = ()) -> dict[str, int]:
    """How much of the published log in `folder` the reader read and found good.

    Raises:
        RefusedError: something doesn't hold.
    """
    command = [str(program), str(folder), vkey, *map(str, receipts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode == 1:
        raise RefusedError(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found
