"""The facts that alert rules are made of, and the modules that know nothing of files, networks and clocks."""

import ast
from pathlib import Path

import pytest

from audit.export.errors import ExportError
from audit.export.facts import epoch_nanoseconds, facts
from tests.audit.export.examples import DECISION, EXAMPLES, UNKNOWN, changed, digest, example, record_of

EXPORT = Path(__file__).parents[3] / "audit" / "export"
PURE = (
    "facts",
    "cef",
    "fhir_codes",
    "fhir_parts",
    "fhir_decisions",
    "fhir_operations",
    "fhir_auditevent",
    "fhir_monitoring",
    "provenance",
)
NOT_PURE = {
    "os",
    "io",
    "pathlib",
    "socket",
    "ssl",
    "subprocess",
    "time",
    "random",
    "secrets",
    "sqlite3",
    "apsw",
    "http",
}


def test_times_are_exact_to_the_microsecond() -> None:
    assert epoch_nanoseconds("2026-03-01T08:00:00.123456Z") == 1_772_352_000_123_456_000
    assert epoch_nanoseconds("1970-01-01T00:00:00.000001Z") == 1000


def test_a_time_the_calendar_does_not_have_is_refused() -> None:
    with pytest.raises(ExportError, match="calendar"):
        epoch_nanoseconds("2026-19-39T29:59:59.000000Z")


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_has_a_name_and_an_action(name: str) -> None:
    known = facts(example(name))
    assert known.name
    assert known.action


def test_who_acted_is_a_keyed_digest() -> None:
    people = {name: facts(example(name)).person for name in EXAMPLES}
    assert people["decision"] == digest("practitioner")
    assert people["erasure"] == people["hold"] == digest("officer-1")
    assert people["access"] == digest("actor")
    assert people["switch"] == people["model"] == people["key-rotation"] == digest("operator")


def test_an_abstention_says_why() -> None:
    assert facts(changed(DECISION, abstention=("too-old", "no-labs"))).reason == "too-old no-labs"


def test_an_alarm_is_grave_until_it_is_over() -> None:
    raised = facts(example("alarm"))
    over = facts(changed(EXAMPLES["alarm"], action="clear"))
    assert (raised.event, raised.severity, raised.outcome, raised.reason) == ("alarm", 8, "failed", "psi:age")
    assert (over.event, over.severity, over.outcome) == ("alarm-over", 6, "")


def test_a_version_that_was_refused_is_a_failed_change() -> None:
    refused = facts(changed(EXAMPLES["model"], action="refuse", reason="gate:auroc-by-sex"))
    assert (refused.severity, refused.action, refused.outcome) == (6, "refuse", "failed")
    assert refused.reason == "gate:auroc-by-sex"
    assert facts(example("model")).outcome == ""


def test_an_unknown_kind_is_notable() -> None:
    known = facts(record_of(UNKNOWN))
    assert (known.event, known.severity) == ("other", 4)


@pytest.mark.parametrize("name", PURE)
def test_mappings_do_no_io(name: str) -> None:
    tree = ast.parse((EXPORT / f"{name}.py").read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    plain |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in plain} & NOT_PURE == set()
