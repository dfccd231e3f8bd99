"""One hospital for all conformance tests: `bedside serve` with two workers, its EHRs, their keys and FHIR servers.

The service listens on loopback and is known to the EHRs by another URL, as behind a proxy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from cds_service.hooks import PARSERS
from tests.cds_service.tokens import SigningKey, make_token, signing_key
from tests.conformance.hospital_servers import BEHAVIOURS, Servers, running_servers
from tests.conftest import await_answer, clean_environment, free_port, run_bedside

Json = dict[str, Any]
PUBLIC_URL = "https://cds.hospital.example/bedside"
LAUNCH_URL = "https://cds.hospital.example/app/launch"
ORIGINS = {"": "tests.example/cds-audit/north/1", "south": "tests.example/cds-audit/south/1"}
RISK = "risk"  # prevent_cvd at every hook
WEB_ORIGIN = "https://ehr.hospital.example"
DEADLINE_S = 2.0
BUSY_S = 4.0  # what a busy machine may add to the time of an answer that came by its deadline

# What differs from client to client; each has a key set of its own at its own address.
CLIENTS: dict[str, Json] = {
    "spec": {"cors_origins": [WEB_ORIGIN]},
    "epic": {"profile": "epic", "audiences": ["epic-app"]},
    "oracle": {"profile": "oracle"},
    "medplum": {"profile": "medplum"},
    "sandbox": {"profile": "sandbox", "cors_origins": ["https://sandbox.example"], "system_actions": True},
    "third": {"quirks": ["cds-hooks-3.0"]},
    "filing": {"system_actions": True, "algorithms": ["RS384"]},
    "south": {"tenant": "south"},
    "narrow": {"services": ["prevent-cvd"]},
    "shadow": {"shadow_models": ["prevent_cvd"]},
    "subject": {"subject": "agreed-subject"},
    "branch-a": {"issuer": "https://vendor.example", "token_tenant": "a"},
    "branch-b": {"issuer": "https://vendor.example", "token_tenant": "b"},
    "named": {"jku": True},
    "listed": {"file": True},
    "limited": {"calls_per_minute": 4},
    "rotating": {},
    "unhurried": {"deadline_s": 30.0},
    "certified": {"certificates_sha256": ["ab" * 32]},
}


def issuer_of(client: str) -> str:
    """What a client's tokens name as their issuer."""
    return str(CLIENTS[client].get("issuer", f"https://{client}.example"))


