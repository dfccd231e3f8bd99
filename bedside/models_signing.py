"""`bedside model sign`: the developer's last step, with a private key that no site has."""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from model_artifacts.folder import read_folder
from model_artifacts.gate import judge, verdict_lines
from model_artifacts.registry import model_packages
from model_artifacts.signing import UNSIGNED
from model_artifacts.training.sign import sign_folder


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("model", nargs="?", choices=tuple(model_packages()), help="an installed model")
    what.add_argument("--folder", type=Path, metavar="DIR", help="a model folder that isn't installed")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="P-256 private key, PEM")
    parser.set_defaults(run=run_sign)


def run_sign(options: argparse.Namespace) -> int:
    """Signs the folder as it lies; exit code 1, and no signature, where its own metrics break its own gate.

    Raises:
        ModelError: the folder can't be read, or the key can't be used.
    """
    folder = options.folder or Path(str(files(model_packages()[options.model])))
    model = read_folder(folder, UNSIGNED)
    verdicts = judge(model.manifest.gate, model.metrics)
    sys.stdout.writelines(f"{line}\n" for line in verdict_lines(verdicts))
    if not all(verdict.passed for verdict in verdicts):
        sys.stdout.write("not signed: the gate isn't passed\n")
        return 1
    sys.stdout.write(f"{sign_folder(folder, options.key)} written\n")
    return 0
