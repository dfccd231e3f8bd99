from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from audit.checkpoint import open_checkpoint
from audit.cosignature import Cosigner
from audit.entry import format_time
from audit.entry_operations import ConfigEntry
from audit.errors import RollbackError
from audit.heads import read_heads
from audit.keys import Ed25519Signer, init_keys
from audit.log import AuditLog, LogConfig, create_log
from audit.note import format_vkey
from audit.outside import OutsideError
from bedside.config import Config, ConfigError, load_config
from bedside.outsiders import (
    compare_with_witnesses,
    known_authorities,
    known_witnesses,
    start_anchoring,
    way_out,
)
from bedside.tenants import log_configs, open_logs
from tests.audit.memory_log import Tree, leaves
from tests.audit.outsiders import answering, running_witness
from tests.audit.time_authority import TimeAuthority

VKEY = format_vkey(Cosigner("witness.example/w1", bytes(32)).verifier_key)
OTHER_VKEY = format_vkey(Cosigner("witness.example/w2", bytes(32)).verifier_key)
LOG_VKEY = format_vkey(Ed25519Signer("log.example/1", bytes(32)).verifier_key)


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], Config]:
    """The configuration of two tenants' empty logs, with the tables of a TOML text added."""
    for name in ("north", "south"):
        directory = tmp_path / name
        directory.mkdir(mode=0o700)
        config = LogConfig(directory, f"h.example/cds-audit/{name}/1", name)
        create_log(config, init_keys(directory, config.origin, os.urandom))

    def make(tables: str) -> Config:
        path = tmp_path / "bedside.toml"
        path.write_text(
            f'[audit]\ndirectory = "{tmp_path}/north"\norigin = "h.example/cds-audit/north/1"\ntenant = "north"\n'
            f"deadline_ms = 10000\noutside_every_s = 0.02\npublish_directory = '{tmp_path}/published'\n"
            f'[[tenants]]\nname = "south"\ndirectory = "{tmp_path}/south"\norigin = "h.example/cds-audit/south/1"\n'
            + tables
        )
        return load_config(path, {})

    return make


def _witness(name: str = "one", url: str = "https://w.example", vkey: str = VKEY, more: str = "") -> str:
    return f'[[witnesses]]\nname = "{name}"\nurl = "{url}"\nvkey = "{vkey}"\n{more}\n'


def _authority(roots: Path, more: str = "", url: str = "https://tsa.example/tsr") -> str:
    return f'[[timestamp_authorities]]\nname = "stamps"\nurl = "{url}"\nroots_file = "{roots}"\n{more}\n'


def _now() -> datetime:
    return datetime.now(UTC)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.01)


def test_outsiders_are_those_of_the_configuration(configured: Callable, stamps: TimeAuthority) -> None:
    config = configured(
        _witness(more='monitoring_url = "https://m.example/w/"')
        + _witness("two", "https://w2.example/x/", OTHER_VKEY)
        + _authority(stamps.roots, 'policy = "1.2.3.4.1"')
    )
    one, two = known_witnesses(config)
    assert (one.name, one.url, one.monitoring_url) == (
        "witness.example/w1",
        "https://w.example",
        "https://m.example/w",
    )
    assert (two.url, two.monitoring_url) == ("https://w2.example/x", "")
    (authority,) = known_authorities(config)
    assert (authority.name, authority.url, len(authority.roots)) == ("stamps", "https://tsa.example/tsr", 1)
    assert authority.policy is not None
    assert authority.policy.dotted_string == "1.2.3.4.1"


def test_outsiders_of_the_guide_can_be_configured_so(stamps: TimeAuthority, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "outside-heads.md").read_text()
    tables = guide.split("```toml\n")[1].split("```")[0]
    path = tmp_path / "bedside.toml"
    path.write_text(tables.replace("/etc/bedside/tsa-roots.pem", str(stamps.roots)))
    config = load_config(path, {})
    assert [witness.name for witness in known_witnesses(config)] == ["witness.regulator.example/w1"]
    assert [authority.name for authority in known_authorities(config)] == ["national-tsa"]


