"""Ten thousand calls that are nearly right: none is a 500, and none is answered against the rules."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings

from cds_service.app import create_app
from cds_service.auth import OpenGate
from cds_service.desk import Desk
from cds_service.hooks import PARSERS
from cds_service.quirks import PROFILES
from cds_service.services import ServiceSettings, services_of
from fhir_adapters.errors import UpstreamStatusError
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CLIENT
from tests.conformance.every_response import Watch
from tests.conformance.mutations import Kitchen, feedback_bodies, make_recipe
from tests.conftest import EVERY_HOOK, NOW, MakeDesk, RunningBedside

CALLS, OVER_A_SOCKET_EVERY, FEEDBACK = 10_000, 25, 400
SEED = 20_261_124  # of any other the same must hold
CAREFULLY = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
ALLOWED = {200, 400, 412, 413}


def _server(_server: str, _token: object, urls: Mapping[str, str]) -> dict[str, Any]:
    """A FHIR server that gives good answers, odd ones and none, the same for the same question."""
    found = patients.prefetch(NOW)
    answers: dict[str, Any] = {}
    for key, url in urls.items():
        odd: list[Any] = [b"", b"[]", b"{", b'{"resourceType": "Bundle", "entry": [1]}', b"\xff"]
        good = patients.encoded(found.get(key, patients.bundle()))
        choices = [[good], [good], [good, good], [odd[len(url) % len(odd)]], UpstreamStatusError("fhir: got 500")]
        answers[key] = choices[hashlib.sha256(url.encode()).digest()[0] % len(choices)]
    return answers


@pytest.fixture
def apps(make_desk: MakeDesk, models: dict[str, ReleasedModel]) -> dict[str, FlaskClient]:
    """The application as clients of every profile meet it, each model at every hook."""
    every = [ServiceSettings(name, id=name.replace("_", "-"), hooks=tuple(PARSERS)) for name in models]
    services = services_of(models.values(), every)
    desk: Desk = make_desk(fetch=_server, services=services)
    made = {}
    for name, quirks in PROFILES.items():
        for takes in (False, True):
            client = replace(CLIENT, id=name, quirks=quirks, takes_system_actions=takes)
            app = create_app(replace(desk, gate=OpenGate(client), clients=(client,)), max_body_bytes=100_000)
            made[f"{name}-filing" if takes else name] = app.test_client()
    return made


def test_fuzz_ten_thousand_calls_are_answered_by_the_rules(
    apps: dict[str, FlaskClient], bedside: RunningBedside, every_response: Watch
) -> None:
    statuses: Counter[int] = Counter()
    bodies: set[bytes] = set()
    turns = itertools.cycle(
        itertools.product(apps.values(), ("prevent-cvd", "prevent-cvd", "prevent-cvd", "icu-mortality"))
    )
    kitchen, random = Kitchen(NOW, "https://fhir.example.org/r4"), Random(SEED)
    before = every_response.checked
    for number in range(CALLS):
        recipe = make_recipe(random)
        body = kitchen.make(recipe)
        if number % OVER_A_SOCKET_EVERY == 0:
            status = bedside.post(body, EVERY_HOOK).status_code
        else:
            app, service = next(turns)
            status = app.post(f"/cds-services/{service}", data=body, content_type="application/json").status_code
        bodies.add(body)
        statuses[status] += 1
        _check(status, recipe, every_response)
    assert every_response.checked - before >= CALLS
    assert len(bodies) > 0.85 * CALLS
    assert statuses[200] > 4_000, statuses  # most of what is odd lies where it costs itself only
    assert statuses[400] > 500, statuses
    assert statuses[412] > 500, statuses


@pytest.mark.parametrize("client", ["spec", "epic"])
def test_fuzz_feedback_is_answered_by_the_rules(
    client: str, apps: dict[str, FlaskClient], every_response: Watch
) -> None:
    path, recorded = "/cds-services/prevent-cvd", Counter[str]()
    lacking = patients.prefetch(NOW) | {"cholesterol": patients.bundle()}
    (card,) = apps[client].post(path, json=patients.call(lacking)).get_json()["cards"]

    @settings(CAREFULLY, max_examples=FEEDBACK // 2)
    @given(feedback_bodies(card))
    def sent(body: bytes) -> None:
        answer = apps[client].post(f"{path}/feedback", data=body, content_type="application/json")
        _check(answer.status_code, body, every_response)
        if answer.status_code == 200:
            recorded.update(answer.get_json()["extension"]["org.bedside.feedback"].keys())

    sent()
    assert {"recorded", "refused"} <= set(recorded)


def _check(status: int, made_of: object, watch: Watch) -> None:
    faults = watch.take()
    assert not faults, (made_of, faults)
    assert status in ALLOWED, (made_of, status)
