"""Whose resource it is: resolves subject references and refuses other patients' resources.

A reference is relative (`Patient/1`), absolute (`https://ehr/fhir/Patient/1`), versioned (`Patient/1/_history/2`), or the
fullUrl of a Patient in the same documents (`urn:uuid:…`, https://hl7.org/fhir/R4/bundle.html#references). Only a reference
shown to mean this patient is accepted; a resource that names no subject is not: a search by patient can't have found it.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from fhir_adapters.reasons import Reason
from fhir_adapters.resources import PatientId, Reference


class Subjects:
    """Answers for one patient; remembers each reference it has judged. `base_url`, if given, binds absolute references."""

    def __init__(
        self, patient_id: PatientId, patients: Iterable[tuple[str | None, str | None]], base_url: str | None = None
    ) -> None:
        self._patient_id = patient_id
        self._base = base_url.rstrip("/") + "/" if base_url else None
        self._verdicts: dict[str, Reason | None] = {}
        for full_url, own_id in patients:
            if full_url:
                self._verdicts[full_url] = None if own_id == patient_id else Reason.OTHER_PATIENT

    def refusal(self, subject: Reference | None) -> Reason | None:
        """None if the subject is this patient, else the reason why the resource is set aside."""
        reference = subject.reference if subject is not None else None
        if not reference:
            return Reason.NO_SUBJECT
        try:
            return self._verdicts[reference]
        except KeyError:
            verdict = None if self._is_patient(reference) else Reason.OTHER_PATIENT
            self._verdicts[reference] = verdict
            return verdict

    def _is_patient(self, reference: str) -> bool:
        unversioned = reference.split("/_history/", 1)[0]
        own = f"Patient/{self._patient_id}"
        if unversioned in {own, f"urn:uuid:{self._patient_id}"}:
            return True
        if self._base is not None:
            return unversioned == self._base + own
        return unversioned.endswith("/" + own) and _is_http(unversioned)


def _is_http(reference: str) -> bool:
    try:
        parts = urlsplit(reference)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and not parts.query and not parts.fragment