def test_outsiders_may_be_asked_and_nobody_else(configured: Callable, stamps: TimeAuthority) -> None:
    ask = way_out(configured(_witness(url="https://w.invalid") + _authority(stamps.roots)))
    with pytest.raises(OutsideError, match=r"w\.invalid"):
        ask("GET", "https://w.invalid/add-checkpoint", timeout_s=0.5)
    with pytest.raises(OutsideError, match="expected a configured address"):
        ask("GET", "https://w.invalid.example/add-checkpoint")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (_witness() + _witness(vkey=OTHER_VKEY), "witnesses: expected each only once, got one several times"),
        (_witness() + _witness("two"), r"by the names in their keys: .* got witness\.example/w1"),
        (_witness(vkey=LOG_VKEY), "witnesses one.vkey: witness key log.example/1: expected Ed25519 cosignature"),
        (_witness(vkey="nonsense"), "witnesses one.vkey: verifier key"),
        (_witness(url="http://w.example"), "witnesses one.url: expected https"),
        (_witness(more='monitoring_url = "ftp://w.example"'), "witnesses one.monitoring_url"),
        (_witness(more='networks = ["0.0.0.0/0"]'), "witnesses one.networks: expected networks no wider"),
        (_witness(more='ca_file = "/nowhere/ca.pem"'), "witnesses one.ca_file /nowhere/ca.pem: expected a file"),
        (_authority(Path("/nowhere/roots.pem")), "timestamp_authorities stamps.roots_file: roots roots.pem"),
        ("policy", "timestamp_authorities stamps.policy: expected an OID"),
    ],
)
def test_outsiders_that_cannot_be_used_are_named(
    configured: Callable, stamps: TimeAuthority, tables: str, message: str
) -> None:
    config = configured(_authority(stamps.roots, 'policy = "x"') if tables == "policy" else tables)
    with pytest.raises(ConfigError, match=message):
        (known_witnesses(config), known_authorities(config), way_out(config))


def test_outsiders_anchor_every_tenants_log_and_publish_what_was_cosigned(
    configured: Callable, stamps: TimeAuthority, tmp_path: Path
) -> None:
    plain = configured("")
    with_logs = open_logs(plain)
    keys = [one.keys.signer.verifier_key for one in with_logs.values()]
    with running_witness(tmp_path / "witness", keys) as witness, stamps.running() as server:
        config = configured(
            _witness(url=witness.url, vkey=format_vkey(witness.key)) + _authority(stamps.roots, url=server.url)
        )
        loops = start_anchoring(config, with_logs.values(), _now)
        assert len(loops) == 2
        for audit_log in with_logs.values():
            _record(audit_log)
        for tenant, audit_log in with_logs.items():
            _wait(lambda log=audit_log: {anchor.kind for anchor in log.storage.anchors()} == {"cosignature", "rfc3161"})
            published = tmp_path / "published" / tenant / "checkpoint"
            _wait(published.exists)
            _wait(lambda path=published: witness.name.encode() in path.read_bytes())
            note = published.read_bytes()
            assert open_checkpoint(note, audit_log.keys.verifier_keys, witness_keys=[witness.key], quorum=1).size >= 1
        for loop in loops:
            loop.close()
    for audit_log in with_logs.values():
        audit_log.close()


def test_outsiders_are_none_where_none_are_configured(configured: Callable) -> None:
    config = configured("")
    silent = structs.replace(config, audit=structs.replace(config.audit, publish_directory=None))
    assert start_anchoring(silent, (), _now) == ()


def test_outsiders_are_compared_with_before_a_log_is_opened(configured: Callable, tmp_path: Path) -> None:
    """The witness has cosigned nine entries under this log's key; the log that is there has none."""
    plain = configured("")
    logs = open_logs(plain)
    signer = logs["south"].keys.signer
    keys = [one.keys.signer.verifier_key for one in logs.values()]
    for one in logs.values():
        one.close()
    with running_witness(tmp_path / "witness", keys) as witness:
        config = configured(
            _witness(url=witness.url, vkey=format_vkey(witness.key), more=f'monitoring_url = "{witness.url}"')
        )
        compare_with_witnesses(config, log_configs(config))
        for one in open_logs(config).values():
            one.close()
        way_out(config)("POST", f"{witness.url}/add-checkpoint", body=Tree(signer, leaves(9)).request(0, 9))
        compare_with_witnesses(config, log_configs(config))
    south = next(one for one in log_configs(config) if one.tenant == "south")
    assert len(read_heads(south.heads_directory)) == 1
    with pytest.raises(RollbackError):
        AuditLog.open(south, clock=_now)


def _record(audit_log: AuditLog) -> None:
    digest = "5a" * 32
    audit_log.record(
        ConfigEntry(
            id=audit_log.new_entry_id(),
            time=format_time(_now()),
            clock="synchronised",
            tenant=audit_log.config.tenant,
            software=digest,
            software_version="1",
            config=digest,
            models=(),
        )
    )


def test_outsiders_that_do_not_answer_hold_up_all_tenants_no_longer_than_one(configured: Callable) -> None:
    def late(_: bytes) -> tuple[int, dict[str, str], bytes]:
        time.sleep(1.0)
        return 404, {}, b""

    with answering(late) as server:
        config = configured(_witness(url=server.url, more=f'monitoring_url = "{server.url}"'))
        logs = log_configs(config) * 4
        started = time.monotonic()
        compare_with_witnesses(config, logs)
        assert len(server.asked) == len(logs) == 8
        assert time.monotonic() - started < 4.0
