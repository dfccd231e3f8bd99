"""Whose resource it is: resolves subject references and refuses other patients' resources.

A reference is relative (`Patient/1`), absolute (`https://ehr/fhir/Patient/1`), versioned (`Patient/1/_history/2`), or the
fullUrl of a Patient in the same documents (`urn:uuid:…`, https://hl7.org/fhir/R4/bundle.html#references). Only a reference
shown to mean this patient is accepted; a resource that names no subject is not: a search by patient can't have found it.

`own` also sees to it that a resource sent twice counts once and that an erroneous one counts not at all.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from fhir_adapters.reasons import Reason, SetAside
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


class _Owned(Protocol):
    @property
    def id(self) -> str | None: ...
    @property
    def subject(self) -> Reference | None: ...


OwnedT = TypeVar("OwnedT", bound=_Owned)


def source_of(item: _Owned, full_url: str | None) -> str | None:
    """How a card and the audit entry name the resource: `Observation/1`, or its fullUrl where it has no id."""
    return f"{type(item).__name__}/{item.id}" if item.id else full_url


def own(
    items: Iterable[tuple[OwnedT, str | None]],
    subjects: Subjects,
    dropped: Callable[[OwnedT], Reason | None],
    version: Callable[[OwnedT], tuple[int, str]],
    set_aside: list[SetAside],
) -> list[tuple[OwnedT, str | None]]:
    """The patient's own resources of one type, each once in its latest version, without the dropped ones.

    Of two versions an erroneous one stands, whatever its age; else the greater `version`; else the one sent first.
    """
    kept: dict[str, tuple[OwnedT, str | None]] = {}
    for pair in items:
        item, full_url = pair
        refusal = subjects.refusal(item.subject)
        if refusal is not None:
            # The reference of another patient's resource is that patient's data, so it isn't kept.
            set_aside.append(SetAside(type(item).__name__, None, refusal))
            continue
        key = item.id or full_url or f"#{len(kept)}"
        first = kept.setdefault(key, pair)
        if first is pair:
            continue
        set_aside.append(SetAside(type(item).__name__, source_of(item, full_url), Reason.DUPLICATE))
        if _order(item, dropped, version) > _order(first[0], dropped, version):
            kept[key] = pair
    used = []
    for pair in kept.values():
        reason = dropped(pair[0])
        if reason is None:
            used.append(pair)
        else:
            set_aside.append(SetAside(type(pair[0]).__name__, source_of(*pair), reason))
    return used


def _order(
    item: OwnedT, dropped: Callable[[OwnedT], Reason | None], version: Callable[[OwnedT], tuple[int, str]]
) -> tuple[bool, tuple[int, str]]:
    return dropped(item) is Reason.ENTERED_IN_ERROR, version(item)
