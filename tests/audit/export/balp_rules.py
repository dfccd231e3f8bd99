"""What IHE's Basic Audit Log Patterns ask of an AuditEvent, as data, and a checker that names what is broken.

Source: the differentials of the StructureDefinitions of BALP 1.1.4 (2025-10-31), https://profiles.ihe.net/ITI/BALP, as
published in https://github.com/IHE/publications (ITI/BALP/StructureDefinition-IHE.BasicAudit.*.md) at commits
cf3d08d8d2ed9443d9882de6ea611488c8828eb7, adb4aa25dc406818550a30a59d895cdf04c8bc4c and
5146ff53d59dd0718680296d52ac943eb6a087b6. Licence of the guide: CC-BY-4.0 (its sushi-config.yaml); publisher: IHE IT
Infrastructure Technical Committee. The constraints were transcribed: cardinalities, patterns, required bindings and
invariants; `mustSupport` and texts can't be checked and are left out.

A slice holds the elements whose `type` (or the element itself, for subtypes) carries one of the slice's codes: all of BALP's
slices are told apart by that. An element with an extension alone counts as present, as FHIR has it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Codes = frozenset[tuple[str, str]]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
REST = "http://hl7.org/fhir/restful-interaction"
EVENT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
SCT = "http://snomed.info/sct"
BASE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."


def codes(system: str, *values: str) -> Codes:
    return frozenset((system, value) for value in values)


# https://profiles.ihe.net/ITI/BALP/ValueSet/...
ALL_READ = codes(REST, "read", "vread")
ALL_SEARCH = codes(REST, "search", "search-type", "search-system")
ALL_UPDATE = codes(REST, "update", "patch")
DATA_SOURCES = codes(PARTICIPATION, "AUT", "INF", "CST")
REST_OBJECT_ROLES = codes(OBJECT_ROLE, "4", "3", "20")


@dataclass(frozen=True)
class Slice:
    """Elements of one kind: how many there may be, and what each must have or lack.

    `obeys_source`: invariant val-audit-source, `$this.who = %resource.source.observer`.
    """

    name: str
    holds: Codes
    low: int
    high: int | None = 1
    present: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    coded: Mapping[str, Codes] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    refers_to: str | None = None
    obeys_source: bool = False


@dataclass(frozen=True)
class Profile:
    """Constraints on an AuditEvent; those of the base profile hold too."""

    url: str
    base: "Profile | None" = None
    type: Codes = frozenset()
    action: str = ""
    outcome: Codes | None = None
    needs_outcome: bool = False
    no_modifier: bool = False
    subtypes: tuple[Slice, ...] = ()
    agents: tuple[Slice, ...] = ()
    entities: tuple[Slice, ...] = ()
    least_subtypes: int = 0
    least_agents: int = 1
    least_entities: int = 0


_TRANSACTION = Slice(
    "transaction",
    codes("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId"),
    0,
    present=("what.identifier.value",),
)
_PATIENT = Slice(
    "patient",
    codes(ENTITY_TYPE, "1"),
    1,
    present=("what", "type", "role"),
    coded={"role": codes(OBJECT_ROLE, "1")},
    refers_to="Patient",
)
_DATA = Slice(
    "data",
    codes(ENTITY_TYPE, "2"),
    1,
    present=("what", "type", "role"),
    coded={"role": REST_OBJECT_ROLES},
)
# Of Read alone the role is bound, and not asked for.
_DATA_READ = replace(_DATA, present=("what", "type"))


def _user(holds: Codes) -> Slice:
    return Slice("user", holds, 0, present=("type", "who"), lacking=("media", "network"), fixed={"requestor": True})


def _machine(name: str, holds: Codes) -> Slice:
    return Slice(name, holds, 1, present=("type", "who", "network"), lacking=("media",))


def _rest(url: str, action: str, subtype: Slice, client: Codes, server: Codes, user: Codes, thing: Slice) -> Profile:
    return Profile(
        BASE + url,
        type=codes(EVENT_TYPE, "rest"),
        action=action,
        outcome=codes("", "0"),
        subtypes=(subtype,),
        agents=(_machine("client", client), _machine("server", server), _user(user)),
        entities=(_TRANSACTION, thing),
        least_subtypes=1,
        least_agents=2,
        least_entities=1,
    )


def _with_patient(url: str, base: Profile) -> Profile:
    return Profile(BASE + url, base=base, entities=(_PATIENT,), least_entities=2)


_SOURCE, _DESTINATION, _APPLICATION = codes(DCM, "110153"), codes(DCM, "110152"), codes(DCM, "110150")
_RECIPIENT = codes(PARTICIPATION, "IRCP")
_CUSTODIAN = codes("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian")

READ = _rest("Read", "R", Slice("anyRead", ALL_READ, 1), _DESTINATION, _SOURCE, _RECIPIENT, _DATA_READ)
QUERY = _rest(
    "Query",
    "E",
    Slice("anySearch", ALL_SEARCH, 1),
    _SOURCE,
    _DESTINATION,
    _RECIPIENT,
    Slice(
        "query",
        codes(ENTITY_TYPE, "2"),
        1,
        present=("type", "role", "query"),
        lacking=("what", "lifecycle", "detail"),
        coded={"role": codes(OBJECT_ROLE, "24")},
    ),
)
UPDATE = _rest("Update", "U", Slice("anyUpdate", ALL_UPDATE, 1), _SOURCE, _DESTINATION, DATA_SOURCES, _DATA)
DELETE = _rest(
    "Delete", "D", Slice("anyDelete", codes(REST, "delete"), 1), _APPLICATION, _CUSTODIAN, DATA_SOURCES, _DATA
)
OPAQUE = Profile(
    BASE + "OAUTHaccessTokenUse.Opaque",
    agents=(
        Slice(
            "oUser",
            codes("https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes", "UserOauthAgent"),
            1,
            None,
            present=("type", "policy"),
            single=("policy",),
            fixed={"requestor": True},
        ),
    ),
)
RECIPIENT = Profile(
    BASE + "PrivacyDisclosure.Recipient",
    type=codes(DCM, "110107"),
    action="C",
    needs_outcome=True,
    no_modifier=True,
    subtypes=(Slice("disclosure", codes("http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "disclose"), 1),),
    agents=(
        Slice("source", _SOURCE, 1, present=("type", "who", "network")),
        Slice("recipient", _DESTINATION, 1, present=("type", "who", "network"), obeys_source=True),
        Slice("custodian", codes(SCT, "159541003"), 0, present=("type", "who")),
        Slice("authorizer", codes(SCT, "429577009"), 0, present=("type", "who")),
    ),
    entities=(_PATIENT,),
    least_subtypes=1,
    least_agents=2,
    least_entities=2,
)
PROFILES: Mapping[str, Profile] = {
    profile.url: profile
    for profile in (
        READ,
        QUERY,
        UPDATE,
        DELETE,
        OPAQUE,
        RECIPIENT,
        _with_patient("PatientRead", READ),
        _with_patient("PatientQuery", QUERY),
        _with_patient("PatientUpdate", UPDATE),
        _with_patient("PatientDelete", DELETE),
    )
}


def violations(event: Mapping[str, Any], profile: Profile) -> list[str]:
    """Every constraint of `profile` that `event` breaks, by the name of the element."""
    return sorted(set(_violations(event, profile)))


def _violations(event: Mapping[str, Any], profile: Profile) -> Iterator[str]:
    if profile.base is not None:
        yield from _violations(event, profile.base)
    yield from (f"AuditEvent.{name}" for name in _broken_values(event, profile))
    least = {"subtype": profile.least_subtypes, "agent": profile.least_agents, "entity": profile.least_entities}
    slices = {"subtype": profile.subtypes, "agent": profile.agents, "entity": profile.entities}
    for name, minimum in least.items():
        if len(event.get(name, ())) < minimum:
            yield f"AuditEvent.{name}"
        for one in slices[name]:
            yield from _slice_violations(event, name, one)


def _broken_values(event: Mapping[str, Any], profile: Profile) -> list[str]:
    """The elements of the event itself that aren't as the profile has them."""
    holds = {
        "type": not profile.type or bool(_codings(event.get("type")) & profile.type),
        "action": profile.action in ("", event.get("action")),
        "outcome": profile.outcome is None or ("", str(event.get("outcome"))) in profile.outcome,
        "modifierExtension": not (profile.no_modifier and "modifierExtension" in event),
        "recorded": _is_present(event, "recorded"),
    }
    broken = [name for name, is_held in holds.items() if not is_held]
    return [*broken, "outcome"] if profile.needs_outcome and not _is_present(event, "outcome") else broken


