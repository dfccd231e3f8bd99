"""The hospital that all conformance tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.hospital import Hospital, running_hospital


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with running_hospital(tmp_path_factory.mktemp("hospital")) as running:
        yield running
