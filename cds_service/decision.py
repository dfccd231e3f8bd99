"""One decision as the log keeps it: a leaf without patient data, and an encrypted payload that can repeat the decision.

The leaf (`audit.entry.DecisionEntry`) holds codes, counts, digests and commitments. The payload holds the tensors that went
into the graph and the cards that came out, so that `replay` can show later that the same bytes give the same answer.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from audit.clock import ClockStatus
from audit.commitments import Digest, IndexKey, digest, keyed_digest
from audit.entry import (
    CardShown,
    DecisionEntry,
    Explanation,
    Inputs,
    ModelUse,
    Output,
    PayloadReference,
    Request,
    Requester,
    Service,
    format_time,
)
from audit.vault import SubjectKey
from cds_service.cards import Card
from cds_service.clients import CdsClient
from cds_service.errors import Came
from cds_service.quirks import Quirk
from cds_service.request import HookRequest
from cds_service.services import CdsService
from cds_service.suggestions import Action, proposed_changes
from model_artifacts.assessment import Abstention, AbstentionReason, Finding, Prediction
from model_artifacts.graph import GraphAnswer
from model_artifacts.inputs import Evidence
from model_artifacts.manifest import ModelManifest
from model_artifacts.occlusion import METHOD as OCCLUSION
from model_artifacts.runtime import Assessed

# Purpose and data to the commitment in one entry, under its patient's key.
Commit: TypeAlias = Callable[[str, bytes], Digest]

EXPLANATION_METHODS = {"graph": "integrated-gradients", "occlusion": OCCLUSION}
"""As the leaf names them, by the manifest's explainer."""
SERVICE_VERSION = "1"
STAFF = frozenset({"Practitioner", "PractitionerRole"})  # users of any other type are patients, or stand for one
# SMART App Launch 2.2, scopes v1 and v2 for what Bedside may read. Search parameters, other types and contexts are left out:
# they are the client's free text, and a leaf has room for none.
_SMART_SCOPE = re.compile(
    r"(patient|user|system)/(Patient|Observation|Condition|Encounter|Medication(Request|Statement|Administration)?|\*)"
    r"\.(read|write|\*|c?r?u?d?s?)|openid|fhirUser|launch(/patient|/encounter)?|online_access|offline_access"
)


class StoredArray(msgspec.Struct, frozen=True):
    """A tensor byte for byte."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def pack(cls, array: npt.NDArray[Any]) -> StoredArray:
        """The stored form of `array`."""
        return cls(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())

    def unpack(self) -> npt.NDArray[Any]:
        """The array, equal bit for bit to the one packed."""
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


class ReplayPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to repeat one decision; always encrypted at rest.

    `answer` is None if the graph did not run. `cards` are what the model's finding reads as, also where nothing was `shown`;
    `drafted` are proposals left out because the draft orders held them, as system and code; `drafts` the draft orders that a
    proposal would change, by reference.
    """

    schema: Literal["bedside-replay/1"] = "bedside-replay/1"
    as_of: datetime
    patient_id: str
    model_id: str
    model_version: str
    artifact_sha256: str
    manifest_sha256: str
    arrays: dict[str, StoredArray]
    evidence: tuple[Evidence, ...]
    slots: tuple[tuple[int, ...], ...]
    set_aside: tuple[str, ...]
    gaps: tuple[str, ...]
    answer: str | None
    abstention: tuple[AbstentionReason, ...]
    outside_population: bool
    model_page: str | None
    cards: tuple[dict[str, Any], ...]
    drafted: tuple[tuple[str, str], ...] = ()
    shown: bool = True
    system_actions: tuple[dict[str, Any], ...] = ()
    drafts: dict[str, bytes] = {}


class UnansweredPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a decision in which no model's answer came about: whose it was, and what was shown in its place.

    So every decision is found with its patient, and goes with the patient; always encrypted at rest.
    """

    schema: Literal["bedside-unanswered/1"] = "bedside-unanswered/1"
    as_of: datetime
    patient_id: str
    cards: tuple[dict[str, Any], ...]
    shown: bool


@dataclass(frozen=True, slots=True)
class Context:
    """What is the same for every decision of a running service; `index_key` is for what is about staff."""

    tenant: str
    software: str
    config: str
    index_key: IndexKey


@dataclass(frozen=True, slots=True)
class Decision:
    """The facts of one decision; `assessed` and `finding` are None where no model's answer came about.

    Attributes:
        clock: the state of the clock that `received_at` was read from.
        key: the patient's; whatever the leaf says that depends on the patient is under it.
        cards: what the finding reads as; sent only if `shown`.
        shadow: whether the model ran only to be observed.
    """

    entry_id: str
    received_at: datetime
    clock: ClockStatus
    status: str
    key: SubjectKey
    client: CdsClient
    service: CdsService
    request: HookRequest
    came: Came
    gaps: tuple[str, ...]
    assessed: Assessed | None
    finding: Finding | None
    drafted: tuple[tuple[str, str], ...]
    cards: tuple[Card, ...]
    shown: bool
    shadow: bool
    system_actions: tuple[Action, ...]
    latency_us: Mapping[str, int]


def payload_bytes(decision: Decision, model_page: str | None) -> bytes:
    """The payload to encrypt."""
    assessed = decision.assessed
    cards = tuple(card.to_json() for card in decision.cards)
    if assessed is None:
        patient_id = decision.request.context.patient_id
        unanswered = UnansweredPayload(
            as_of=decision.received_at, patient_id=patient_id, cards=cards, shown=decision.shown
        )
        return msgspec.msgpack.encode(unanswered)
    assessment = assessed.assessment
    abstention = assessment if isinstance(assessment, Abstention) else None
    payload = ReplayPayload(
        as_of=decision.received_at,
        patient_id=decision.request.context.patient_id,
        model_id=assessment.model.id,
        model_version=assessment.model.version,
        artifact_sha256=assessment.model.artifact_sha256,
        manifest_sha256=assessment.model.manifest_sha256,
        arrays={name: StoredArray.pack(array) for name, array in assessed.inputs.arrays.items()},
        evidence=assessment.evidence,
        slots=assessed.inputs.slots,
        set_aside=assessment.set_aside,
        gaps=decision.gaps,
        answer=None if assessed.answer is None else assessed.answer.digest(),
        abstention=() if abstention is None else abstention.reasons,
        outside_population=abstention is not None and abstention.outside_population,
        model_page=model_page,
        cards=cards,
        drafted=decision.drafted,
        shown=decision.shown,
        system_actions=tuple(action.to_json() for action in decision.system_actions),
        drafts={}
        if decision.finding is None
        else proposed_changes(decision.finding, decision.request.context.resources),
    )
    return msgspec.msgpack.encode(payload)


def decision_entry(decision: Decision, context: Context, payload: PayloadReference) -> DecisionEntry:
    """The log's leaf for `decision`: nothing in it identifies the patient or holds a clinical value."""
    commit = partial(_commit, decision)
    return DecisionEntry(
        id=decision.entry_id,
        time=format_time(decision.received_at),
        clock=decision.clock,
        tenant=context.tenant,
        service=Service(decision.service.id, SERVICE_VERSION),
        software=context.software,
        config=context.config,
        request=_request(decision),
        requester=_requester(decision, context),
        patient=decision.key.commitment(decision.entry_id),
        model=_model(decision),
        inputs=_inputs(decision),
        output=_output(decision),
        abstention=_abstention_codes(decision),
        explanation=_explanation(decision),
        cards=tuple(leaf_card(card.to_json(), commit) for card in decision.cards if decision.shown),
        system_actions=tuple(leaf_action(action.to_json(), commit) for action in decision.system_actions),
        latency_us=dict(decision.latency_us),
        status=decision.status,
        payload=payload,
    )


def _request(decision: Decision) -> Request:
    request, came = decision.request, decision.came
    return Request(
        hook=request.hook,
        hook_instance=_hook_instance(decision),
        body=_commit(decision, "body", request.body_sha256),
        prefetch_present=came.prefetched,
        prefetch_missing=came.fetched,
        prefetch_failed=came.failed,
        fhir_origin=came.fhir_origin,
        scopes=_scopes(request, decision.client),
    )


def _scopes(request: HookRequest, client: CdsClient) -> tuple[str, ...]:
    """The SMART scopes among those granted; whatever else a client writes there is only counted."""
    scope = "" if request.fhir_authorization is None else request.fhir_authorization.scope
    if client.has(Quirk.OPAQUE_SCOPES):
        return ("opaque",) if scope else ()
    granted = scope.split()
    known = [scope for scope in granted if _SMART_SCOPE.fullmatch(scope)]
    others = len(granted) - len(known)
    return (*dict.fromkeys(known), f"other:{others}") if others else tuple(dict.fromkeys(known))


