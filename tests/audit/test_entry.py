import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import (
    Entry,
    FeedbackEntry,
    PayloadReference,
    Requester,
    Service,
    format_entry,
    format_json,
    format_time,
    parse_entry,
    read_header,
)
from audit.entry_custody import AccessEntry, ErasureEntry, HoldEntry
from audit.entry_monitoring import AlarmEntry, OutputCounts, SketchedModel, SketchEntry
from audit.entry_operations import (
    AnchorEntry,
    ConfigEntry,
    EpochEntry,
    GapEntry,
    KeyRotationEntry,
    ModelEntry,
    SwitchEntry,
    VerifyEntry,
)
from audit.errors import AuditError, EntryError
from audit.fields import MAX_INTEGER

ID = "0123456789abcdef0123456789abcdef"
DIGEST = "5a" * 32
OPERATOR = "0b" * 32
TIME = "2026-03-01T08:00:00.000000Z"
COMMON = {"id": ID, "time": TIME, "clock": "synchronised", "tenant": "north"}

OTHER_KINDS: list[Entry] = [
    GapEntry(**COMMON, since=TIME, until=TIME, reason="storage", unacknowledged=3),
    ConfigEntry(**COMMON, software=DIGEST, software_version="0.1.0", config=DIGEST, models=(DIGEST,)),
    EpochEntry(
        **COMMON, origin="hospital.example/cds-audit/north/2", reason="key-compromise", previous="a\n0\nb\n\n— a b\n"
    ),
    VerifyEntry(**COMMON, size=10, root=DIGEST, outcome="valid", first_bad_index=None),
    FeedbackEntry(
        **COMMON,
        service=Service(id="prevent-cvd", version="1"),
        requester=Requester(issuer="https://ehr.example", subject="north-ehr", practitioner=None, role=None),
        decision=ID,
        card="0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1",
        outcome="overridden",
        accepted_suggestions=(),
        override_reason="patient-declined",
        outcome_time=TIME,
        payload=PayloadReference(sha256=DIGEST, key_id="tenant:00000000"),
    ),
    SwitchEntry(**COMMON, scope="service", name="prevent-cvd", off=True, reason="safety", operator=DIGEST),
    ModelEntry(
        **COMMON,
        action="deploy",
        model="prevent_cvd",
        version="1.0.0",
        artefact=DIGEST,
        manifest=DIGEST,
        card=DIGEST,
        replaces=None,
        reason="release",
        operator=OPERATOR,
    ),
    KeyRotationEntry(
        **COMMON,
        purpose="signing",
        action="introduce",
        key_id="530d903a",
        vkey="example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        reason="scheduled",
        operator=OPERATOR,
    ),
    AnchorEntry(**COMMON, size=10, root=DIGEST, kind="cosignature", authority="witness.example/w1", evidence=DIGEST),
    AccessEntry(
        **COMMON,
        actor=OPERATOR,
        role="privacy-officer",
        action="decrypt",
        index=7,
        filter=None,
        results=1,
        reason="complaint",
    ),
    ErasureEntry(
        **COMMON,
        reason="gdpr-17",
        subjects=1,
        payloads=12,
        erased=DIGEST,
        requested_by=OPERATOR,
        approved_by=DIGEST,
        approval=DIGEST,
        retention="ended",
    ),
    HoldEntry(
        **COMMON,
        hold=ID,
        action="placed",
        patient=DIGEST,
        reason="litigation",
        until=None,
        requested_by=OPERATOR,
        approved_by=None,
    ),
    SketchEntry(
        **COMMON,
        model=SketchedModel("icu_mortality", "2.0.0", DIGEST, DIGEST, DIGEST),
        status="active",
        since=TIME,
        until=TIME,
        decisions=70,
        results={"abstained": 3, "answered": 67},
        abstentions={"too-few-inputs": 3},
        outside=1,
        shown=60,
        alerts=4,
        counted=51,
        inputs={"GCS": (20, 30, 1), "age": (51, 0, 0)},
        outputs={"death": OutputCounts((40, 10, 1), 5_500_000, 3_000_000)},
    ),
    AlarmEntry(
        **COMMON,
        action="raise",
        model=SketchedModel("icu_mortality", "2.0.0", DIGEST, DIGEST, None),
        use="active",
        measure="psi",
        of="age",
        since=TIME,
        until=TIME,
        decisions=300,
        value_e6=-410_000,
        limit_e6=250_000,
    ),
]

# Golden bytes: a released kind never changes.
GOLDEN_GAP = (
    b'{"_t":"gap/v1","clock":"synchronised","id":"0123456789abcdef0123456789abcdef","reason":"storage",'
    b'"since":"2026-03-01T08:00:00.000000Z","tenant":"north","time":"2026-03-01T08:00:00.000000Z",'
    b'"unacknowledged":3,"until":"2026-03-01T08:00:00.000000Z"}'
)

