"""The commands that docs/keys.md gives for setting a token up, run as they stand there, in a directory of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.programs import need
from tests.softhsm import MODULES

ROOT = Path(__file__).parent.parent
# The verbs of `bedside audit` without a configuration around them.
BEDSIDE = """
import argparse, sys
from audit.commands import add_commands
parser = argparse.ArgumentParser()
add_commands(parser.add_subparsers(dest="bedside").add_parser("audit"))
arguments = parser.parse_args()
sys.exit(arguments.run(arguments))
"""


def test_docs_keys_setting_up_softhsm_works_as_written(tmp_path: Path) -> None:
    need("softhsm2-util")
    need("openssl")
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "keys.md").read_text(), flags=re.DOTALL)
    block = block.replace("/etc/bedside", f"{tmp_path}/etc").replace("/var/lib/bedside", f"{tmp_path}/var")
    block = block.replace(MODULES[0], next(path for path in MODULES if Path(path).exists()))
    (tmp_path / "launch.py").write_text(BEDSIDE)
    bedside = f'bedside() {{ {sys.executable} {tmp_path}/launch.py "$@"; }}'
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = ["bash", "-euo", "pipefail", "-c", f"{bedside}\n{block}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "valid: 0 entries" in done.stdout
    pin = (tmp_path / "etc" / "pin").read_text().strip()
    assert (
        (tmp_path / "var" / "log" / "keys" / "signing.key")
        .read_text()
        .startswith("pkcs11:token=bedside;object=signing-1")
    )
    assert not any(pin in path.read_text() for path in (tmp_path / "var" / "log" / "keys").iterdir())
