import json
from datetime import datetime
from importlib.resources import files

import pytest

from fhir_adapters.record import build_record
from model_artifacts.assessment import Prediction
from model_artifacts.runtime import ReleasedModel

MODEL = ReleasedModel.load("model_artifacts.icu_mortality")
CASES = sorted(
    (case for case in (files("model_artifacts.icu_mortality") / "examples").iterdir() if case.is_dir()),
    key=lambda case: case.name,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_examples_reproduce(case):
    expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
    record = build_record(expected["patient"], [(case / "record.json").read_bytes()])
    assessment = MODEL.assess(record, datetime.fromisoformat(expected["as_of"])).assessment
    assert MODEL.interpret(assessment, MODEL.manifest).code == expected["code"]
    if isinstance(assessment, Prediction):
        assert dict(assessment.outputs) == pytest.approx(expected["outputs"], abs=1e-5)
        shares = {item.evidence: item.contribution for item in assessment.attributions}
        assert shares == pytest.approx(expected["attributions"], abs=1e-5)
    else:
        assert [reason.code for reason in assessment.reasons] == expected["reasons"]


def test_examples_show_both_an_answer_and_an_abstention():
    kinds = {json.loads((case / "expected.json").read_text(encoding="utf-8"))["kind"] for case in CASES}
    assert kinds == {"prediction", "abstention"}
