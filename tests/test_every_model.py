"""Every model of the registry keeps the platform's promises; a new model is tested by being there."""

import json
import math
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_artifacts import graph
from model_artifacts.checks import CHECKS, Subject, open_subject, require_within_bounds
from model_artifacts.errors import ArtifactError
from model_artifacts.example_changes import varied
from model_artifacts.folder import read_folder, vouched_files
from model_artifacts.gate import judge
from model_artifacts.manifest import read_manifest
from model_artifacts.model_card import model_card
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import RELEASE_KEY_FILE, SIGNATURE_FILE, release_keys
from model_artifacts.training.graph_checks import GRAPH_CHECKS


def _folder(package: str) -> Path:
    return Path(str(files(package)))


PACKAGES = {
    name: package for name, package in model_packages().items() if (_folder(package) / "manifest.toml").exists()
}
every_model = pytest.mark.parametrize("name", PACKAGES)


@cache
def _subject(name: str) -> Subject:
    return open_subject(name, PACKAGES[name])


# What is imported, test_imports.py looks at, for all models in one process.
@pytest.mark.parametrize("check", sorted((CHECKS | GRAPH_CHECKS).keys() - {"serves-without-training-libraries"}))
@every_model
def test_every_model_passes_every_check(name: str, check: str) -> None:
    (CHECKS | GRAPH_CHECKS)[check](_subject(name))


def _listed_files() -> list[tuple[str, str]]:
    """Every file of which one bit counts: all that is signed, and the signature."""
    manifests = {name: read_manifest(_folder(package))[0] for name, package in PACKAGES.items()}
    names = {name: vouched_files(_folder(PACKAGES[name]), manifest) for name, manifest in manifests.items()}
    return [(name, file) for name, files in names.items() for file in (*files, SIGNATURE_FILE)]


@pytest.mark.parametrize(("name", "file"), _listed_files())
def test_every_model_with_one_flipped_bit_is_refused_before_its_graph_is_parsed(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        pytest.fail("onnxruntime saw the bytes of an altered model")

    package = f"altered_{name}_{file.replace('.', '_')}"  # a name of its own: imports are remembered
    shutil.copytree(
        _folder(PACKAGES[name]), tmp_path / package, ignore=shutil.ignore_patterns("examples", "__pycache__")
    )
    altered = tmp_path / package / file
    data = bytearray(altered.read_bytes())
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(graph.onnxruntime, "InferenceSession", parse)
    called = f"model {package}" if file == SIGNATURE_FILE else f"model {name} is altered"
    with pytest.raises(ArtifactError, match=f"file {re.escape(file)} of {called}"):
        ReleasedModel.load(package)
    assert f"{package}.inputs" not in sys.modules


@every_model
def test_every_model_is_signed_by_the_key_that_comes_with_it(name: str) -> None:
    """`model-signing`, where it is installed, finds the same of the same folder."""
    folder = _folder(PACKAGES[name])
    signed = read_folder(folder, release_keys()).signed
    assert signed is not None
    assert signed.model == name
    verifying = pytest.importorskip("model_signing.verifying", reason="model-signing is of the extra 'train'")
    key = _folder("model_artifacts") / RELEASE_KEY_FILE
    theirs = verifying.Config().use_elliptic_key_verifier(public_key=key).set_ignore_unsigned_files(True)
    theirs.verify(folder, folder / SIGNATURE_FILE)


@every_model
def test_every_model_passes_its_own_gate(name: str) -> None:
    model = read_folder(_folder(PACKAGES[name]), release_keys())
    assert [verdict for verdict in judge(model.manifest.gate, model.metrics) if not verdict.passed] == []


THINNED = {"curves", "explanation_curves", "attributions"}
"""Sections that are drawn whole and tabled in part."""


@every_model
def test_every_model_card_shows_every_figure_of_its_metrics_and_no_other(name: str) -> None:
    card = model_card(_subject(name).model)
    content = json.loads((_folder(PACKAGES[name]) / "metrics.json").read_text())
    figures = [value for value in _numbers(content) if math.isfinite(value)]
    whole = {key: value for key, value in content.items() if key not in THINNED}
    shown_whole = [value for value in _numbers(whole) if math.isfinite(value)]
    sections = re.split(r"^## ", card, flags=re.MULTILINE)
    measured = [text for text in sections if text.startswith(("Evaluation", "Calibration", "Subgroups"))]
    tables = [line for text in measured for line in text.splitlines() if line.startswith("|")]
    cells = " ".join(cell for line in tables for cell in line.strip("|").split("|")[1:])
    assert [number for number in _shown(cells) if not any(_is_shown_as(value, number) for value in figures)] == []
    assert [value for value in shown_whole if not any(_is_shown_as(value, number) for number in _shown(card))] == []


def _shown(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.–])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w–])", text))


def _is_shown_as(value: float, number: str) -> bool:
    """Whether `number` is `value` rounded to the decimals that `number` has."""
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return abs(value - float(number)) <= 0.5000001 * 10.0**-decimals


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _numbers(member)
    elif isinstance(value, list):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


@every_model
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), strength=st.floats(0.0, 0.5))
def test_every_model_answers_plausible_patients_within_its_bounds_or_abstains(
    name: str, seed: int, strength: float
) -> None:
    subject = _subject(name)
    change = varied(np.random.default_rng(seed), strength)
    require_within_bounds(subject, subject.assess(subject.predictions[0], change).assessment)
