"""docs/connect-an-ehr.md: what it tells a site to type in is what Bedside takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from bedside.clients import registered_clients
from bedside.config import load_config
from bedside.tables import ClientTable
from cds_service.bearer import Why
from cds_service.quirks import PROFILES, Quirk
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel

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
