from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from cds_service.errors import UnknownServiceError
from cds_service.services import find_service, services_of
from model_artifacts.runtime import ReleasedModel


def test_services_one_hook_gives_one_service_named_after_the_model(prevent: ReleasedModel) -> None:
    (service,) = services_of([prevent])
    assert (service.id, service.hook, service.title) == ("prevent-cvd", "patient-view", prevent.manifest.title)


def test_services_two_hooks_give_two_services(prevent: ReleasedModel) -> None:
    manifest = msgspec.structs.replace(prevent.manifest, hooks=("patient-view", "order-sign"))
    ids = [service.id for service in services_of([replace(prevent, manifest=manifest)])]
    assert ids == ["prevent-cvd-patient-view", "prevent-cvd-order-sign"]


def test_services_are_found_by_their_exact_id(prevent: ReleasedModel) -> None:
    services = services_of([prevent])
    assert find_service(services, "prevent-cvd") is services[0]
    for other in ("prevent_cvd", "PREVENT-CVD", "", "prevent-cvd/"):
        with pytest.raises(UnknownServiceError, match=r"^no CDS service has this id"):
            find_service(services, other)
