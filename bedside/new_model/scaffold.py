"""The files of a new model's package, from the templates beside this module.

A template holds `{{name}}` where a word of `Scaffold.words` goes; marks between @ signs are left for the package's train.py.
To add a file: a template, and a line in `_FILES`, or in `_OF_KIND` where one kind alone has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

Kind = Literal["classifier", "equation"]

_FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    ".gitignore": "gitignore",
    "src/{id}/__init__.py": "init.py",
    "src/{id}/inputs.py": "inputs.py",
    "src/{id}/features.toml": "features.toml",
    "src/{id}/manifest.template.toml": "manifest.template.toml",
    "tests/test_{id}.py": "test.py",
}
_OF_KIND: Mapping[Kind, Mapping[str, str]] = {
    "classifier": {"src/{id}/train.py": "classifier_train.py"},
    "equation": {"src/{id}/train.py": "equation_train.py", "src/{id}/coefficients.toml": "coefficients.toml"},
}
_WORDS: Mapping[Kind, Mapping[str, str]] = {
    "classifier": {
        "flag": "classifier",
        "kind": "learned",
        "seeds": "seeds = [20261124]\n",
        "example": "simulated people",
        "essential": '["age", "creatinine"]',
        "column": "1",
        "baseline": "a person whose values are those in the middle of the training data",
        "train_requirements": '"onnx>=1.23", "scikit-learn>=1.7", "skl2onnx>=1.20", "model-signing>=1.1.1", "pyopenssl>=26"',
        "source": "`train.py`: your classifier, and what it has to beat; your rows as a CSV file",
        "data": "--csv FILE ",
        "files": '"reference.json" = "@reference.json@"\n',
        "gate": """
[monitoring]
frequency = "TODO: how often somebody looks at what it sees and what came of it"

# What a version must keep to be signed and promoted: model_artifacts/gate.py.
[[gate.rules]]
name = "calibration-slope"
metric = "model.calibration_slope"
at_least = 0.8
at_most = 1.25
reason = "Estimates are shown as people of a hundred."
""",
    },
    "equation": {
        "flag": "equation",
        "kind": "published-equation",
        "seeds": "",
        "example": "invented coefficients",
        "essential": '["creatinine", "potassium", "systolic", "age", "male"]',
        "column": "0",
        "baseline": "a woman of 60 years with the values that the equation is centred at",
        "train_requirements": '"onnx>=1.23", "model-signing>=1.1.1", "pyopenssl>=26"',
        "source": "`coefficients.toml`: the equation; `PUBLISHED` in `train.py`: people whose risk its publication gives",
        "data": "",
        "files": '"coefficients.toml" = "@coefficients.toml@"\n',
        "gate": "",
    },
}
_AS_OF = "2026-06-01T12:00:00Z"
_MEASURED = {
    "creatinine": ("2160-0", 1.6, "mg/dL"),
    "potassium": ("2823-3", 4.9, "mmol/L"),
    "systolic": ("8480-6", 104.0, "mm[Hg]"),
}


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A package to be made: the model's id is its import package's name too."""

    id: str
    kind: Kind

    @property
    def project(self) -> str:
        """The project's name as pip writes it, also that of its folder."""
        return self.id.replace("_", "-")

    @property
    def words(self) -> dict[str, str]:
        """What the templates' words stand for."""
        return {"id": self.id, "project": self.project, **_WORDS[self.kind]}

    def contents(self) -> dict[str, str]:
        """Path in the package's folder to text."""
        templates = {**_FILES, **_OF_KIND[self.kind]}
        texts = {path.format(id=self.id): self._filled(template) for path, template in templates.items()}
        return texts | self._examples()

    def _filled(self, template: str) -> str:
        text = (files(__package__) / "templates" / f"{template}.tmpl").read_text(encoding="utf-8")
        return re.sub(r"\{\{(\w+)\}\}", lambda found: self.words[found[1]], text)

    def _examples(self) -> dict[str, str]:
        """A person that the model answers about and one without creatinine; train.py adds what the model says."""
        asked = json.dumps({"patient": "example", "as_of": _AS_OF}) + "\n"

        cases = {"typical": _MEASURED, "no-creatinine": {k: v for k, v in _MEASURED.items() if k != "creatinine"}}
        texts = {}
        for case, measured in cases.items():
            folder = f"src/{self.id}/examples/{case}"
            texts[f"{folder}/record.json"] = json.dumps(_bundle(measured), indent=1) + "\n"
            texts[f"{folder}/expected.json"] = asked
        return texts


def write_scaffold(scaffold: Scaffold, folder: Path) -> None:
    """Writes the package into `folder`, which must not be there yet.

    Raises:
        FileExistsError: it is there.
        OSError: it can't be written.
    """
    folder.mkdir(parents=True)
    for name, text in scaffold.contents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _bundle(measured: Mapping[str, tuple[str, float, str]]) -> dict[str, Any]:
    """An invented woman of 71 years with these results of the day before."""
    resources: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": "example", "gender": "female", "birthDate": "1955-03-04"}
    ]
    for name, (code, value, unit) in measured.items():
        resources.append(
            {
                "resourceType": "Observation",
                "id": name,
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                "subject": {"reference": "Patient/example"},
                "effectiveDateTime": "2026-05-31T08:00:00Z",
                "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
            }
        )
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": item} for item in resources]}