GOLDEN_FEEDBACK = (
    b'{"_t":"feedback/v1","accepted_suggestions":[],"card":"0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1","clock":"synchronised",'
    b'"decision":"0123456789abcdef0123456789abcdef","id":"0123456789abcdef0123456789abcdef","outcome":"overridden",'
    b'"outcome_time":"2026-03-01T08:00:00.000000Z","override_reason":"patient-declined","payload":'
    b'{"key_id":"tenant:00000000","sha256":"' + DIGEST.encode() + b'"},"requester":{"issuer":"https://ehr.example",'
    b'"practitioner":null,"role":null,"subject":"north-ehr"},"service":{"id":"prevent-cvd","version":"1"},'
    b'"tenant":"north","time":"2026-03-01T08:00:00.000000Z"}'
)

_MODEL = b'"model":{"artefact":"%b","id":"icu_mortality","manifest":"%b","reference":%b,"version":"2.0.0"}'
_DIGEST = DIGEST.encode()
GOLDEN_SKETCH = (
    b'{"_t":"sketch/v1","abstentions":{"too-few-inputs":3},"alerts":4,"clock":"synchronised","counted":51,"decisions":70,'
    b'"id":"0123456789abcdef0123456789abcdef","inputs":{"GCS":[20,30,1],"age":[51,0,0]},'
    + _MODEL
    % (_DIGEST, _DIGEST, b'"%b"' % _DIGEST)
    + b',"outputs":{"death":{"counts":[40,10,1],"sum_e6":5500000,"variance_e6":3000000}},"outside":1,'
    b'"results":{"abstained":3,"answered":67},"shown":60,"since":"2026-03-01T08:00:00.000000Z","status":"active",'
    b'"tenant":"north","time":"2026-03-01T08:00:00.000000Z","until":"2026-03-01T08:00:00.000000Z"}'
)
GOLDEN_ALARM = (
    b'{"_t":"alarm/v1","action":"raise","clock":"synchronised","decisions":300,"id":"0123456789abcdef0123456789abcdef",'
    b'"limit_e6":250000,"measure":"psi",' + _MODEL % (_DIGEST, _DIGEST, b"null") + b',"of":"age",'
    b'"since":"2026-03-01T08:00:00.000000Z","tenant":"north","time":"2026-03-01T08:00:00.000000Z",'
    b'"until":"2026-03-01T08:00:00.000000Z","use":"active","value_e6":-410000}'
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=20,
)


@given(json_values)
def test_entry_bytes_equal_an_independent_jcs(value: object) -> None:
    assert format_json(value) == rfc8785.dumps(value)


@given(json_values)
def test_entry_bytes_equal_those_of_the_standard_library(value: object) -> None:
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert format_json(value) == expected


@pytest.mark.parametrize(
    "value", [1.5, 1.0, float("nan"), {"a": [0.1]}, {"é": 1}, {1: 2}, 2**53, -(2**53), b"a", {"a"}, "\ud800"]
)
def test_entry_json_refuses_what_may_not_be_logged(value: object) -> None:
    with pytest.raises(EntryError):
        format_json(value)


def test_entry_gap_has_its_golden_bytes() -> None:
    assert format_entry(OTHER_KINDS[0]) == GOLDEN_GAP


def test_entry_feedback_has_its_golden_bytes() -> None:
    assert format_entry(OTHER_KINDS[4]) == GOLDEN_FEEDBACK


def test_entry_sketch_has_its_golden_bytes() -> None:
    (sketch,) = [entry for entry in OTHER_KINDS if isinstance(entry, SketchEntry)]
    assert format_entry(sketch) == GOLDEN_SKETCH


def test_entry_alarm_has_its_golden_bytes() -> None:
    (alarm,) = [entry for entry in OTHER_KINDS if isinstance(entry, AlarmEntry)]
    assert format_entry(alarm) == GOLDEN_ALARM


@pytest.mark.parametrize("name", ["Canary Name", "é", "", "a/b", "x" * 129])
def test_entry_sketch_takes_no_name_that_could_be_text(name: str) -> None:
    (sketch,) = [entry for entry in OTHER_KINDS if isinstance(entry, SketchEntry)]
    with pytest.raises(EntryError):
        format_entry(msgspec.structs.replace(sketch, inputs={name: (1, 2)}))


def test_entry_decision_has_its_golden_bytes(decision) -> None:
    data = format_entry(decision(ID))
    assert data.startswith(b'{"_t":"decision/v1","abstention":[],"cards":[{"indicator":"warning","suggestions":[],')
    assert rfc8785.dumps(json.loads(data)) == data
    assert len(data) < 2048


