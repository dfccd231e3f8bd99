from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bedside.clients import open_client, registered_clients
from bedside.config import Config, ConfigError, load_config
from cds_service.quirks import PROFILES, Quirk

TABLE = {"id": "north", "issuer": "https://ehr.example", "jwks_url": "https://ehr.example/jwks"}


def _config(*tables: dict[str, Any], **sections: Any) -> Config:
    return msgspec.convert({"clients": list(tables), **sections}, Config, dec_hook=lambda kind, value: kind(value))


def test_clients_have_closed_defaults() -> None:
    (client,) = registered_clients(_config(TABLE))
    assert (client.id, client.tenant, client.issuer) == ("north", "default", "https://ehr.example")
    assert client.algorithms == {"ES384", "RS384"}
    assert not any((client.fhir_servers, client.networks, client.cors_origins, client.allowed_jku, client.quirks))
    assert not client.takes_system_actions
    assert client.deadline_s == Config().fhir.deadline_s


def test_clients_profile_and_quirks_add_up() -> None:
    (client,) = registered_clients(_config(TABLE | {"profile": "epic", "quirks": ["cds-hooks-3.0"]}))
    assert client.quirks == PROFILES["epic"] | {Quirk.CDS_HOOKS_3_0}


def test_clients_servers_lose_their_trailing_slash() -> None:
    (client,) = registered_clients(_config(TABLE | {"fhir_servers": ["https://fhir.example/r4/"]}))
    assert client.fhir_servers == {"https://fhir.example/r4"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": ""}, "clients north.issuer: expected up to 255 visible ASCII characters"),
        ({"issuer": "a b"}, "clients north.issuer: expected"),
        ({"algorithms": ["HS256"]}, "clients north.algorithms: expected some of .*, got HS256"),
        ({"algorithms": ["none"]}, "clients north.algorithms: expected some of .*, got none"),
        ({"algorithms": []}, "clients north.algorithms: expected some of .*, got none"),
        ({"jwks_url": ""}, "jwks_url, jwks_file or allowed_jku: expected one"),
        ({"jwks_file": "keys.json"}, "expected one of the two, got both"),
        ({"jwks_url": "http://ehr.example/jwks"}, "expected https"),
        ({"allowed_jku": ["http://ehr.example/jwks"]}, "expected https"),
        ({"fhir_servers": ["http://fhir.example"]}, "expected https"),
        (
            {"issuer": "https://sandbox.cds-hooks.org", "fhir_servers": ["https://fhir.example"]},
            "fhir_servers: expected none",
        ),
        ({"networks": ["10.0.0.0/40"]}, "clients north.networks: expected networks such as"),
        ({"networks": ["0.0.0.0/0"]}, "clients north.networks: expected networks no wider than"),
        ({"networks": ["0.0.0.0/1", "128.0.0.0/1"]}, "clients north.networks: expected networks no wider than"),
        ({"audiences": [""]}, "clients north.audiences: expected no empty text among them"),
        ({"profile": "oracle", "system_actions": True}, "clients north.system_actions: expected false"),
        ({"cors_origins": ["*"]}, "clients north.cors_origins: expected web origins"),
        ({"cors_origins": ["https://ehr.example/page"]}, "clients north.cors_origins: expected web origins"),
        ({"certificates_sha256": ["AB"]}, "clients north.certificates_sha256: expected 64 hex digits"),
        ({"tenant": "south"}, "clients north.tenant: expected one of default, got south"),
        ({"profile": "cerner"}, "clients north.profile, quirks: "),
        ({"quirks": ["nonsense"]}, "clients north.profile, quirks: "),
    ],
)
def test_clients_refuse_a_field_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registered_clients(_config(TABLE | changes))


def test_clients_are_told_apart_by_id_and_by_issuer_with_tenant() -> None:
    with pytest.raises(ConfigError, match=r"clients\.id: expected each only once"):
        registered_clients(_config(TABLE, TABLE | {"issuer": "https://b.example"}))
    with pytest.raises(ConfigError, match=r"clients\.issuer with token_tenant: expected each only once"):
        registered_clients(_config(TABLE, TABLE | {"id": "b"}))
    with pytest.raises(ConfigError, match=r"clients north\.token_tenant: expected one"):
        registered_clients(_config(TABLE, TABLE | {"id": "b", "token_tenant": "b"}))
    both = registered_clients(_config(TABLE | {"token_tenant": "a"}, TABLE | {"id": "b", "token_tenant": "b"}))
    assert [client.token_tenant for client in both] == ["a", "b"]


def test_clients_of_a_further_tenant() -> None:
    tenant = {"name": "south", "directory": "audit-south", "origin": "s.example/1"}
    (client,) = registered_clients(_config(TABLE | {"tenant": "south"}, tenants=[tenant]))
    assert client.tenant == "south"


def test_clients_open_asks_only_the_servers_of_the_fhir_section() -> None:
    client = open_client(_config(fhir={"allowed_servers": ["https://fhir.example/r4/"]}))
    assert client.fhir_servers == {"https://fhir.example/r4"}
    assert (client.issuer, client.algorithms) == (None, frozenset())


def test_clients_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bedside.toml"
    path.write_text('[[clients]]\nid = "n"\nissuer = "https://e.example"\njwks_file = "keys.json"\n')
    (client,) = registered_clients(load_config(path, {}))
    assert client.jwks_file == Path("keys.json")


def test_clients_misspelt_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bedside.toml"
    path.write_text('[[clients]]\nid = "n"\nissuer = "https://e.example"\njwks = "keys.json"\n')
    with pytest.raises(ConfigError, match="unknown field `jwks`"):
        load_config(path, {})
