from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from demo.bundles import localised, read_bundle
from demo.errors import BundleError


def test_bundles_references_become_type_and_id() -> None:
    entries = [
        {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "id": "1"}},
        {"resource": {"resourceType": "Condition", "id": "2", "subject": {"reference": "urn:uuid:1"}}},
        {"resource": {"resourceType": "Condition", "id": "3", "subject": {"reference": "Patient/9"}}},
    ]
    _, first, second = localised(entries, "test")
    assert first["subject"] == {"reference": "Patient/1"}
    assert second["subject"] == {"reference": "Patient/9"}


def test_bundles_gzip_and_plain_read_alike(tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": "1"}}]}
    content = json.dumps(bundle).encode()
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content))
    assert read_bundle(tmp_path / "a.json") == read_bundle(tmp_path / "a.json.gz")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"resourceType": "Patient"}'])
def test_bundles_refuse_what_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BundleError):
        read_bundle(tmp_path / "a.json")


def test_bundles_refuse_a_resource_without_id() -> None:
    with pytest.raises(BundleError, match="each with resourceType and id"):
        localised([{"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}}], "test")
