"""docs/connect-an-ehr.md: what it tells a site to type in is what Bedside takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import requests

from bedside.clients import registered_clients
from bedside.config import load_config
from bedside.tables import ClientTable
from cds_service.bearer import Why
from cds_service.quirks import PROFILES, Quirk
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from tests.conftest import await_answer, clean_environment, free_port, run_bedside

GUIDE = (Path(__file__).parents[2] / "docs" / "connect-an-ehr.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_connect_guide_blocks_are_configurations(number: int, tmp_path: Path) -> None:
    path = tmp_path / "bedside.toml"
    path.write_text(BLOCKS[number], encoding="utf-8")
    config = load_config(path, {})
    assert len(registered_clients(config)) == len(config.clients)


def test_connect_guide_has_a_block_for_each_profile() -> None:
    named = set(re.findall(r'^profile = "(\w+)"', "\n".join(BLOCKS), re.MULTILINE)) | {"spec"}
    assert named == set(PROFILES)


def test_connect_guide_goes_through_every_field() -> None:
    used = set(re.findall(r"(?:^|`)(\w+)(?: = |`)", GUIDE, re.MULTILINE))
    assert set(ClientTable.__struct_fields__) - used == set()


def test_connect_guide_names_every_quirk() -> None:
    assert [quirk for quirk in Quirk if f"`{quirk}`" not in GUIDE] == []


def test_connect_guide_says_what_to_do_about_each_refusal() -> None:
    assert [why for why in get_args(Why) if f"`{why}`" not in GUIDE] == []


def test_connect_guide_says_what_a_missing_key_means() -> None:
    rows = {
        cells[2].split(",")[0].strip(): set(re.findall(r"`(\w+)`", cells[1]))
        for line in GUIDE.partition("| keys | means |")[2].partition("\n\n")[0].splitlines()[2:]
        if (cells := line.split("|"))
    }
    queries = [query for package in model_packages().values() for query in ReleasedModel.load(package).queries()]
    assert rows["412"] == {query.name for query in queries if query.required}
    assert rows["an estimate"] == {query.name for query in queries if query.widens}


def _make_trial(url: str, table: str, environment: dict[str, str]) -> None:
    """The configuration with the trial client's table, and both logs."""
    origin = "cds.hospital.example/cds-audit/north/1"
    sections = f'[server]\nport = {url.rpartition(":")[2]}\npublic_url = "{url}"\n[audit]\norigin = "{origin}"\n'
    Path("bedside.toml").write_text(sections + table, encoding="utf-8")
    for directory, of in (("var/audit", origin), ("trial-audit", origin.replace("north", "trial"))):
        made = run_bedside("audit", "init", "--log", directory, "--origin", of, environment=environment)
        assert made.returncode == 0, made.stderr


def test_connect_guide_trial_client_is_answered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guide has typed in for a call with a token of one's own; only the addresses are this machine's."""
    url = f"http://127.0.0.1:{free_port()}"
    keys, table, call = re.findall(r"^```\w+\n(.*?)^```", GUIDE.partition("## Checks")[2], re.MULTILINE | re.DOTALL)[:3]
    script, _, curl = call.partition("\nPY\n")
    (service,) = re.findall(r"^URL=https://cds.hospital.example(\S+)", curl, re.MULTILINE)
    (body,) = re.findall(r" -d '(.*)'", curl, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    environment = clean_environment(
        BEDSIDE_CONFIG=str(tmp_path / "bedside.toml"), PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    for typed in (keys, f"{script}\nPY\n"):
        subprocess.run(["bash", "-euc", typed], env=environment, check=True, timeout=60)
    _make_trial(url, table, environment)
    token = [sys.executable, "trial_token.py", url + service]
    with Path("stderr").open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "bedside", "serve"], env=environment, stderr=sink)
        try:
            await_answer(process, f"{url}/ready")
            signed = subprocess.run(token, env=environment, check=True, capture_output=True, text=True).stdout.strip()
            headers = {"Authorization": f"Bearer {signed}", "Content-Type": "application/json"}
            with requests.Session() as session:
                session.trust_env = False
                first, again = (session.post(url + service, data=body, headers=headers, timeout=20) for _ in range(2))
        finally:
            process.terminate()
            process.wait(30)
    assert (first.status_code, again.status_code) == (200, 401)
    (card,) = first.json()["cards"]
    assert "**Not available**" in card["detail"]
    assert '"why": "replayed"' in Path("stderr").read_text()
    index = first.json()["extension"]["org.bedside.receipt"]["index"]
    shown = run_bedside("audit", "show", str(index), "--log", "trial-audit", environment=environment).stdout
    asked = json.loads(shown[shown.index("{") :])["request"]
    assert asked["prefetch_present"] == list(json.loads(body)["prefetch"])
    assert (asked["prefetch_missing"], "hba1c" in asked["prefetch_failed"]) == ([], True)
