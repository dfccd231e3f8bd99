from __future__ import annotations

from pathlib import Path

from tests.conftest import ORIGIN, RunningBedside, clean_environment, run_bedside


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
    assert bedside.get("/cds-services").status_code == 200
