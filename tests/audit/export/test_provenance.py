"""Provenance of decisions: which model made the cards, from what, and that a model made them."""

import json

from fhir.resources.R4B.provenance import Provenance

from audit.export.fhir_auditevent import audit_events
from audit.export.fhir_codes import CARD, INPUTS, LOG_EXTENSION, MODEL
from audit.export.provenance import provenances
from tests.audit.export.examples import DECISION, EXAMPLES, UNKNOWN, changed, digest, example, record_of

RECORD = example("decision")


def test_a_decision_with_cards_has_one_provenance_that_is_valid_r4() -> None:
    (resource,) = provenances(RECORD)
    read = json.loads(Provenance.model_validate_json(json.dumps(resource)).model_dump_json())
    times = {name: resource[name] for name in ("recorded", "occurredDateTime")}
    assert read | times == resource


def test_it_says_what_was_made_by_whom_from_what() -> None:
    (resource,) = provenances(RECORD)
    assert [target["identifier"]["value"] for target in resource["target"]] == [
        DECISION.cards[0].uuid,
        digest("action"),
    ]
    assert resource["target"][0]["identifier"]["system"] == CARD
    assert resource["agent"][0]["who"]["identifier"] == {"system": MODEL, "value": "prevent_cvd@1.0.0"}
    assert digest("artefact") in resource["agent"][0]["who"]["display"]
    sources = [entity["what"]["identifier"] for entity in resource["entity"] if entity["role"] == "source"]
    assert {"system": INPUTS, "value": digest("inputs")} in sources
    assert resource["meta"]["security"][0]["code"] == "AIAST"
    assert resource["extension"][0]["url"] == LOG_EXTENSION


def test_the_decisions_event_names_it() -> None:
    event = audit_events(RECORD)[-1]
    names = [entity["what"]["identifier"]["value"] for entity in event["entity"] if "what" in entity]
    assert f"{RECORD.origin}#{RECORD.index}.provenance" in names


def test_nothing_shown_has_no_provenance_and_nothing_names_one() -> None:
    quiet = changed(DECISION, cards=(), system_actions=())
    assert provenances(quiet) == ()
    assert "provenance" not in json.dumps(audit_events(quiet))


def test_other_kinds_have_none() -> None:
    kinds = [record_of(entry) for name, entry in EXAMPLES.items() if name != "decision"]
    assert [provenances(record) for record in (*kinds, record_of(UNKNOWN))] == [()] * (len(kinds) + 1)