@dataclass(slots=True)
class Hospital:
    """The running service and all around it."""

    url: str
    folder: Path
    servers: Servers
    keys: dict[str, SigningKey]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def stderr(self) -> Path:
        return self.folder / "stderr"

    def audience(self, path: str) -> str:
        """What a JWT for a call of `path` is meant for."""
        return f"{PUBLIC_URL}{path}"

    def token(self, path: str, client: str = "spec", header: Json | None = None, **claims: Any) -> str:
        """A good token for a call of `path`, but for what is changed; None leaves a claim or a header's member out."""
        how = CLIENTS[client]
        named = {"jku": self.servers.key_set(client)} if "jku" in how else {}
        known = {"iss": issuer_of(client)} | ({"tenant": how["token_tenant"]} if "token_tenant" in how else {})
        return make_token(self.audience(path), key=self.keys[client], header=named | (header or {}), **known | claims)

    def send(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        *,
        client: str | None = "spec",
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        """One request: with `token`, or a fresh one of `client`, or none."""
        sent = {} if body is None else {"Content-Type": "application/json"}
        if token is None and client is not None:
            token = self.token(path, client)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        wanted = {name: value for name, value in (sent | (headers or {})).items() if value}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, f"{self.url}{path}", data=data, headers=wanted, timeout=20, allow_redirects=False
            )

    def call(
        self, body: Json | bytes, client: str | None = "spec", service: str = RISK, **how: Any
    ) -> requests.Response:
        """One hook call."""
        return self.send("POST", f"/cds-services/{service}", body, client=client, **how)

    def cards(self, body: Json, client: str = "spec", service: str = RISK) -> list[Json]:
        """The cards of a call that is answered."""
        answer = self.call(body, client, service)
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()["cards"]
        return found

    def discover(self, client: str = "spec") -> list[Json]:
        """The services that a client sees."""
        answer = self.send("GET", "/cds-services", client=client)
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()["services"]
        return found

    def feedback(
        self, *entries: Json, client: str | None = "spec", service: str = RISK, **how: Any
    ) -> requests.Response:
        """Feedback on a service's cards."""
        path = f"/cds-services/{service}/feedback"
        return self.send("POST", path, {"feedback": list(entries)}, client=client, **how)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`bedside` with this configuration."""
        return run_bedside(*arguments, environment=self.environment)


@contextmanager
def running_hospital(folder: Path) -> Iterator[Hospital]:
    """The hospital, until the block ends."""
    with running_servers() as servers:
        keys = {name: signing_key(f"{name}-1", *how.get("algorithms", ())) for name, how in CLIENTS.items()}
        servers.keys = {name: [key.public()] for name, key in keys.items()}
        servers.keys["filing"] = [keys["filing"].public(alg=None)]  # a key set need not say for which algorithm
        (folder / "listed.json").write_text(json.dumps({"keys": servers.keys["listed"]}))
        port = free_port()
        config = folder / "bedside.toml"
        config.write_text(_config(folder, port, servers))
        environment = clean_environment(BEDSIDE_CONFIG=str(config))
        hospital = Hospital(f"http://127.0.0.1:{port}", folder, servers, keys, environment)
        _make_logs(folder)
        with serving(hospital):
            yield hospital


@contextmanager
def serving(hospital: Hospital) -> Iterator[None]:
    """The service itself; twice in one test is a restart."""
    with hospital.stderr.open("ab") as sink:
        command = [sys.executable, "-m", "bedside", "serve"]
        hospital.process = subprocess.Popen(command, env=hospital.environment, stdout=sink, stderr=sink)
        try:
            await_answer(hospital.process, f"{hospital.url}/ready")
            yield
        finally:
            hospital.process.terminate()
            hospital.process.wait(30)


def _make_logs(folder: Path) -> None:
    """Each tenant's log, made by a configuration in which it is the only one."""
    for tenant, origin in ORIGINS.items():
        environment = clean_environment(
            BEDSIDE_AUDIT_DIRECTORY=str(folder / f"audit{tenant}"), BEDSIDE_AUDIT_ORIGIN=origin
        )
        made = run_bedside("audit", "init", "--origin", origin, environment=environment)
        assert made.returncode == 0, made.stderr


def _config(folder: Path, port: int, servers: Servers) -> str:
    lines = [
        f'[server]\nport = {port}\nworkers = 2\npublic_url = "{PUBLIC_URL}"',
        f'[fhir]\ndeadline_s = {DEADLINE_S}\nmax_pages = 3\n[smart_app]\nlaunch_url = "{LAUNCH_URL}"',
        f'[audit]\ndirectory = "{folder / "audit"}"\norigin = "{ORIGINS[""]}"\ntenant = "north"\ndeadline_ms = 700',
        "shared_patient_ids = true",  # all clients stand for one hospital's
        f'[models]\nenabled = ["prevent_cvd"]\n[state]\ndirectory = "{folder / "state"}"',
        f'[[tenants]]\nname = "south"\ndirectory = "{folder / "auditsouth"}"\norigin = "{ORIGINS["south"]}"',
        "shared_patient_ids = true",
        '[[services]]\nmodel = "prevent_cvd"',
        f'[[services]]\nmodel = "prevent_cvd"\nid = "{RISK}"\nhooks = {json.dumps(list(PARSERS))}',
    ]
    return "\n".join([*lines, *(_client(name, folder, servers) for name in CLIENTS)]) + "\n"


def _client(name: str, folder: Path, servers: Servers) -> str:
    how = {key: value for key, value in CLIENTS[name].items() if key not in ("jku", "file", "issuer")}
    keys = {"jwks_url": servers.key_set(name)}
    if "jku" in CLIENTS[name]:
        keys = {"allowed_jku": [servers.key_set(name)]}  # type: ignore[dict-item]
    if "file" in CLIENTS[name]:
        keys = {"jwks_file": str(folder / "listed.json")}
    fhir = [servers.fhir(behaviour) for behaviour in BEHAVIOURS]
    table = {"id": name, "issuer": issuer_of(name), "fhir_servers": fhir, **keys, **how}
    return "[[clients]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
