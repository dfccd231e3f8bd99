"""The last steps of a training, of any model: its manifest from the template, its examples and card anew, and the signature.

Owns nothing that serves. A model owns its marks `@…@` and how a figure becomes a mark's text, in its own `release.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from model_artifacts.assessment import Abstention, Prediction
from model_artifacts.errors import ArtifactError
from model_artifacts.examples import example_record
from model_artifacts.folder import read_folder
from model_artifacts.gate import judge, verdict_lines
from model_artifacts.model_card import CARD_FILE, model_card
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import SIGNATURE_FILE, UNSIGNED
from model_artifacts.training.sign import sign_folder


def fill_template(folder: Path, marks: Mapping[str, str]) -> None:
    """Makes `manifest.toml` from `manifest.template.toml`, each `@mark@` replaced by its text.

    Raises:
        ValueError: the template lacks a mark, or has one without a text.
    """
    text = (folder / "manifest.template.toml").read_text(encoding="utf-8")
    for mark, value in marks.items():
        if f"@{mark}@" not in text:
            raise ValueError(f"manifest template: expected the mark {mark}, got none")
        text = text.replace(f"@{mark}@", value)
    left = re.findall(r"@[\w.-]+@", text)
    if left:
        raise ValueError(f"manifest template: marks without a value: {left}")
    (folder / "manifest.toml").write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file as hex digits, as the manifest lists it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_sign_key(parser: argparse.ArgumentParser) -> None:
    """Adds the option of `finish_release`."""
    parser.add_argument("--sign-key", type=Path, metavar="FILE", help="P-256 private key to sign the folder with (PEM)")


def finish_release(package: str, sign_key: Path | None) -> None:
    """Renews examples and card of the model in `package`, whose manifest is written, and signs the folder with `sign_key`.

    Without a key the folder is left unsigned: the old signature would be taken for an alteration.

    Raises:
        ArtifactError: the key can't be used, or the model's metrics break its gate, so that nobody could promote it.
    """
    model = ReleasedModel.load(package, UNSIGNED)
    renew_examples(model, model.folder / "examples")
    (model.folder / CARD_FILE).write_text(model_card(model), encoding="utf-8")
    (model.folder / SIGNATURE_FILE).unlink(missing_ok=True)
    if sign_key is None:
        return
    released = read_folder(model.folder, UNSIGNED)
    broken = [verdict for verdict in judge(released.manifest.gate, released.metrics) if not verdict.passed]
    if broken:
        message = f"model {model.manifest.id} is not signed, its gate isn't passed: {'; '.join(verdict_lines(broken))}"
        raise ArtifactError(message, model_id=model.manifest.id)
    sign_folder(model.folder, sign_key)


def renew_examples(model: ReleasedModel, examples: Path) -> None:
    """Writes `<case>/expected.json` of every case in `examples`: what the bundled record yields from this model.

    `record.json` stays as it is; patient and `as_of` are read from the case's present `expected.json`. Look at a change here
    before committing it.
    """
    for folder in sorted(path for path in examples.iterdir() if path.is_dir()):
        _renew(model, folder)


def _renew(model: ReleasedModel, folder: Path) -> None:
    """Probabilities and doses to six decimals, ends of an interval to three."""
    path = folder / "expected.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    record = example_record(known["patient"], json.loads((folder / "record.json").read_text(encoding="utf-8")))
    assessment = model.assess(record, datetime.fromisoformat(known["as_of"])).assessment
    finding = model.interpret(assessment, model.manifest)
    expected: dict[str, Any] = {"patient": known["patient"], "as_of": known["as_of"], "code": finding.code}
    match assessment:
        case Prediction():
            expected |= {
                "kind": "prediction",
                "outputs": {name: round(value, 6) for name, value in assessment.outputs.items()},
                "baseline": round(assessment.baseline, 6),
            }
            if assessment.interval:
                expected["interval"] = {
                    name: [round(end, 3) for end in ends] for name, ends in assessment.interval.items()
                }
            expected["attributions"] = {item.evidence: round(item.contribution, 6) for item in assessment.attributions}
        case Abstention():
            expected |= {
                "kind": "abstention",
                "outside_population": assessment.outside_population,
                "reasons": [reason.code for reason in assessment.reasons],
            }
    expected["proposals"] = [proposal.code.code for proposal in finding.proposals]
    path.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
