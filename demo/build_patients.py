"""Makes the Synthea part of `patients/` from the raw archive, the same bytes each time.

    python -m demo.build_patients [--data ../shared/data]

Reads `synthea-r4/bundles.tar.xz` under `--data`. Of each chosen person it keeps Patient, Encounter, Observation,
Condition and MedicationRequest; drops narrative, made-up identity numbers, addresses, telecom and references to
resources that are not kept; rounds numbers to two decimals; makes references `Type/id`. Sources and licences:
`patients/SOURCE.md`. To add a person, add a `Choice` and a line in `patients/index.json`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.bundles import Resource, localised

KEPT_TYPES = ("Patient", "Encounter", "Observation", "Condition", "MedicationRequest")
KEPT_OF_PATIENT = ("resourceType", "id", "name", "gender", "birthDate")
BIRTH_SEX = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex"
LIPID_PANEL = frozenset({"2093-3", "2085-9", "18262-6", "2571-8"})  # total, HDL, LDL cholesterol, triglycerides

# Marks a resource as test data: http://terminology.hl7.org/CodeSystem/v3-ActReason, code HTEST.
TEST_DATA = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One person of the archive: `file` is the id in its file name there, `left_out` the LOINC codes left out on purpose."""

    name: str
    file: str
    left_out: frozenset[str] = frozenset()


CHOICES = (
    Choice("carlota-muro", "ba29bb08-e7d6-44c2-92cc-894cc29b8494"),
    Choice("raul-gomez", "22a55ba7-0a2f-408a-b72e-09c66d58f12e"),
    Choice("marcos-barrows", "2a6c9df6-a7da-4810-b5df-57a39724fe61"),
    Choice("estrella-daugherty", "ecc5586f-45d1-4fb2-bb4c-3fce1b7b4456"),
    Choice("twyla-moen", "a3f60302-e902-468f-a683-6373d24fc4fd"),
    Choice("cody-larson", "c0b14001-6297-4537-ab1b-6bf1c193e880"),
    Choice("stephen-mclaughlin", "7735ab79-6ac8-4b81-9936-f7ddabd18751"),
    Choice("zachary-kutch", "01396393-ed81-4f7f-a073-553cb407837f", LIPID_PANEL),
    Choice("antonio-castellanos", "6d2eba67-5b4a-403f-a29f-e6da3f1ea963"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo.build_patients", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("patients"))
    options = parser.parse_args(arguments)
    sources = read_archive(options.data / "synthea-r4" / "bundles.tar.xz", CHOICES)
    for choice in CHOICES:
        content = format_bundle(reduced(sources[choice.file], choice.left_out))
        target = options.to / f"{choice.name}.json.gz"
        target.write_bytes(content)
        print(f"{target.name}: {len(content):,} bytes")
    return 0


def read_archive(path: Path, choices: Iterable[Choice]) -> dict[str, Resource]:
    """The chosen persons' raw Bundles by their `file`; the archive is read once, in order."""
    wanted = {choice.file for choice in choices}
    found: dict[str, Resource] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            matching = [file for file in wanted if member.name.endswith(f"_{file}.json")]
            content = archive.extractfile(member) if matching else None
            if content is not None:
                found[matching[0]] = json.load(content)
    missing = wanted - found.keys()
    if missing:
        raise SystemExit(f"archive {path.name}: expected every chosen person, missing {len(missing)}")
    return found


def reduced(bundle: Resource, left_out: frozenset[str]) -> Resource:
    """A collection Bundle of the kept resources in a fixed order (type, then id)."""
    resources = [
        resource
        for resource in localised(bundle["entry"], "synthea")
        if resource["resourceType"] in KEPT_TYPES and not _codes(resource) & left_out
    ]
    known = {f"{resource['resourceType']}/{resource['id']}" for resource in resources}
    ordered = sorted(resources, key=lambda r: (KEPT_TYPES.index(r["resourceType"]), r["id"]))
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": _cleaned(resource, known)} for resource in ordered],
    }


def _codes(resource: Resource) -> set[str]:
    return {coding.get("code", "") for coding in resource.get("code", {}).get("coding", [])}


def _cleaned(resource: Resource, known: set[str]) -> Resource:
    if resource["resourceType"] == "Patient":
        return _cleaned_patient(resource)
    kept = {key: value for key, value in resource.items() if key not in ("text", "meta", "participant")}
    return {
        key: _rounded(value)
        for key, value in kept.items()
        if not (isinstance(value, dict) and "reference" in value and value["reference"] not in known)
    }


def _cleaned_patient(patient: Resource) -> Resource:
    kept = {key: patient[key] for key in KEPT_OF_PATIENT}
    kept["meta"] = {"security": [TEST_DATA]}
    kept["extension"] = [extension for extension in patient["extension"] if extension["url"] == BIRTH_SEX]
    kept["identifier"] = [
        identifier
        for identifier in patient["identifier"]
        if identifier.get("type", {}).get("text", "")[:7] == "Medical"
    ]
    return kept


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, dict):
        return {key: _rounded(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def format_bundle(bundle: Resource) -> bytes:
    """Gzipped JSON; the gzip header carries no time, so equal bundles give equal bytes."""
    text = json.dumps(bundle, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    raise SystemExit(main())