def _hook_instance(decision: Decision) -> str:
    """The client's UUID, or a commitment to whatever else it sent: free text could name the patient."""
    text = decision.request.hook_instance
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return f"hmac:{_commit(decision, 'hook-instance', text.encode())}"


def _requester(decision: Decision, context: Context) -> Requester:
    client, user = decision.client, decision.request.context.user
    if user is None:
        return Requester(client.issuer, client.id, None, None)
    reference = f"{user.resource_type}/{user.id}".encode()
    if user.resource_type in STAFF:
        who = keyed_digest(context.index_key, "practitioner", reference)
    else:  # the patient or a relative: whoever that is goes with the patient, and isn't known again in another entry
        who = _commit(decision, "user", reference)
    return Requester(client.issuer, client.id, who, user.resource_type)


def _model(decision: Decision) -> ModelUse:
    model = decision.service.model
    identity = model.identity
    return ModelUse(
        id=identity.id,
        version=identity.version,
        artefact=identity.artifact_sha256,
        manifest=identity.manifest_sha256,
        thresholds=leaf_thresholds(model.manifest),
        card=identity.card_sha256,
        status="shadow" if decision.shadow else "active",
    )


def _inputs(decision: Decision) -> Inputs | None:
    assessed = decision.assessed
    if assessed is None:
        return None
    return leaf_inputs(assessed.inputs.arrays, assessed.assessment.evidence, partial(_commit, decision))


def _output(decision: Decision) -> Output | None:
    if decision.finding is None:
        return None
    predicted = decision.assessed is not None and isinstance(decision.assessed.assessment, Prediction)
    return leaf_output(decision.finding, predicted=predicted)


def _abstention_codes(decision: Decision) -> tuple[str, ...]:
    assessment = decision.assessed and decision.assessed.assessment
    return tuple(reason.code for reason in assessment.reasons) if isinstance(assessment, Abstention) else ()


def _explanation(decision: Decision) -> Explanation | None:
    if decision.assessed is None or decision.assessed.answer is None:
        return None
    return leaf_explanation(decision.service.model.manifest, decision.assessed.answer, partial(_commit, decision))


def _commit(decision: Decision, purpose: str, data: bytes) -> Digest:
    return decision.key.commit(decision.entry_id, purpose, data)


# What a leaf says of what was decided: made here for the log, and once more by `replay`, from the payload.


def leaf_thresholds(manifest: ModelManifest) -> Digest:
    """The digest of the bands that a model's answers fall into."""
    return digest(msgspec.json.encode(manifest.bands))


def leaf_inputs(arrays: Mapping[str, npt.NDArray[Any]], evidence: tuple[Evidence, ...], commit: Commit) -> Inputs:
    """What the leaf says of the tensors that went into the graph."""
    tensors = b"".join(arrays[name].tobytes() for name in sorted(arrays))
    return Inputs(
        commitment=commit("inputs", tensors),
        present=sum(item.value is not None for item in evidence),
        missing=sum(item.value is None for item in evidence),
        stale=sum(item.absence == "stale" for item in evidence),
    )


def leaf_output(finding: Finding, *, predicted: bool) -> Output:
    """What the leaf says of the finding; an abstention has no band."""
    return Output(finding.code.rpartition(":")[2] if predicted else None, finding.code)


def leaf_explanation(manifest: ModelManifest, answer: GraphAnswer, commit: Commit) -> Explanation:
    """What the leaf says of how the answer came about."""
    method = EXPLANATION_METHODS[manifest.artifact.explainer]
    return Explanation(method, commit("explanation", answer.attributions.tobytes()))


def leaf_card(card: Mapping[str, Any], commit: Commit) -> CardShown:
    """What the leaf says of a card in its wire form."""
    return CardShown(
        uuid=card["uuid"],
        indicator=card["indicator"],
        text=commit("card", f"{card['summary']}\n{card['detail']}".encode()),
        suggestions=tuple(suggestion["uuid"] for suggestion in card.get("suggestions", ())),
    )


def leaf_action(action: Mapping[str, Any], commit: Commit) -> Digest:
    """What the leaf says of a system action in its wire form."""
    return commit("system-action", msgspec.json.encode(action, order="sorted"))