def test_entry_kinds_round_trip(decision) -> None:
    for entry in [decision(ID), *OTHER_KINDS]:
        assert parse_entry(format_entry(entry)) == entry
        assert rfc8785.dumps(json.loads(format_entry(entry))) == format_entry(entry)


def test_entry_header_has_the_facts_an_entry_is_found_by(decision) -> None:
    found = [read_header(format_entry(entry)) for entry in [decision(ID), *OTHER_KINDS]]
    facts = {one.type: (one.service_id, one.model_version, one.result, one.person) for one in found}
    assert facts["decision/v1"] == ("prevent-cvd", "prevent_cvd@1.0.0", "ok", DIGEST)
    assert facts["feedback/v1"] == ("prevent-cvd", "", "overridden", "")
    assert facts["model/v1"] == ("", "prevent_cvd@1.0.0", "deploy", OPERATOR)
    assert facts["access/v1"] == ("", "", "decrypt", OPERATOR)
    assert facts["erasure/v1"] == ("", "", "", OPERATOR)
    assert facts["gap/v1"] == ("", "", "", "")
    assert facts["sketch/v1"] == ("", "icu_mortality@2.0.0", "active", "")
    assert facts["alarm/v1"] == ("", "icu_mortality@2.0.0", "raise", "")


def test_entry_header_is_read_from_every_kind(decision) -> None:
    for entry in [decision(ID), *OTHER_KINDS]:
        header = read_header(format_entry(entry))
        assert (header.id, header.time, header.tenant) == (ID, TIME, "north")
    assert (
        read_header(b'{"_t":"access/v7","id":"%s","tenant":"t","time":"%s"}' % (ID.encode(), TIME.encode())).type
        == "access/v7"
    )


def _strings(value: object, path: tuple = ()) -> Iterator[tuple]:
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _strings(member, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _strings(item, (*path, position))


def test_entry_has_no_field_that_takes_free_text(decision) -> None:
    data = json.loads(
        format_entry(decision(ID, abstention=("too-old",), payload=PayloadReference(sha256=DIGEST, key_id="k")))
    )
    places = list(_strings(data))
    assert len(places) > 40
    for place in places:
        for text in ("Jane Doe", "MRN 12345", "eGFR 41.5 mL/min", "Jane\n"):
            changed = json.loads(json.dumps(data))
            holder = changed
            for step in place[:-1]:
                holder = holder[step]
            holder[place[-1]] = text
            with pytest.raises(EntryError) as caught:
                parse_entry(format_json(changed))
            assert text not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"unacknowledged":3', b'"unacknowledged":3.0'),
        lambda data: data.replace(b'"unacknowledged":3', b'"unacknowledged":-1'),
        lambda data: data.replace(b'"unacknowledged":3', b'"unacknowledged":9007199254740992'),
        lambda data: data.replace(b'"unacknowledged":3', b'"unacknowledged": 3'),
        lambda data: data.replace(b'"reason":"storage"', b'"reason":"\\u0073torage"'),
        lambda data: data.replace(b'"reason":"storage"', b'"reason":"storage","reason":"storage"'),
        lambda data: data.replace(b'"reason":"storage",', b""),
        lambda data: data.replace(b'"reason":"storage"', b'"reason":"storage","remark":"x"'),
        lambda data: data.replace(b"gap/v1", b"gap/v2"),
        lambda data: data.replace(b"gap/v1", b"decision/v1"),
        lambda data: data + b"\n",
        lambda data: b"[" + data + b"]",
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data.replace(b"storage", b"\xff\xfe"),
    ],
)
def test_entry_in_any_other_spelling_is_refused(change) -> None:
    assert parse_entry(GOLDEN_GAP)
    with pytest.raises(EntryError):
        parse_entry(change(GOLDEN_GAP))


def test_entry_larger_than_a_bundle_holds_is_refused(decision) -> None:
    with pytest.raises(EntryError, match="at most 65535 bytes"):
        format_entry(decision(ID, abstention=("x" * 100,) * 700))


@given(st.binary() | st.text().map(str.encode) | json_values.map(format_json))
def test_entry_parsers_raise_nothing_foreign(data: bytes) -> None:
    for parse in (parse_entry, read_header):
        try:
            parse(data)
        except AuditError:
            continue


def test_entry_time_is_utc_of_fixed_width() -> None:
    east = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 3, 1, 10, 0, tzinfo=east)) == TIME
    assert format_time(datetime(2026, 3, 1, 8, 0, 0, 5, tzinfo=UTC)) == "2026-03-01T08:00:00.000005Z"
    with pytest.raises(EntryError):
        format_time(datetime(2026, 3, 1, 8, 0))  # noqa: DTZ001 - the point of the test
