"""One entry of each kind, and the records they make in a log of these entries alone."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

import msgspec

from audit.entry import (
    CardShown,
    DecisionEntry,
    Entry,
    Explanation,
    FeedbackEntry,
    Inputs,
    ModelUse,
    Output,
    PayloadReference,
    Request,
    Requester,
    Service,
    format_entry,
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
from audit.export.records import LogRecord, make_record
from audit.log import AuditLog
from audit.merkle import LeafIndex, TreeSize

ORIGIN = "hospital.example/cds-audit/north/1"
TIME = "2026-03-01T08:00:00.000000Z"
CARD = "0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1"
SERVICE = Service(id="prevent-cvd", version="1")


def digest(word: str) -> str:
    """Another digest for each word, so that no two fields can be taken for each other unseen."""
    return sha256(word.encode()).hexdigest()


def common(kind: str) -> dict[str, str]:
    return {"id": digest(kind)[:32], "time": TIME, "clock": "synchronised", "tenant": "north"}


REQUESTER = Requester(
    issuer="https://ehr.example.org", subject="ehr-client", practitioner=digest("practitioner"), role="Practitioner"
)
DECISION = DecisionEntry(
    **common("decision"),
    service=SERVICE,
    software=digest("software"),
    config=digest("config"),
    request=Request(
        hook="patient-view",
        hook_instance="d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        body=digest("body"),
        prefetch_present=("conditions", "labs"),
        prefetch_missing=("patient", "active_medications"),
        prefetch_failed=("smoking",),
        fhir_origin="https://fhir.example.org",
        scopes=("patient/Observation.rs",),
    ),
    requester=REQUESTER,
    patient=digest("patient"),
    model=ModelUse(
        id="prevent_cvd",
        version="1.0.0",
        artefact=digest("artefact"),
        manifest=digest("manifest"),
        thresholds=digest("thresholds"),
        card=digest("model-card"),
        status="active",
    ),
    inputs=Inputs(commitment=digest("inputs"), present=9, missing=1, stale=0),
    output=Output(band="high", decision="prevent_cvd:high"),
    abstention=(),
    explanation=Explanation(method="integrated-gradients", commitment=digest("explanation")),
    cards=(
        CardShown(
            uuid=CARD,
            indicator="warning",
            text=digest("card-text"),
            suggestions=("7d2c1f70-8a5b-4f57-9f0f-0c4e0f5f1a11",),
        ),
    ),
    system_actions=(digest("action"),),
    latency_us={"gather": 120, "assess": 900},
    status="answered",
    payload=PayloadReference(sha256=digest("payload"), key_id="wrap:530d903a"),
)
FEEDBACK = FeedbackEntry(
    **common("feedback"),
    service=SERVICE,
    requester=Requester(issuer="https://ehr.example.org", subject="ehr-client", practitioner=None, role=None),
    decision=DECISION.id,
    card=CARD,
    outcome="overridden",
    accepted_suggestions=(),
    override_reason="patient-declined",
    outcome_time=TIME,
    payload=None,
)
ACCESS = AccessEntry(
    **common("access"),
    actor=digest("actor"),
    role="privacy-officer",
    action="decrypt",
    index=0,
    filter=None,
    results=1,
    reason="complaint",
)
ERASURE = ErasureEntry(
    **common("erasure"),
    reason="gdpr-17",
    subjects=1,
    payloads=4,
    erased=digest("erased"),
    requested_by=digest("officer-1"),
    approved_by=digest("officer-2"),
    approval=digest("approval"),
    retention="ended",
)
SKETCHED = SketchedModel("icu_mortality", "2.0.0", digest("artefact"), digest("manifest"), digest("reference"))
EXAMPLES: Mapping[str, Entry] = {
    "decision": DECISION,
    "feedback": FEEDBACK,
    "access": ACCESS,
    "search": msgspec.structs.replace(
        ACCESS, id=digest("search")[:32], action="search", index=None, filter=digest("filter"), results=12
    ),
    "erasure": ERASURE,
    "hold": HoldEntry(
        **common("hold"),
        hold=digest("the-hold")[:32],
        action="place",
        patient=digest("held"),
        reason="litigation",
        until="2027-03-01T08:00:00.000000Z",
        requested_by=digest("officer-1"),
        approved_by=digest("officer-2"),
    ),
    "switch": SwitchEntry(
        **common("switch"), scope="service", name="prevent-cvd", off=True, reason="safety", operator=digest("operator")
    ),
    "model": ModelEntry(
        **common("model"),
        action="deploy",
        model="prevent_cvd",
        version="1.0.0",
        artefact=digest("artefact"),
        manifest=digest("manifest"),
        card=digest("model-card"),
        replaces=digest("older"),
        reason="release",
        operator=digest("operator"),
    ),
    "config": ConfigEntry(
        **common("config"),
        software=digest("software"),
        software_version="0.1.0",
        config=digest("config"),
        models=(digest("artefact"),),
    ),
    "key-rotation": KeyRotationEntry(
        **common("key-rotation"),
        purpose="signing",
        action="introduce",
        key_id="530d903a",
        vkey="example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        reason="scheduled",
        operator=digest("operator"),
    ),
    "epoch": EpochEntry(**common("epoch"), origin=ORIGIN, reason="key-compromise", previous="a\n0\nb\n\n— a b\n"),
    "anchor": AnchorEntry(
        **common("anchor"),
        size=10,
        root=digest("root"),
        kind="rfc3161",
        authority="tsa.example.org",
        evidence=digest("evidence"),
    ),
    "verification": VerifyEntry(
        **common("verification"), size=10, root=digest("root"), outcome="valid", first_bad_index=None
    ),
    "sketch": SketchEntry(
        **common("sketch"),
        model=SKETCHED,
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
    "alarm": AlarmEntry(
        **common("alarm"),
        action="raise",
        model=SKETCHED,
        use="active",
        measure="psi",
        of="age",
        since=TIME,
        until=TIME,
        decisions=300,
        value_e6=410_000,
        limit_e6=250_000,
    ),
    "gap": GapEntry(**common("gap"), since=TIME, until=TIME, reason="storage", unacknowledged=3),
}
UNKNOWN = (
    b'{"_t":"novelty/v7","clock":"synchronised","id":"' + digest("novelty")[:32].encode() + b'","tenant":"north",'
    b'"time":"' + TIME.encode() + b'","what":"nobody knows"}'
)


def record_of(entry: Entry | bytes, index: int = 0) -> LogRecord:
    """The record of `entry` at `index` of a log of a hundred entries."""
    data = entry if isinstance(entry, bytes) else format_entry(entry)
    return make_record(ORIGIN, LeafIndex(index), TreeSize(100), data)


def example(name: str) -> LogRecord:
    """The record of one of the examples."""
    return record_of(EXAMPLES[name])


def changed(entry: Entry, **changes: object) -> LogRecord:
    """The record of `entry` with other fields."""
    return record_of(msgspec.structs.replace(entry, **changes))


def with_proof(record: LogRecord) -> LogRecord:
    """The record with the bytes of a proof."""
    return replace(record, proof=b"c2sp.org/tlog-proof@v1\nindex 0\n\nnote")


def fill(log: AuditLog) -> AuditLog:
    """The log with the examples in it, in their order; without payloads, which no export opens."""
    entries = (msgspec.structs.replace(DECISION, payload=None) if one is DECISION else one for one in EXAMPLES.values())
    log.append_all([(format_entry(entry), None) for entry in entries])
    return log
