"""The report in words, tables and plots: every number as the JSON has it."""

import json
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from bedside.site_evaluation.cohort import Counts
from bedside.site_evaluation.content import report_bytes, report_content
from bedside.site_evaluation.labels import Label, Labels
from bedside.site_evaluation.report import report_html, report_markdown
from fhir_adapters.bulk import Contents
from fhir_adapters.hindsight import Unknown
from fhir_adapters.reasons import Reason
from tests.bedside.site_evaluation.wards import calibrated, cohort_of, model

MADE = datetime(2026, 3, 1, 8, tzinfo=UTC)
LABELS = Labels((Label(2, "1", MADE, 1.0),), "a" * 64)
CONTENTS = Contents(
    Counter({"Patient": 1300, "Observation": 9}),
    Counter({("unknown", Reason.NOT_JSON): 3}),
    {"Patient.ndjson": "b" * 64},
    1,
    set(),
)


def _content(name: str, cohort: Any) -> dict[str, Any]:
    released = model(name)
    by = ("sex", "age", "race")
    made = report_content(released, released.manifest.outputs[0], by, LABELS, CONTENTS, cohort, MADE)
    content: dict[str, Any] = json.loads(report_bytes(made))
    return content


@pytest.fixture(scope="module")
def risk() -> dict[str, Any]:
    counts = Counts(
        1300,
        1250,
        abstained=Counter({"too-few-inputs": 3}),
        outside=Counter({"outside-population:age": 97}),
        unknown=Counter({("Observation", Unknown.LATER): 5}),
        orders_ended=4,
    )
    return _content("icu_mortality", cohort_of(*calibrated(), counts=counts))


def test_report_holds_what_it_was_made_of(risk: dict[str, Any]) -> None:
    assert risk["model"]["card_sha256"] == model("icu_mortality").identity.card_sha256
    assert risk["made_at"] == "2026-03-01T08:00:00Z"
    assert risk["counts"]["outside_population"] == {"outside-population:age": 97}
    assert risk["counts"]["abstained"] == {"too-few-inputs": None}
    assert risk["data"]["unreadable"] == {"unknown: not-json": 3}
    assert risk["data"]["not_known_then"] == {"Observation: later": 5}
    assert (risk["data"]["first_month"], risk["data"]["labels_sha256"]) == ("2026-03", "a" * 64)


def test_report_says_in_words_what_the_figures_are(risk: dict[str, Any]) -> None:
    text = report_markdown(risk)
    auroc = risk["measures"]["auroc"]
    row = next(line for line in text.splitlines() if line.startswith("| AUROC | "))
    assert f"{auroc['estimate']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f})" in row
    assert "| Outside of the model's population: age | 97 |" in text
    assert "| Not answered: too few inputs | fewer than 10 |" in text
    assert "4 drug orders of before as_of" in text
    for heading in ("Beside the released figures", "The bands on the card", "Reliability", "By group"):
        assert f"\n## {heading}\n" in text


def test_report_draws_its_plots_inside_the_page(risk: dict[str, Any]) -> None:
    page = report_html(risk)
    drawings = ["<svg" + part.partition("</svg>")[0] + "</svg>" for part in page.split("<svg")[1:]]
    assert len(drawings) == 4  # the curve, and three figures by group
    assert page.index("<svg") > page.index('id="by-group"')
    for drawing in drawings:
        assert ET.fromstring(drawing).find(".//*") is not None
    assert "default-src &#x27;none&#x27;" in page


def test_report_of_a_quantity_speaks_of_its_error() -> None:
    truth = np.linspace(10, 60, 150)
    content = _content("warfarin_dose", cohort_of(truth + 2, truth, low=truth - 9, high=truth + 9))
    text = report_markdown(content)
    assert content["counts"].keys() & {"events"} == set()
    assert "| Mean absolute error | 2.00 (2.00 to 2.00) |" in text
    assert "not compatible with 0: estimates are too high here" in text
    assert "<svg" in report_html(content)


def test_report_says_that_there_were_too_few() -> None:
    text = report_markdown(_content("icu_mortality", cohort_of(*calibrated(5))))
    assert "Too few people were answered to say anything about the model here." in text
    assert "| Answered | fewer than 10 |" in text
