"""What a model reads: which FHIR data it asks for, and how a patient's record becomes its tensors.

`InputSpec` is the protocol a model's `inputs.py` fulfils with an object named `INPUTS`. Feature vectors and event
sequences are two ways to fulfil it; images, waveforms, texts and genotypes are others. A value keeps its unit, time and
source resource all the way to the card: that is what `Evidence` is for.

Must not import the runtime or anything that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fhir_adapters.features import FeatureSpec, FeatureValue, extract
from fhir_adapters.instants import Precision
from fhir_adapters.queries import Query
from fhir_adapters.reasons import WORDS, Reason, SetAside
from fhir_adapters.record import PatientRecord

_REPETITIONS = frozenset({Reason.DUPLICATE, Reason.SUPERSEDED})


@dataclass(frozen=True, slots=True)
class Evidence:
    """One input in clinical words: a value with unit, time and source, or the reason there is none.

    Attributes:
        name: the feature's name in the manifest.
        label: clinical words for it.
        value: number in `unit`, or None when absent.
        unit: UCUM code; "" for a yes/no.
        observed_at: when it was observed (aware UTC), or None.
        source: reference of the resource it was read from ("Observation/123"), or None when derived.
        absence: None when present, else a code: missing, stale, unit, implausible, …
        note: what a reader must know ("computed from creatinine"), or None.
        display: words instead of the number ("yes", "current smoker"), or None.
        precision: how exactly the time is recorded; a card shows no more of it.
    """

    name: str
    label: str
    value: float | None
    unit: str
    observed_at: datetime | None
    source: str | None
    absence: str | None = None
    note: str | None = None
    display: str | None = None
    precision: Precision = "minute"


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Tensors for one patient, with the evidence behind them.

    Attributes:
        arrays: graph input name to array with a batch axis of 1.
        evidence: the inputs in clinical words.
        slots: for each evidence item, the positions in the flattened attributions that explain it.
        set_aside: reasons, without values, why resources could not be used.
    """

    arrays: Mapping[str, npt.NDArray[np.generic]]
    evidence: tuple[Evidence, ...]
    slots: tuple[tuple[int, ...], ...]
    set_aside: tuple[str, ...] = field(default=())


class InputSpec(Protocol):
    """What a model's `inputs.py` offers as `INPUTS`."""

    def queries(self) -> tuple[Query, ...]:
        """The FHIR data to gather for one patient."""
        ...

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        """The tensors and evidence for `record` as known at `as_of` (aware UTC); never reads anything later."""
        ...


def evidence_of(value: FeatureValue) -> Evidence:
    """The evidence for one extracted feature value."""
    return Evidence(
        value.name,
        value.label,
        value.value,
        value.unit,
        value.observed_at,
        value.source,
        value.absence,
        value.note,
        precision=value.precision,
    )


def set_aside_words(items: Iterable[SetAside], labels: Mapping[str, str] = MappingProxyType({})) -> tuple[str, ...]:
    """What was set aside, in words without values; mere repetitions of a result are left out.

    `labels` gives the clinical words for the feature or variable that a set-aside value belonged to.
    """
    return tuple(f"{_owner(item, labels)}: {WORDS[item.reason]}" for item in items if item.reason not in _REPETITIONS)


def _owner(item: SetAside, labels: Mapping[str, str]) -> str:
    """Clinical words for what the value would have been, else its name, else the kind of resource."""
    name = item.detail.partition(":")[0]
    return labels.get(name, name or item.resource_type)


@dataclass(frozen=True, slots=True)
class FeatureVectorInputs:
    """Inputs of a tabular model: one number per feature, not-a-number where missing.

    The graph gets one tensor named `tensor`, shape `(1, len(specs))` float32, in the order of `specs`.

    Attributes:
        specs: the features, in the order the network expects.
        base_queries: what to ask the FHIR server for.
        tensor: name of the graph's input.
        derive: optional last step on the record for what no single observation holds (age, a diagnosis).
    """

    specs: tuple[FeatureSpec, ...]
    base_queries: tuple[Query, ...]
    tensor: str = "features"
    derive: Callable[[PatientRecord, datetime], tuple[Evidence, ...]] | None = None

    def queries(self) -> tuple[Query, ...]:
        """See `InputSpec.queries`."""
        return self.base_queries

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        """See `InputSpec.extract`."""
        vector = extract(record, self.specs, as_of)
        evidence = tuple(evidence_of(value) for value in vector.values)
        if self.derive is not None:
            evidence += self.derive(record, as_of)
        row = np.array([[np.nan if item.value is None else item.value for item in evidence]], dtype=np.float32)
        slots = tuple((position,) for position in range(len(evidence)))
        return ModelInputs(
            {self.tensor: row},
            evidence,
            slots,
            set_aside_words(vector.set_aside, {spec.name: spec.label for spec in self.specs}),
        )
