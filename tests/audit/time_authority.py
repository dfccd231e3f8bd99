"""A time-stamping authority as in the world, small: a CA and certificates by openssl, and `openssl ts` behind HTTP."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.audit.outsiders import Answer, Answering, answering
from tests.programs import need

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
other_policies = 1.2.3.4.5
digests = sha256, sha512
accuracy = secs:1
tsa_name = yes
ess_cert_id_alg = sha256
"""
EXTENSIONS = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, {purpose}
"""
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class TimeAuthority:
    """A root, and what signs in its name: `signer`, `expired` (never valid) and `web` (for TLS, not for time stamps)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = folder / "ca.pem"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        self._openssl("req", "-x509", *EC, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Root", "-days", "30")
        for name, purpose, days in (
            ("signer", "timeStamping", "20"),
            ("expired", "timeStamping", "-1"),
            ("web", "serverAuth", "20"),
        ):
            self._openssl("req", "-new", *EC, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            (folder / f"{name}.ext").write_text(EXTENSIONS.format(purpose=purpose))
            issue = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
            self._openssl(*issue, "-out", f"{name}.pem", "-days", days, "-extfile", f"{name}.ext")

    def reply(self, query: bytes, signer: str = "signer", *options: str) -> bytes:
        """What the authority answers to the DER `query`; empty where openssl refuses to answer."""
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            (Path(work) / "query").write_bytes(query)
            command = ["ts", "-reply", "-config", "tsa.cnf", "-queryfile", f"{work}/query", "-out", f"{work}/reply"]
            self._openssl(*command, "-signer", f"{signer}.pem", "-inkey", f"{signer}.key", *options, check=False)
            return (Path(work) / "reply").read_bytes() if (Path(work) / "reply").exists() else b""

    def verifies(self, response: bytes, data: bytes) -> bool:
        """What `openssl ts -verify` says of a response over `data`."""
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            (Path(work) / "response").write_bytes(response)
            (Path(work) / "data").write_bytes(data)
            command = ["ts", "-verify", "-data", f"{work}/data", "-in", f"{work}/response", "-CAfile", "ca.pem"]
            return self._openssl(*command, check=False) == 0

    @contextmanager
    def running(self, signer: str = "signer") -> Iterator[Answering]:
        """The authority over HTTP, until the block ends."""

        def answer(body: bytes) -> Answer:
            return 200, {"Content-Type": "application/timestamp-reply"}, self.reply(body, signer)

        with answering(answer) as server:
            yield server

    def _openssl(self, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [need("openssl"), *arguments], cwd=self.folder, capture_output=True, timeout=60, check=check
        )
        return done.returncode
