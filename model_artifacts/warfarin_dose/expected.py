"""Renews `examples/<case>/expected.json` from the released model: after a training, what each bundled record now yields.

Owns nothing that serves. `record.json` stays as it is; patient and `as_of` are read from the case's present `expected.json`.
Look at a change here before committing it.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from model_artifacts.assessment import Abstention, Prediction
from model_artifacts.examples import example_record
from model_artifacts.runtime import ReleasedModel

PACKAGE = "model_artifacts.warfarin_dose"


def renew_examples() -> None:
    """Writes the expectation of every example anew."""
    model = ReleasedModel.load(PACKAGE)
    for folder in sorted((model.folder / "examples").iterdir()):
        if folder.is_dir():
            _renew(model, folder)


def _renew(model: ReleasedModel, folder: Path) -> None:
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
                "interval": {name: [round(end, 3) for end in ends] for name, ends in assessment.interval.items()},
                "attributions": {item.evidence: round(item.contribution, 6) for item in assessment.attributions},
            }
        case Abstention():
            expected |= {
                "kind": "abstention",
                "outside_population": assessment.outside_population,
                "reasons": [reason.code for reason in assessment.reasons],
            }
    expected["proposals"] = [proposal.code.code for proposal in finding.proposals]
    path.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
