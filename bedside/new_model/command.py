"""`bedside model new NAME`: writes a package that works at once, and that says what its author has still to write."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from bedside.config import ConfigError
from bedside.new_model.scaffold import Scaffold, write_scaffold
from model_artifacts.registry import model_packages

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("name", metavar="NAME", help="the model's id and its package's name: sepsis_onset")
    parser.add_argument("--dir", type=Path, default=Path(), help="where its folder goes (default: here)")
    kinds = "classifier: scikit-learn, by way of skl2onnx; equation: published coefficients"
    parser.add_argument("--kind", choices=("classifier", "equation"), default="classifier", help=kinds)
    parser.set_defaults(run=new_model)


def new_model(options: argparse.Namespace) -> int:
    """Writes the package and says what comes next.

    Raises:
        ConfigError: the name can't be one, is taken, or the folder is there or can't be written.
    """
    name = options.name
    if not _NAME.fullmatch(name) or name in sys.stdlib_module_names:
        raise ConfigError(
            f"NAME: expected lower-case words with underscores that no module of Python has, got {name!r}"
        )
    if name in model_packages():
        raise ConfigError(f"NAME: {name} is an installed model already")
    scaffold = Scaffold(name, options.kind)
    folder = options.dir / scaffold.project
    try:
        write_scaffold(scaffold, folder)
    except OSError as exc:
        raise ConfigError(f"{folder}: {exc.strerror}") from exc
    sys.stdout.write(
        f"{folder} written. It is an example, not for clinical use, until you made it yours: see its README.md. Next:\n"
        f"  pip install -e '{folder}[train,test]'\n  python -m {name}.train\n  bedside model list\n"
    )
    return 0
