"""A collector that isn't ours: rsyslog takes every line unchanged, and acknowledges as its TLS driver does.

Needs Debian's rsyslog with rsyslog-openssl and rsyslog-gnutls, its two TLS drivers.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from audit.export.errors import DeliveryError
from audit.export.syslog import SyslogCollector, syslog_message, tls_context
from tests.audit.export.examples import EXAMPLES, record_of
from tests.audit.export.servers import Certificate, make_certificate
from tests.programs import need, need_file

RECORDS = [record_of(entry, index) for index, entry in enumerate(EXAMPLES.values())]

_CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="64k" DefaultNetstreamDriver="{driver}"
  DefaultNetstreamDriverCAFile="{certificate}" DefaultNetstreamDriverCertFile="{certificate}"
  DefaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" port="{port}" address="127.0.0.1" supportOctetCountedFraming="on")
template(name="raw" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{folder}/out.log" template="raw")
"""


@contextmanager
def _rsyslog(folder: Path, driver: str) -> Iterator[tuple[int, Certificate]]:
    """The port of an rsyslog with this TLS driver, and its certificate."""
    program = need("rsyslogd")
    for package, library in (("rsyslog-openssl", "lmnsd_ossl.so"), ("rsyslog-gnutls", "lmnsd_gtls.so")):
        need_file(Path("/usr/lib"), f"*/rsyslog/{library}", package)
    certificate = make_certificate(folder, "collector")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    text = _CONFIGURATION.format(
        folder=folder, driver=driver, port=port, certificate=certificate.certificate, key=certificate.key
    )
    (folder / "rsyslog.conf").write_text(text)
    command = [program, "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        else:
            pytest.fail("rsyslog doesn't listen")
        yield port, certificate
    finally:
        process.terminate()
        process.wait(10)


def _received(folder: Path) -> list[str]:
    path = folder / "out.log"
    for _ in range(100):
        if path.exists() and path.read_text().count("\n") >= len(RECORDS):
            break
        time.sleep(0.05)
    return path.read_text().removesuffix("\n").split("\n")


@pytest.mark.parametrize(("driver", "accept_fin"), [("ossl", False), ("gtls", True)])
def test_rsyslog_takes_every_line_unchanged_and_acknowledges(tmp_path: Path, driver: str, accept_fin: bool) -> None:
    with _rsyslog(tmp_path, driver) as (port, certificate):
        context = tls_context(certificate.certificate)
        SyslogCollector("localhost", port, context, time.sleep, attempts=1, accept_fin=accept_fin).send(RECORDS)
        assert _received(tmp_path) == [syslog_message(record).decode() for record in RECORDS]


def test_rsyslogs_gnutls_driver_never_answers_a_close_notify(tmp_path: Path) -> None:
    with _rsyslog(tmp_path, "gtls") as (port, certificate):
        collector = SyslogCollector("localhost", port, tls_context(certificate.certificate), time.sleep, attempts=1)
        with pytest.raises(DeliveryError, match="SSLEOFError"):
            collector.send(RECORDS)
