from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bedside.config import SECTIONS, Config, ConfigError, load_config, settings_table
from bedside.tables import ClientTable, ServiceTable, TenantTable

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def _load(text: str, tmp_path: Path, **environment: str) -> Config:
    path = tmp_path / "bedside.toml"
    path.write_text(text)
    return load_config(path, environment)


def test_config_without_file_and_environment_is_the_defaults() -> None:
    config = load_config(None, {})
    assert config == Config()
    assert config.public_url == "http://127.0.0.1:8712"
    assert not config.access.open_on_loopback


def test_config_reads_the_file(tmp_path: Path) -> None:
    config = _load('[server]\nport = 9000\n[audit]\ndirectory = "/log"\nhead_file = "/head"\n', tmp_path)
    assert (config.server.port, config.server.host) == (9000, "127.0.0.1")
    assert (config.audit.directory, config.audit.head_file) == (Path("/log"), Path("/head"))


def test_config_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = _load(
        "[server]\nport = 9000\nworkers = 2\n",
        tmp_path,
        BEDSIDE_SERVER_PORT="9001",
        BEDSIDE_ACCESS_OPEN_ON_LOOPBACK="true",
        BEDSIDE_FHIR_DEADLINE_S="1.5",
        BEDSIDE_FHIR_ALLOWED_SERVERS="https://a.example/r4 https://b.example",
        BEDSIDE_AUDIT_HEAD_FILE="/head",
        BEDSIDE_MODELS_ENABLED="prevent_cvd",
        BEDSIDE_SMART_APP_LAUNCH_URL="https://app.example/launch",
        BEDSIDE_CONFIG="ignored here",
        PATH="/bin",
    )
    assert (config.server.port, config.server.workers) == (9001, 2)
    assert config.access.open_on_loopback
    assert config.fhir.deadline_s == 1.5
    assert config.fhir.allowed_servers == ("https://a.example/r4", "https://b.example")
    assert config.audit.head_file == Path("/head")
    assert config.models.enabled == ("prevent_cvd",)
    assert config.smart_app.launch_url == "https://app.example/launch"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1\n", "configuration: Object contains unknown field `prot` - at `$.server`"),
        ("[serve]\nport = 1\n", "configuration: Object contains unknown field `serve`"),
        ('[server]\nport = "1"\n', "configuration: Expected `int`, got `str` - at `$.server.port`"),
        ("[server]\nport = true\n", "configuration: Expected `int`, got `bool` - at `$.server.port`"),
        ("[server]\nport = 0\n", "configuration: Expected `int` >= 1 - at `$.server.port`"),
        ("[server]\nport = 70000\n", "configuration: Expected `int` <= 65535 - at `$.server.port`"),
        ("[server]\nworkers = 0\n", "configuration: Expected `int` >= 1 - at `$.server.workers`"),
        ("[server]\nmax_body_bytes = -1\n", "configuration: Expected `int` >= 1 - at `$.server.max_body_bytes`"),
        ("[fhir]\ndeadline_s = 0\n", "configuration: Expected `float` > 0.0 - at `$.fhir.deadline_s`"),
        ("[fhir]\ndeadline_s = inf\n", "configuration: Expected `float` <= 3600.0 - at `$.fhir.deadline_s`"),
        ('[fhir]\nallowed_servers = "x"\n', "configuration: Expected `array`, got `str` - at `$.fhir.allowed_servers`"),
        ("[audit]\ndirectory = 1\n", "configuration: Expected `Path` as text, got `int` - at `$.audit.directory`"),
        ("server = 1\n", "configuration: Expected `object`, got `int` - at `$.server`"),
    ],
)
def test_config_refuses_unknown_names_and_wrong_values(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(text, tmp_path)
    assert str(caught.value) == message


@pytest.mark.parametrize("content", [b"[server\n", b"a = 1\na = 2\n", b"\xff\xfe"])
def test_config_refuses_a_file_that_is_no_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bedside.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^configuration file {path}: "):
        load_config(path, {})


def test_config_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file or directory$"):
        load_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BEDSIDE_SERVER_PROT", "1", "environment variable BEDSIDE_SERVER_PROT is no setting of Bedside"),
        ("BEDSIDE_PORT", "1", "environment variable BEDSIDE_PORT is no setting of Bedside"),
        ("BEDSIDE_SERVER_PORT", "x", "environment variable BEDSIDE_SERVER_PORT: expected int, got 'x'"),
        ("BEDSIDE_FHIR_DEADLINE_S", "x", "environment variable BEDSIDE_FHIR_DEADLINE_S: expected float, got 'x'"),
        ("BEDSIDE_FHIR_DEADLINE_S", "nan", "configuration: Expected `float` > 0.0 - at `$.fhir.deadline_s`"),
        (
            "BEDSIDE_ACCESS_OPEN_ON_LOOPBACK",
            "yes",
            "environment variable BEDSIDE_ACCESS_OPEN_ON_LOOPBACK: expected true or false, got 'yes'",
        ),
    ],
)
def test_config_refuses_environment_that_is_no_setting(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {name: value})
    assert str(caught.value) == message


def test_config_environment_does_not_hide_a_section_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected `object`, got `int` - at `\$\.server`"):
        _load("server = 1\n", tmp_path, BEDSIDE_SERVER_PORT="9000")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_config_opens_on_loopback(host: str) -> None:
    load_config(None, {"BEDSIDE_SERVER_HOST": host, "BEDSIDE_ACCESS_OPEN_ON_LOOPBACK": "true"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "bedside.example", "localhost.example", ""])
