"""A model from a package of its own, installed by pip beside Bedside: found, served, explained, logged and repeated.

The package is the worked example. What is served is what pip installed, by processes of their own; no line of Bedside changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bedside.cli import main
from demo.bundles import rewrite_strings
from demo.instants import Shift, shift_date
from model_artifacts.checks import CHECKS, open_subject
from model_artifacts.errors import ArtifactError
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import release_keys, trusted_keys
from model_artifacts.training.graph_checks import GRAPH_CHECKS
from tests.conftest import ORIGIN, await_answer, clean_environment, free_port, run_bedside

EXAMPLE = Path(__file__).parents[2] / "examples" / "bring-your-own" / "bedside-long-stay"
SERVICE = "long-stay"
ADMITTED = datetime(2026, 3, 1, 8, tzinfo=UTC)  # of the examples' stays
HOURS_IN_CARE = timedelta(hours=25)


@dataclass(frozen=True, slots=True)
class Site:
    """A running Bedside with the package installed, and what is configured."""

    url: str
    environment: dict[str, str]

    def get(self, path: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.url}{path}", timeout=20)

    def call(self, case: str) -> dict[str, Any]:
        """The answer to patient-view about an example's patient, in intensive care since 25 hours."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{self.url}/cds-services/{SERVICE}", json=_request(case), timeout=20)
        assert answer.status_code == 200, answer.text
        whole: dict[str, Any] = answer.json()
        return whole

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_bedside(*arguments, environment=self.environment)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the package, offline."""
    place = tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, place / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    command += ["--no-compile", "--disable-pip-version-check", "--target", str(place / "site"), str(place / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return place / "site"


@pytest.fixture(scope="module")
def environment(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site")
    config = folder / "bedside.toml"
    config.write_text(
        f"[server]\nport = {free_port()}\n[access]\nopen_on_loopback = true\n"
        f'[audit]\ndirectory = "{folder / "audit"}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n'
        f'[models]\nenabled = ["long_stay"]\ntrusted_keys = ["{EXAMPLE / "long-stay.pub"}"]\n'
        f'[state]\ndirectory = "{folder / "state"}"\n'
    )
    path = os.pathsep.join([str(installed), str(Path(__file__).parents[2])])
    return clean_environment(BEDSIDE_CONFIG=str(config), PYTHONPATH=path)


@pytest.fixture(scope="module")
def site(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = run_bedside("audit", "init", "--origin", ORIGIN, environment=environment)
    assert made.returncode == 0, made.stderr
    port = re.search(r"^port = (\d+)$", Path(environment["BEDSIDE_CONFIG"]).read_text(), re.MULTILINE)
    assert port is not None
    running = Site(f"http://127.0.0.1:{port[1]}", environment)
    with (tmp_path_factory.mktemp("log") / "stderr").open("wb") as sink:
        command = [sys.executable, "-m", "bedside", "serve"]
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
        try:
            await_answer(process, f"{running.url}/cds-services")
            yield running
        finally:
            process.terminate()
            process.wait(20)


def _request(case: str) -> dict[str, Any]:
    """A patient-view call that brings everything by prefetch, its dates moved to the present."""
    bundle = json.loads((EXAMPLE / "src" / "bedside_long_stay" / "examples" / case / "record.json").read_text())
    shift = Shift(ADMITTED, datetime.now(UTC).replace(microsecond=0) - HOURS_IN_CARE - ADMITTED)

    def move(key: str, text: str) -> str:
        return shift_date(text, shift) if key in {"start", "effectiveDateTime"} else text

    resources = [rewrite_strings(entry["resource"], move) for entry in bundle["entry"]]
    entries: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("Patient", "Encounter", "Observation")}
    for resource in resources:
        entries[resource["resourceType"]].append(resource)
    found = {kind: _searchset(those) for kind, those in entries.items()}
    nothing, observations = _searchset([]), ("chemistry", "coma_scale", "lactate", "vital_signs")
    prefetch = {"patient": entries["Patient"][0], "current_encounters": found["Encounter"]}
    prefetch |= {"blood_count": found["Observation"], **dict.fromkeys(observations, nothing)}
    context = {"userId": "Practitioner/p1", "patientId": entries["Patient"][0]["id"]}
    instance = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
    return {"hook": "patient-view", "hookInstance": instance, "context": context, "prefetch": prefetch}


def _searchset(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": item} for item in resources]}


@pytest.mark.parametrize("name", sorted(CHECKS | GRAPH_CHECKS))
def test_foreign_model_passes_the_checks_that_every_model_passes(
    name: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    (CHECKS | GRAPH_CHECKS)[name](open_subject("long_stay", "bedside_long_stay"))


def test_foreign_model_is_listed_and_verified(
    installed: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setenv("BEDSIDE_CONFIG", environment["BEDSIDE_CONFIG"])
    main(["model", "list"])
    assert "long_stay 1.0.0  patient-view  Hospital stay of more than two weeks" in capsys.readouterr().out
    main(["model", "verify"])
    assert "long_stay: as released" in capsys.readouterr().out


def test_foreign_model_of_a_key_that_the_site_does_not_trust_is_refused(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(installed)
    trusted = trusted_keys([EXAMPLE / "long-stay.pub"])
    assert ReleasedModel.load("bedside_long_stay", trusted).manifest.id == "long_stay"
    with pytest.raises(ArtifactError, match="model bedside_long_stay"):
        ReleasedModel.load("bedside_long_stay", release_keys())


def test_foreign_model_has_a_service_with_the_prefetch_of_its_table(site: Site) -> None:
    (service,) = site.get("/cds-services").json()["services"]
    assert (service["id"], service["hook"]) == (SERVICE, "patient-view")
    assert service["prefetch"].keys() == {
        *("patient", "current_encounters", "blood_count", "chemistry", "coma_scale", "lactate", "vital_signs")
    }
    assert "http://loinc.org|2160-0" in service["prefetch"]["chemistry"]


def test_foreign_model_answers_with_a_card_that_explains_itself(site: Site) -> None:
    (card,) = site.call("stayed-long")["cards"]
    assert card["summary"] == "Probability of a hospital stay of more than two weeks: 60.2 % (40 % or more)"
    assert "Of 100 people with these values, about 60 would be expected to have a hospital stay" in card["detail"]
    assert "- Glasgow Coma Scale, last: 8 points (" in card["detail"]
    assert "raises it by 11.8 percentage points [Observation/challenge-132599-" in card["detail"]
    assert "Without these differences the estimate would be 29.2 %." in card["detail"]


def test_foreign_model_abstains_aloud_and_says_nothing_where_it_has_no_business(site: Site) -> None:
    (card,) = site.call("too-few-inputs")["cards"]
    assert "not calculated" in card["summary"]


def test_foreign_model_decisions_are_in_the_log_and_can_be_repeated(site: Site) -> None:
    site.call("stayed-long")
    newest = site.run("audit", "show", "--last", "1").stdout.splitlines()[-1].split()[0]
    shown = site.run("audit", "show", newest)
    assert "shapley-by-occlusion" in shown.stdout, shown.stdout + shown.stderr
    repeated = site.run("audit", "replay", "latest")
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
    assert "reproduced" in repeated.stdout, repeated.stdout


def test_foreign_model_has_its_card_as_a_page(site: Site) -> None:
    page = site.get("/models/long_stay")
    assert page.status_code == 200
    assert "Shapley values of the output" in page.text
