"""Two versions of one model side by side: on the package's examples, by what their evaluations found, and in the log.

Examples are a few records and no evaluation: they show what changes in kind. What two evaluations found is paired only where
the newer one's `metrics.json` says so (`difference."version X"`); other figures are of two evaluations, each with its interval.
In the log the version in force and the one in shadow decided the same calls, so their bands are compared call by call.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from model_artifacts.assessment import Prediction
from model_artifacts.examples import example_record
from model_artifacts.manifest import displayed
from model_artifacts.runtime import ReleasedModel
from model_artifacts.versions import UnfitError

_DECISION = b'{"_t":"decision/v1"'


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """What two versions say of one example, in a few words each."""

    case: str
    one: str
    other: str

    @property
    def alike(self) -> bool:
        """Whether both say the same."""
        return self.one == self.other


def compare_examples(one: ReleasedModel, other: ReleasedModel) -> tuple[ExamplePair, ...]:
    """Both versions' words on each example of the installed package; none where it brings no examples.

    Raises:
        UnfitError: `other` fails on one, so that it can't be in force.
    """
    examples = one.code / "examples"
    folders = sorted(path for path in examples.iterdir() if path.is_dir()) if examples.is_dir() else []
    return tuple(ExamplePair(folder.name, _words(one, folder), _words_or_unfit(other, folder)) for folder in folders)


def metric_lines(one: Mapping[str, Any], other: Mapping[str, Any], version: str) -> Iterator[str]:
    """A line for each figure of the section `model` that either has: of `one`, whose version is `version`, and of `other`."""
    mine, theirs = _section(one, "model"), _section(other, "model")
    paired = _section(_section(other, "difference"), f"version {version}")
    for name in dict.fromkeys((*mine, *theirs)):
        line = f"{name}: {_figure_words(mine.get(name))} -> {_figure_words(theirs.get(name))}"
        yield line + (f", paired difference {_figure_words(paired[name])}" if name in paired else ", not paired")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the log has of calls that two versions decided: how often both said what."""

    calls: int
    alike: int
    pairs: Counter[tuple[str, str]]


class _Model(msgspec.Struct, frozen=True):
    id: str
    manifest: str


class _Request(msgspec.Struct, frozen=True):
    hook_instance: str


class _Service(msgspec.Struct, frozen=True):
    id: str


class _Output(msgspec.Struct, frozen=True):
    band: str | None = None
    decision: str | None = None


class _Decision(msgspec.Struct, frozen=True):
    """The members that are compared; the entry's form is `audit verify`'s business."""

    request: _Request
    service: _Service
    status: str
    model: _Model | None = None
    output: _Output | None = None


_DECISIONS = msgspec.json.Decoder(_Decision)


def agreement(entries: Iterable[bytes], model_id: str, one: str, other: str) -> Agreement:
    """How often the versions of the manifests `one` and `other` gave the same band, or abstained alike, at the same call.

    A call is known by its `hookInstance`; where a client sends none that is a UUID, its calls aren't counted.
    """
    said: dict[tuple[str, str], dict[str, str]] = {}
    for entry in entries:
        if not entry.startswith(_DECISION):
            continue
        decision = _DECISIONS.decode(entry)
        model = decision.model
        if model is None or model.id != model_id or model.manifest not in (one, other):
            continue
        call = decision.request.hook_instance, decision.service.id
        said.setdefault(call, {})[model.manifest] = _said(decision)
    pairs = Counter((found[one], found[other]) for found in said.values() if one in found and other in found)
    return Agreement(pairs.total(), sum(count for (a, b), count in pairs.items() if a == b), pairs)


def agreement_lines(found: Agreement) -> Iterator[str]:
    """The agreement in words: in all, and what they said where they differ."""
    if not found.calls:
        yield "in the log: no call that both decided"
        return
    yield f"in the log: {found.alike} of {found.calls} calls alike ({100 * found.alike / found.calls:.1f} %)"
    for (one, other), count in sorted(found.pairs.items(), key=lambda item: (-item[1], item[0])):
        if one != other:
            yield f"  {one} -> {other}: {count}"


def _said(decision: _Decision) -> str:
    if decision.output is None:
        return decision.status
    return decision.output.band or decision.output.decision or decision.status


def _words_or_unfit(model: ReleasedModel, folder: Path) -> str:
    try:
        return _words(model, folder)
    except Exception as exc:
        message = (
            f"version {model.manifest.version} of model {model.manifest.id} fails on the example {folder.name}: "
            f"{type(exc).__name__}"
        )
        raise UnfitError(message, model_id=model.manifest.id, code="examples") from exc


def _words(model: ReleasedModel, folder: Path) -> str:
    """The first output as a card shows it, with its band; or why the model abstains."""
    known = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    record = example_record(known["patient"], json.loads((folder / "record.json").read_text(encoding="utf-8")))
    assessment = model.assess(record, datetime.fromisoformat(known["as_of"])).assessment
    code = model.interpret(assessment, model.manifest).code
    if not isinstance(assessment, Prediction):
        return f"{code} ({', '.join(sorted({reason.code for reason in assessment.reasons}))})"
    first = model.manifest.outputs[0]
    value = assessment.outputs[first.name]
    return f"{code} {value:.1f} {first.unit}" if first.unit else f"{code} {100 * displayed(value):.1f} %"


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _figure_words(value: Any) -> str:
    if isinstance(value, dict) and "estimate" in value:
        interval = f" ({value['low']:.4g} to {value['high']:.4g})" if "low" in value and "high" in value else ""
        return f"{value['estimate']:.4g}{interval}"
    return f"{value:.4g}" if isinstance(value, (int, float)) else "none"