def _slice_violations(event: Mapping[str, Any], name: str, rule: Slice) -> Iterator[str]:
    place = f"AuditEvent.{name}:{rule.name}"
    members = [
        item for item in event.get(name, ()) if _codings(item if name == "subtype" else item.get("type")) & rule.holds
    ]
    if len(members) < rule.low or (rule.high is not None and len(members) > rule.high):
        yield place
    for member in members:
        yield from (f"{place}.{path}" for path in rule.present if not _is_present(member, path))
        yield from (f"{place}.{path}" for path in rule.lacking if _is_present(member, path))
        yield from (f"{place}.{path}" for path in rule.single if _count(member, path) > 1)
        yield from (f"{place}.{path}" for path, value in rule.fixed.items() if member.get(path) != value)
        for path, allowed in rule.coded.items():
            if path in member and not _codings(member[path]) & allowed:
                yield f"{place}.{path}"
        if rule.refers_to is not None and not _refers_to(member.get("what", {}), rule.refers_to):
            yield f"{place}.what"
        if rule.obeys_source and member.get("who") != event.get("source", {}).get("observer"):
            yield f"{place} val-audit-source"


def _codings(value: Any) -> Codes:
    """The codes in a Coding or a CodeableConcept."""
    if not isinstance(value, Mapping):
        return frozenset()
    found = value.get("coding", [value])
    return frozenset((coding.get("system", ""), coding.get("code", "")) for coding in found)


def _is_present(element: Mapping[str, Any], path: str) -> bool:
    return _count(element, path) > 0


def _count(element: Mapping[str, Any], path: str) -> int:
    """How many values stand at `path`; a primitive may be there by its extensions alone, under `_name`."""
    name, _, rest = path.partition(".")
    values = element.get(name, element.get(f"_{name}", []))
    values = values if isinstance(values, list) else [values]
    values = [value for value in values if value not in (None, "", {})]
    if not rest:
        return len(values)
    return sum(_count(value, rest) for value in values)


def _refers_to(reference: Mapping[str, Any], resource: str) -> bool:
    by_address = str(reference.get("reference", "")).startswith(f"{resource}/")
    return by_address or reference.get("type") == resource