def test_config_never_opens_beyond_loopback(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^access\.open_on_loopback: expected server\.host to be a loopback address"):
        load_config(None, {"BEDSIDE_SERVER_HOST": host, "BEDSIDE_ACCESS_OPEN_ON_LOOPBACK": "true"})


@pytest.mark.parametrize("url", ["https://fhir.example/r4", "http://127.0.0.1:8080/fhir", "http://localhost/fhir"])
def test_config_allows_fhir_servers_by_https_or_on_loopback(url: str) -> None:
    assert load_config(None, {"BEDSIDE_FHIR_ALLOWED_SERVERS": url}).fhir.allowed_servers == (url,)


@pytest.mark.parametrize(
    "url",
    ["http://fhir.example/r4", "ftp://127.0.0.1/", "fhir.example", "https://", "http://[", "http://127.0.0.1.example/"],
)
def test_config_refuses_other_fhir_servers(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^fhir\.allowed_servers: expected "):
        load_config(None, {"BEDSIDE_FHIR_ALLOWED_SERVERS": url})


@pytest.mark.parametrize("name", ["BEDSIDE_SERVER_PUBLIC_URL", "BEDSIDE_SMART_APP_LAUNCH_URL"])
@pytest.mark.parametrize("url", ["javascript:alert(1)", "cds.example", "/launch", "http://["])
def test_config_refuses_links_that_are_no_address(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match="expected an absolute http"):
        load_config(None, {name: url})


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"host": "::1", "port": 80}, "http://[::1]:80"),
        ({"public_url": "https://cds.example/bedside/"}, "https://cds.example/bedside"),
    ],
)
def test_config_public_url(settings: dict[str, Any], url: str) -> None:
    config = msgspec.convert({"server": settings}, Config)
    assert config.public_url == url


def test_config_document_holds_the_table_of_every_setting() -> None:
    table = settings_table()
    assert table in DOCUMENT.read_text("utf-8")
    for section in SECTIONS:
        for setting in type(getattr(Config(), section)).__struct_fields__:
            assert f"| `{section}.{setting}` | `BEDSIDE_{section.upper()}_{setting.upper()}` |" in table
    for kind in (ClientTable, ServiceTable, TenantTable):
        assert all(f"\n| `{field}` | " in table for field in kind.__struct_fields__)


def test_config_refuses_an_open_service_with_registered_clients(tmp_path: Path) -> None:
    """Open means open to everyone: a client's limits beside it would be none."""
    path = tmp_path / "bedside.toml"
    path.write_text('[access]\nopen_on_loopback = true\n[[clients]]\nid = "a"\nissuer = "https://a.example"\n')
    with pytest.raises(ConfigError, match="expected false where clients are registered"):
        load_config(path, {})


def test_config_tables_are_not_set_by_the_environment() -> None:
    with pytest.raises(ConfigError, match="BEDSIDE_CLIENTS_ID is no setting of Bedside"):
        load_config(None, {"BEDSIDE_CLIENTS_ID": "x"})


def _client(name: str, tenant: str = "", **more: object) -> str:
    table = {"id": name, "issuer": f"https://{name}.example", "tenant": tenant} | more
    return "[[clients]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


SOUTH = '[[tenants]]\nname = "south"\ndirectory = "audit-south"\norigin = "south.example/1"\n'
SEVERAL = {
    "clients": (_client("north") + _client("west"), "audit"),
    "clients of one issuer": (
        _client("a", issuer="https://v.example", token_tenant="a")
        + _client("b", issuer="https://v.example", token_tenant="b"),
        "audit",
    ),
    "FHIR servers of one client": (_client("north", fhir_servers=["https://a.example", "https://b.example"]), "audit"),
    "one without a tenant, one that names the first": (_client("north") + _client("west", "default"), "audit"),
    "clients of a further tenant": (_client("north", "south") + _client("west", "south"), "tenants south"),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_config_refuses_two_ehrs_in_one_tenant_unless_they_share_patient_ids(case: str, tmp_path: Path) -> None:
    """Once the patient "123" of both was one: one erasure, one timeline."""
    clients, place = SEVERAL[case]
    with pytest.raises(ConfigError, match=rf"^{place}\.shared_patient_ids: expected true where .* of \w+"):
        _load(clients + SOUTH, tmp_path)
    said = "shared_patient_ids = true\n"
    if place == "audit":
        assert _load(f"{clients}{SOUTH}[audit]\n{said}", tmp_path).audit.shared_patient_ids
        with pytest.raises(ConfigError):  # another tenant's word isn't this one's
            _load(clients + SOUTH + said, tmp_path)
    else:
        assert _load(clients + SOUTH + said, tmp_path).tenants[0].shared_patient_ids
        with pytest.raises(ConfigError):
            _load(f"{clients}{SOUTH}[audit]\n{said}", tmp_path)


@pytest.mark.parametrize(
    "clients",
    [
        _client("north"),
        _client("north", fhir_servers=["https://a.example", "https://a.example/"]),
        _client("north", fhir_servers=["https://a.example"]) + _client("west", "south"),
    ],
)
def test_config_takes_one_ehr_in_a_tenant(clients: str, tmp_path: Path) -> None:
    assert not _load(clients + SOUTH, tmp_path).audit.shared_patient_ids
