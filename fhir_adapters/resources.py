"""The members of FHIR R4 resources that Bedside reads, as frozen msgspec structs.

Owns the wire names (https://hl7.org/fhir/R4). Reading is lenient: members not named here are skipped without being built,
absent and null are the same. A whole Bundle is decoded in one call into a union tagged by `resourceType`; resource types we
don't read are empty structs, so they cost a skip. Imports nothing of this package; writing FHIR is the service's work.

To read one more member: add it here with its FHIR type; to read one more resource: a struct, and its name leaves `_UNREAD`.
"""

from typing import TYPE_CHECKING, Annotated, NewType, TypeAlias, Union

import msgspec

PatientId = NewType("PatientId", str)

# FHIR's integer has 32 bits; a longer one may not fit a float and is no reading of anything.
Integer = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class _Element(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A FHIR data type; gc=False as decoded JSON has no cycles."""


class _Resource(msgspec.Struct, frozen=True, gc=False, rename="camel", tag_field="resourceType"):
    """A FHIR resource; the class name is its tag."""


class Coding(_Element, frozen=True):
    """A code of a system."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodedKey(_Element, frozen=True):
    """A Coding without its display: what indexing needs, at half the price."""

    system: str | None = None
    code: str | None = None


class KeyConcept(_Element, frozen=True):
    """The codes of Observation.code; its words are the asking spec's business."""

    coding: tuple[CodedKey, ...] | None = None


class CodeableConcept(_Element, frozen=True):
    """A concept in one or more codes, and in words."""

    coding: tuple[Coding, ...] | None = None
    text: str | None = None


class Reference(_Element, frozen=True):
    """A reference to another resource."""

    reference: str | None = None
    display: str | None = None


class Period(_Element, frozen=True):
    """From when to when."""

    start: str | None = None
    end: str | None = None


class WireQuantity(_Element, frozen=True):
    """A Quantity as sent: the unit as a UCUM code, as words, or both."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class Meta(_Element, frozen=True):
    """Metadata of a resource."""

    last_updated: str | None = None


class Patient(_Resource, tag="Patient", frozen=True):
    """As in https://hl7.org/fhir/R4/patient.html, abridged."""

    id: str | None = None
    gender: str | None = None
    birth_date: str | None = None
    deceased_boolean: bool | None = None
    deceased_date_time: str | None = None
    extension: msgspec.Raw = msgspec.Raw()


class ObservationComponent(_Element, frozen=True):
    """Observation.component."""

    code: KeyConcept | None = None
    value_quantity: WireQuantity | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_string: str | None = None
    value_integer: Integer | None = None
    value_boolean: bool | None = None
    data_absent_reason: CodeableConcept | None = None


class Observation(_Resource, tag="Observation", frozen=True):
    """As in https://hl7.org/fhir/R4/observation.html, abridged."""

    id: str | None = None
    status: str | None = None
    code: KeyConcept | None = None
    subject: Reference | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None
    effective_instant: str | None = None
    issued: str | None = None
    value_quantity: WireQuantity | None = None
    value_codeable_concept: CodeableConcept | None = None
    value_string: str | None = None
    value_integer: Integer | None = None
    value_boolean: bool | None = None
    data_absent_reason: CodeableConcept | None = None
    component: tuple[ObservationComponent, ...] | None = None


class Condition(_Resource, tag="Condition", frozen=True):
    """As in https://hl7.org/fhir/R4/condition.html, abridged."""

    id: str | None = None
    meta: Meta | None = None
    # A bare code is STU3's form, still found in the CDS Hooks specification's own examples.
    clinical_status: CodeableConcept | str | None = None
    verification_status: CodeableConcept | str | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    onset_date_time: str | None = None
    onset_period: Period | None = None
    abatement_date_time: str | None = None
    abatement_period: Period | None = None
    recorded_date: str | None = None


class EncounterLocation(_Element, frozen=True):
    """Encounter.location."""

    location: Reference | None = None
    period: Period | None = None


class EncounterDiagnosis(_Element, frozen=True):
    """Encounter.diagnosis: which Condition, and its place among the diagnoses (1 is the principal one)."""

    condition: Reference | None = None
    rank: Integer | None = None


class Hospitalization(_Element, frozen=True):
    """Encounter.hospitalization, abridged; R5 calls it admission."""

    admit_source: CodeableConcept | None = None
    discharge_disposition: CodeableConcept | None = None


class Encounter(_Resource, tag="Encounter", frozen=True):
    """As in https://hl7.org/fhir/R4/encounter.html, abridged."""

    id: str | None = None
    meta: Meta | None = None
    status: str | None = None
    # R4 has one Coding; the bare code (DSTU2) and a list of concepts (R5) are read too.
    class_: Coding | str | tuple[CodeableConcept, ...] | None = msgspec.field(name="class", default=None)
    type: tuple[CodeableConcept, ...] | None = None
    service_type: CodeableConcept | None = None
    subject: Reference | None = None
    period: Period | None = None
    location: tuple[EncounterLocation, ...] | None = None
    part_of: Reference | None = None
    priority: CodeableConcept | None = None
    hospitalization: Hospitalization | None = None
    diagnosis: tuple[EncounterDiagnosis, ...] | None = None


class Location(_Resource, tag="Location", frozen=True):
    """As in https://hl7.org/fhir/R4/location.html, abridged."""

    id: str | None = None
    name: str | None = None


class Medication(_Resource, tag="Medication", frozen=True):
    """As in https://hl7.org/fhir/R4/medication.html, abridged."""

    id: str | None = None
    code: CodeableConcept | None = None
    status: str | None = None


class MedicationRequest(_Resource, tag="MedicationRequest", frozen=True):
    """As in https://hl7.org/fhir/R4/medicationrequest.html, abridged."""

    id: str | None = None
    meta: Meta | None = None
    contained: msgspec.Raw = msgspec.Raw()
    status: str | None = None
    intent: str | None = None
    do_not_perform: bool | None = None
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    authored_on: str | None = None


class MedicationStatement(_Resource, tag="MedicationStatement", frozen=True):
    """As in https://hl7.org/fhir/R4/medicationstatement.html, abridged."""

    id: str | None = None
    meta: Meta | None = None
    contained: msgspec.Raw = msgspec.Raw()
    status: str | None = None
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    subject: Reference | None = None
    context: Reference | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None
    date_asserted: str | None = None


class MedicationAdministration(_Resource, tag="MedicationAdministration", frozen=True):
    """As in https://hl7.org/fhir/R4/medicationadministration.html, abridged."""

    id: str | None = None
    meta: Meta | None = None
    contained: msgspec.Raw = msgspec.Raw()
    status: str | None = None
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    subject: Reference | None = None
    context: Reference | None = None
    effective_date_time: str | None = None
    effective_period: Period | None = None


class Issue(_Element, frozen=True):
    """OperationOutcome.issue."""

    severity: str | None = None
    code: str | None = None


class OperationOutcome(_Resource, tag="OperationOutcome", frozen=True):
    """As in https://hl7.org/fhir/R4/operationoutcome.html, abridged."""

    id: str | None = None
    issue: tuple[Issue, ...] | None = None


class BundleLink(_Element, frozen=True):
    """Bundle.link."""

    relation: str | None = None
    url: str | None = None


# Every other resource type of R4 (https://hl7.org/fhir/R4/resourcelist.html).
_UNREAD = """
Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
BiologicallyDerivedProduct BodyStructure CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem ChargeItemDefinition
Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest CompartmentDefinition Composition
ConceptMap Consent Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device
DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference
EffectEvidenceSynthesis Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable
ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService
ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library
Linkage List Measure MeasureReport Media MedicationDispense MedicationKnowledge MedicinalProduct MedicinalProductAuthorization
MedicinalProductContraindication MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction
MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect
MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder ObservationDefinition OperationDefinition
Organization OrganizationAffiliation Parameters PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner
PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition
ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter
ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid
SubstancePolymer SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery
SupplyRequest Task TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription
"""

AnyMedicationUse: TypeAlias = MedicationRequest | MedicationStatement | MedicationAdministration
_Read: TypeAlias = (
    Patient | Observation | Condition | Encounter | Location | Medication | AnyMedicationUse | OperationOutcome
)

if TYPE_CHECKING:
    ReadResource: TypeAlias = _Read
else:
    _unread = tuple(
        msgspec.defstruct(name, [], tag_field="resourceType", tag=name, frozen=True) for name in _UNREAD.split()
    )
    ReadResource = Union[(*_Read.__args__, *_unread)]


class BundleEntry(_Element, frozen=True):
    """Bundle.entry."""

    full_url: str | None = None
    resource: Union[ReadResource, "Bundle", None] = None


class Bundle(_Resource, tag="Bundle", frozen=True):
    """As in https://hl7.org/fhir/R4/bundle.html, abridged."""

    id: str | None = None
    type: str | None = None
    total: int | None = None
    link: tuple[BundleLink, ...] | None = None
    entry: tuple[BundleEntry, ...] | None = None


AnyResource: TypeAlias = ReadResource | Bundle


class LooseEntry(_Element, frozen=True):
    """A Bundle entry whose resource is not yet decoded: the slow path when a Bundle holds something unreadable."""

    full_url: str | None = None
    resource: msgspec.Raw = msgspec.Raw()


class LooseResource(_Element, frozen=True):
    """As much of a resource as can nearly always be read."""

    resource_type: str | None = None
    id: str | None = None
    entry: tuple[msgspec.Raw, ...] | None = None
    resource: msgspec.Raw = msgspec.Raw()


document_decoder: "msgspec.json.Decoder[AnyResource | None]" = msgspec.json.Decoder(AnyResource | None)
