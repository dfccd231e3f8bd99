"""Code systems and the one type for a coded concept.

Owns the system URIs (HL7 Terminology, https://terminology.hl7.org, "External Code Systems") and how a received code is
compared with an asked one. Matching is exact on (system, code); LOINC is never matched by prefix. Only the ICD families,
which are hierarchies by construction, have `in_category`. Imports nothing of this package.

To add a system: one constant, and its OID in `SYSTEM_ALIASES` when senders use it.
"""

from dataclasses import dataclass, field

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
NDC = "http://hl7.org/fhir/sid/ndc"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
ICD9CM = "http://hl7.org/fhir/sid/icd-9-cm"
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

# OIDs and older spellings that name the same system; OIDs from the HL7 OID registry (2.16.840.1.113883.6.*).
SYSTEM_ALIASES: dict[str, str] = {
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "https://loinc.org": LOINC,
    "http://loinc.org/": LOINC,
    "urn:oid:2.16.840.1.113883.6.96": SNOMED,
    "urn:oid:2.16.840.1.113883.6.88": RXNORM,
    "urn:oid:2.16.840.1.113883.6.69": NDC,
    "urn:oid:2.16.840.1.113883.6.90": ICD10CM,
    "urn:oid:2.16.840.1.113883.6.3": ICD10,
    "urn:oid:2.16.840.1.113883.6.103": ICD9CM,
    "urn:oid:2.16.840.1.113883.6.8": UCUM,
    "urn:oid:2.16.840.1.113883.5.4": ACT_CODE,
    "http://hl7.org/fhir/v3/ActCode": ACT_CODE,
    # MIMIC-IV on FHIR's names for plain ICD codes, written without the dot.
    "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd9": ICD9CM,
    "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-diagnosis-icd10": ICD10CM,
}

_HIERARCHIES = frozenset({ICD10CM, ICD10, ICD9CM})

CodeKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Code:
    """A concept of a code system; equal when system and code are, whatever the display says."""

    system: str
    code: str
    display: str = field(default="", compare=False)

    @property
    def key(self) -> CodeKey:
        return (self.system, self.code)


def canonical_system(system: str) -> str:
    """The URI this package uses for a system that a sender may name by OID or by an older URI."""
    return SYSTEM_ALIASES.get(system, system)


def keys(*codes: Code) -> frozenset[CodeKey]:
    """The (system, code) pairs that `PatientRecord.observations` asks for."""
    return frozenset(code.key for code in codes)


def in_category(code: Code, category: Code) -> bool:
    """Whether an ICD code lies at or below a category (`I21.4` in `I21`), with or without the dot; exact elsewhere."""
    if code.system != category.system:
        return False
    if code.system not in _HIERARCHIES:
        return code.code == category.code
    return code.code.replace(".", "").upper().startswith(category.code.replace(".", "").upper())
