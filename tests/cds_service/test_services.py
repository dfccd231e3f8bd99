from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from cds_service.errors import UnknownServiceError
from cds_service.services import ServiceSettings, find_service, services_of
from model_artifacts.runtime import ReleasedModel


def test_services_are_named_after_the_model(prevent: ReleasedModel) -> None:
    (service,) = services_of([prevent])
    assert (service.id, service.hooks, service.title) == ("prevent-cvd", ("patient-view",), prevent.manifest.title)


def test_services_two_hooks_share_one_id(prevent: ReleasedModel) -> None:
    manifest = msgspec.structs.replace(prevent.manifest, hooks=("patient-view", "order-sign"))
    (service,) = services_of([replace(prevent, manifest=manifest)])
    assert (service.id, service.hooks) == ("prevent-cvd", ("patient-view", "order-sign"))


def test_services_at_one_hook_of_several_have_an_id_of_their_own_too(prevent: ReleasedModel) -> None:
    services = services_of([prevent], [ServiceSettings("prevent_cvd", hooks=("patient-view", "order-sign"))])
    found = find_service(services, "prevent-cvd-order-sign")
    assert (found.id, found.hooks) == ("prevent-cvd", ("order-sign",))


def test_services_settings_rename_and_repeat_a_model(prevent: ReleasedModel) -> None:
    settings = [
        ServiceSettings("prevent_cvd", id="cvd", title="Heart risk", hooks=("encounter-start",)),
        ServiceSettings("prevent_cvd"),
        ServiceSettings("another_model", id="other"),
    ]
    services = services_of([prevent], settings)
    assert [(one.id, one.title, one.hooks) for one in services] == [
        ("cvd", "Heart risk", ("encounter-start",)),
        ("prevent-cvd", prevent.manifest.title, ("patient-view",)),
    ]


def test_services_are_found_by_their_exact_id(prevent: ReleasedModel) -> None:
    services = services_of([prevent])
    assert find_service(services, "prevent-cvd") is services[0]
    for other in ("prevent_cvd", "PREVENT-CVD", "", "prevent-cvd/"):
        with pytest.raises(UnknownServiceError, match=r"^no CDS service has this id"):
            find_service(services, other)
