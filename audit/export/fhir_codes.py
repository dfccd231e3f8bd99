"""The codes of our FHIR R4 resources, and the tables by which the writer is held to them.

`fhir.resources` checks structure and types; of codes it checks nothing, and accepts `outcome: "nonsense"`. The required
bindings of the elements we write, and every code system we take codes from, are therefore listed here with what we use.

Sources: https://hl7.org/fhir/R4/auditevent.html and provenance.html; DICOM PS3.16 annex D (DCM); IHE ITI BALP 1.1.4
(https://profiles.ihe.net/ITI/BALP); https://terminology.hl7.org. What is our own lies under `BASE`, which never resolves. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

BASE = "https://bedside.invalid/fhir"  # RFC 2606: a name that can't belong to anyone

PROFILE = f"{BASE}/StructureDefinition"
LOG_EXTENSION = f"{PROFILE}/log-entry"
EVENTS = f"{BASE}/CodeSystem/event"

LOG_RECORD = f"{BASE}/NamingSystem/log-record"  # <origin>#<index>.<part>
PATIENT_COMMITMENT = f"{BASE}/NamingSystem/patient-commitment"
PERSON_DIGEST = f"{BASE}/NamingSystem/person-digest"
LOG_ORIGIN = f"{BASE}/NamingSystem/log-origin"
CLIENT = f"{BASE}/NamingSystem/client"  # the subject of a CDS client, where its issuer is unknown
CARD = f"{BASE}/NamingSystem/card"
SYSTEM_ACTION = f"{BASE}/NamingSystem/system-action"
INPUTS = f"{BASE}/NamingSystem/inputs-commitment"
HOOK_INSTANCE = f"{BASE}/NamingSystem/hook-instance"
MODEL = "urn:bedside:model"  # as in the RiskAssessments that the service writes
ERASED = f"{BASE}/NamingSystem/erased"
HOLD = f"{BASE}/NamingSystem/hold"
DIGEST = f"{BASE}/NamingSystem/digest"
KEY = f"{BASE}/NamingSystem/key"
AUTHORITY = f"{BASE}/NamingSystem/authority"

BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

DCM = "http://dicom.nema.org/resources/ontology/DCM"
EVENT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
RESOURCE_TYPE = "http://hl7.org/fhir/resource-types"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
OBSERVATION_VALUE = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
USER_AGENT = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes"
ROLE = f"{BASE}/CodeSystem/role"  # the client's own word for a user's role: not from a published code system

_DISPLAYS: dict[str, dict[str, str]] = {
    DCM: {
        "110100": "Application Activity",
        "110101": "Audit Log Used",
        "110107": "Import",
        "110113": "Security Alert",
        "110120": "Application Start",
        "110129": "Security Configuration",
        "110131": "Software Configuration",
        "110132": "Use of Restricted Function",
        "110133": "Audit Recording Stopped",
        "110134": "Audit Recording Started",
        "110135": "Object Security Attributes Changed",
        "110150": "Application",
        "110152": "Destination Role ID",
        "110153": "Source Role ID",
    },
    EVENT_TYPE: {"rest": "RESTful Operation"},
    INTERACTION: {
        "read": "read",
        "search": "search",
        "update": "update",
        "delete": "delete",
        "operation": "operation",
    },
    LIFECYCLE: {"disclose": "Disclose Record Lifecycle Event"},
    ENTITY_TYPE: {"1": "Person", "2": "System Object"},
    RESOURCE_TYPE: {"AuditEvent": "AuditEvent"},
    OBJECT_ROLE: {
        "1": "Patient",
        "3": "Report",
        "4": "Domain Resource",
        "13": "Security Resource",
        "20": "Job",
        "24": "Query",
        "26": "Processing Element",
    },
    PARTICIPATION: {
        "AUT": "author (originator)",
        "IRCP": "information recipient",
        "LA": "legal authenticator",
    },
    PARTICIPANT: {"custodian": "Custodian", "assembler": "Assembler", "informant": "Informant"},
    SOURCE_TYPE: {"4": "Application Server"},
    OBSERVATION_VALUE: {"AIAST": "Artificial Intelligence asserted"},
    DATA_OPERATION: {"EXECUTE": "execute"},
    USER_AGENT: {"UserOauthAgent": "User OAuth Agent participant"},
    EVENTS: {
        "disclosure": "Hook call received",
        "fetch": "Record fetched from the EHR",
        "fetch-failed": "Record not to be had from the EHR",
        "decision": "Decision made and answered",
        "feedback": "Feedback on a card received",
        "switch-off": "Switched off",
        "switch-on": "Switched on again",
        "config": "Configuration in force",
        "model": "Model version came into use or left it",
        "key-rotation": "Key came into use or left it",
        "anchor": "Head of the log kept by an outsider",
        "verification": "Log verified",
        "epoch": "Epoch of the log began",
        "gap": "Decisions not recorded",
        "access": "Log looked at",
        "erasure": "Patients erased",
        "hold": "Legal hold placed or released",
        "sketch": "Model's inputs and outputs counted",
        "alarm": "Model left the bounds of its manifest",
        "alarm-over": "Model is within the bounds of its manifest again",
        "other": "Entry of a kind unknown to this exporter",
    },
}
CODES: Mapping[str, Mapping[str, str]] = _DISPLAYS

# The required bindings of R4 on the elements we write (path without array positions).
REQUIRED: Mapping[str, frozenset[str]] = {
    "AuditEvent.action": frozenset("CRUDE"),
    "AuditEvent.outcome": frozenset(("0", "4", "8", "12")),
    "AuditEvent.agent.network.type": frozenset(("1", "2", "3", "4", "5")),
    "Provenance.entity.role": frozenset(("derivation", "revision", "quotation", "source", "removal")),
}

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE, MAJOR_FAILURE = "0", "4", "8", "12"
MACHINE_NAME, URI = "1", "5"


@dataclass(frozen=True, slots=True)
class Code:
    """A code of one of the systems above; one that isn't listed there can't be made."""

    system: str
    code: str

    def __post_init__(self) -> None:
        if self.code not in CODES.get(self.system, {}):
            message = f"code: {self.code} of {self.system} isn't listed"
            raise ValueError(message)

    def coding(self) -> dict[str, str]:
        """The FHIR Coding."""
        return {"system": self.system, "code": self.code, "display": CODES[self.system][self.code]}
