from __future__ import annotations

import re
from pathlib import Path

from audit.keys import Ed25519Signer
from audit.note import ED25519_COSIGNATURE, VerifierKey, format_vkey
from tests.cds_service import tokens
from tests.conftest import ORIGIN, RunningBedside, clean_environment, free_port, run_bedside


def test_doctor_says_what_would_refuse_to_start(tmp_path: Path) -> None:
    done = run_bedside("doctor", environment=clean_environment(BEDSIDE_MODELS_ENABLED="unknown"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "ok    configuration: http://127.0.0.1:8712, tenant default"
    failed = {line.split(":")[0].removeprefix("FAIL  "): line for line in lines if line.startswith("FAIL")}
    assert failed.keys() == {"access", "models", "services", "audit log"}
    assert failed["models"].endswith("got unknown")


def test_doctor_says_what_is_in_force_beside_a_running_service(bedside: RunningBedside) -> None:
    done = bedside.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok    access: OPEN to every caller on this machine, for evaluation only" in done.stdout
    assert "ok    models: prevent_cvd " in done.stdout
    assert "\n      prevent-cvd: patient-view\n" in done.stdout
    assert f"ok    audit log: head:\n      {ORIGIN}\n" in done.stdout
    assert re.search(r"^ok    sqlite: 3\.\d+\.\d+, free of the race ", done.stdout, re.MULTILINE)
    assert re.search(r"^ok    clock: (synchronised|NOT kept in step)", done.stdout, re.MULTILINE)
    assert "ok    outside heads: NONE: " in done.stdout
    assert "ok    custody: payloads kept for 10 years; 0 privacy officers, TOO FEW " in done.stdout
    assert bedside.get("/cds-services").status_code == 200


def _doctor(folder: Path, client: str) -> str:
    path = folder / "bedside.toml"
    path.write_text(f'[[clients]]\nid = "north"\nissuer = "https://ehr.example"\n{client}\n')
    return run_bedside("doctor", environment=clean_environment(BEDSIDE_CONFIG=str(path)), cwd=folder).stdout


def test_doctor_reads_each_clients_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(tokens.jwks(tokens.ES384, tokens.RS384))
    assert f"ok    key sets: \n      north: 2 keys at {keys}\n" in _doctor(tmp_path, f'jwks_file = "{keys}"')


def test_doctor_says_which_keys_cannot_be_had(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/jwks"
    assert f"FAIL  key sets: north: {url} can't be read: " in _doctor(tmp_path, f'jwks_url = "{url}"')
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    assert f"FAIL  key sets: north: {keys} holds no key" in _doctor(tmp_path, f'jwks_file = "{keys}"')


def test_doctor_says_who_else_keeps_the_heads_and_who_may_erase(tmp_path: Path) -> None:
    signers = [Ed25519Signer(name, bytes([number]) * 32) for number, name in enumerate(("ada", "ben"), start=1)]
    officers = "".join(
        f'[[officers]]\nname = "{one.verifier_key.name}"\nvkey = "{format_vkey(one.verifier_key)}"\n'
        'roles = ["privacy-officer"]\n'
        for one in signers
    )
    witness = VerifierKey("witness.example/w1", ED25519_COSIGNATURE, signers[0].verifier_key.public_key)
    table = f'[[witnesses]]\nname = "w1"\nurl = "https://witness.example"\nvkey = "{format_vkey(witness)}"\n'
    said = _doctor(tmp_path, f"{officers}{table}")
    assert "ok    outside heads: witness witness.example/w1\n" in said
    assert "ok    custody: payloads kept for 10 years; 2 privacy officers\n" in said
    said = _doctor(tmp_path, f"{table}[audit]\nretention_years = 1.0\n")
    assert "FAIL  custody: audit.retention_years: retention: expected at least 6 years, got 1" in said
