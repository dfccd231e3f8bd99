"""Syslog over TLS against a real server: framing, trust, and what counts as delivered."""

import re
import socket
import ssl
from pathlib import Path

import pytest

from audit.export.cef import cef_line
from audit.export.errors import DeliveryError, ExportError
from audit.export.records import LogRecord
from audit.export.syslog import SyslogCollector, frame, syslog_message, tls_context
from audit.export.tls_session import TlsSession
from tests.audit.export.examples import EXAMPLES, UNKNOWN, record_of
from tests.audit.export.servers import Certificate, TlsCollector, make_certificate, tls_collector

RECORDS = [record_of(entry, index) for index, entry in enumerate(EXAMPLES.values())]
# RFC 5424 §6: PRI VERSION SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA SP MSG
_MESSAGE = re.compile(
    rb"<(?P<pri>[1-9][0-9]{0,2})>1 (?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}Z) "
    rb"(?P<host>[\x21-\x7e]{1,255}) (?P<app>[\x21-\x7e]{1,48}) - (?P<id>[\x21-\x7e]{1,32}) - (?P<text>CEF:0\|.*)",
    re.DOTALL,
)


@pytest.fixture(scope="module", name="certificate")
def certificate_fixture(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "collector")


def _frames(data: bytes) -> list[bytes]:
    """The messages in RFC 5425 frames: octets are counted, nothing is looked for."""
    messages = []
    while data:
        length, _, rest = data.partition(b" ")
        messages.append(rest[: int(length)])
        assert len(messages[-1]) == int(length)
        data = rest[int(length) :]
    return messages


def _sender(
    collector: TlsCollector, trusted: Path, host: str = "localhost", pauses: list[float] | None = None
) -> SyslogCollector:
    waits: list[float] = [] if pauses is None else pauses
    return SyslogCollector(host, collector.port, tls_context(trusted), waits.append, timeout_s=5)


@pytest.mark.parametrize("record", [*RECORDS, record_of(UNKNOWN)], ids=[*EXAMPLES, "unknown"])
def test_messages_are_rfc_5424_and_carry_the_cef_line(record: LogRecord) -> None:
    found = _MESSAGE.fullmatch(syslog_message(record))
    assert found is not None
    assert found["text"].decode() == cef_line(record)
    assert int(found["pri"]) // 8 == 13
    assert found["id"].decode() == record.header.type
    assert found["host"] == b"hospital.example"
    assert len(found[0]) <= 2048  # what every receiver has to take, RFC 5425 §4.3.1


def test_graver_events_have_a_graver_syslog_severity() -> None:
    severities = {
        name: int(syslog_message(record).split(b">")[0][1:]) % 8 for name, record in zip(EXAMPLES, RECORDS, strict=True)
    }
    assert severities["gap"] < severities["model"] < severities["decision"]


def test_a_frame_counts_octets() -> None:
    assert frame("é".encode()) == b"2 \xc3\xa9"


def test_a_batch_arrives_whole_and_in_order_over_tls(certificate: Certificate) -> None:
    with tls_collector(certificate) as collector:
        _sender(collector, certificate.certificate).send(RECORDS)
    assert [_frames(data) for data in collector.received] == [[syslog_message(record) for record in RECORDS]]
    assert collector.versions == ["TLSv1.3"]


def test_tls_1_2_is_taken(certificate: Certificate) -> None:
    with tls_collector(certificate, newest=ssl.TLSVersion.TLSv1_2) as collector:
        _sender(collector, certificate.certificate).send(RECORDS[:1])
    assert collector.versions == ["TLSv1.2"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_older_tls_is_not(certificate: Certificate) -> None:
    with tls_collector(certificate, newest=ssl.TLSVersion.TLSv1_1) as collector:
        sender = _sender(collector, certificate.certificate)
        with pytest.raises(DeliveryError, match="not acknowledged"):
            sender.send(RECORDS[:1])
    assert collector.received == []


def test_a_certificate_of_another_authority_is_refused_at_once(certificate: Certificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other")
    with tls_collector(certificate) as collector:
        sender = _sender(collector, other.certificate)
        with pytest.raises(DeliveryError, match="certificate not trusted"):
            sender.send(RECORDS[:1])
    assert (collector.received, collector.connections) == ([], 1)


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other", host="elsewhere.example")
    with tls_collector(other) as collector:
        sender = _sender(collector, other.certificate)
        with pytest.raises(DeliveryError, match="certificate not trusted"):
            sender.send(RECORDS[:1])
    assert collector.received == []


def test_a_certificate_that_ran_out_is_refused(tmp_path: Path) -> None:
    old = make_certificate(tmp_path, "old", days=-1)
    with tls_collector(old) as collector:
        sender = _sender(collector, old.certificate)
        with pytest.raises(DeliveryError, match="certificate not trusted"):
            sender.send(RECORDS[:1])


@pytest.mark.parametrize("fault", ["drop", "reset", "speak"])
def test_a_connection_without_an_orderly_end_is_tried_anew(certificate: Certificate, fault: str) -> None:
    pauses: list[float] = []
    with tls_collector(certificate) as collector:
        collector.faults = [fault, "serve"]
        _sender(collector, certificate.certificate, pauses=pauses).send(RECORDS)
    assert (collector.acknowledged, collector.connections, pauses) == (1, 2, [0.5])
    assert _frames(collector.received[-1]) == [syslog_message(record) for record in RECORDS]


@pytest.mark.parametrize("fault", ["drop", "reset", "speak"])
def test_what_is_never_acknowledged_is_never_delivered(certificate: Certificate, fault: str) -> None:
    pauses: list[float] = []
    with tls_collector(certificate) as collector:
        collector.faults = [fault] * 3
        sender = _sender(collector, certificate.certificate, pauses=pauses)
        with pytest.raises(DeliveryError, match="not acknowledged"):
            sender.send(RECORDS)
    assert (collector.acknowledged, collector.connections, pauses) == (0, 3, [0.5, 1.0])


def test_the_end_of_the_connection_is_an_answer_only_where_that_was_agreed(certificate: Certificate) -> None:
    context = tls_context(certificate.certificate)
    with tls_collector(certificate) as collector:
        collector.faults = ["drop"]
        lenient = SyslogCollector("localhost", collector.port, context, lambda _: None, attempts=1, accept_fin=True)
        lenient.send(RECORDS)
        assert (collector.connections, collector.acknowledged) == (1, 0)
        for fault in ("reset", "speak"):
            collector.faults = [fault]
            with pytest.raises(DeliveryError, match="not acknowledged"):
                lenient.send(RECORDS)


def test_a_batch_larger_than_the_sockets_hold_arrives_at_a_slow_collector(certificate: Certificate) -> None:
    many = RECORDS * 300
    with tls_collector(certificate) as collector:
        collector.faults = ["slow"]
        _sender(collector, certificate.certificate).send(many)
    assert len(_frames(collector.received[0])) == len(many)


def test_a_collector_that_ends_before_we_do_has_acknowledged_nothing(certificate: Certificate) -> None:
    with tls_collector(certificate) as collector:
        collector.faults = ["end first"]
        with socket.create_connection(("127.0.0.1", collector.port), 5) as plain:
            session = TlsSession(plain, tls_context(certificate.certificate), "localhost")
            assert collector.ended_first.wait(5)
            session.send(b"never read")
            with pytest.raises(ConnectionAbortedError, match="ended first"):
                session.end()


def test_nobody_there_is_undelivered(certificate: Certificate) -> None:
    with tls_collector(certificate) as collector:
        pass
    sender = _sender(collector, certificate.certificate)
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        sender.send(RECORDS[:1])


def test_our_own_certificate_is_shown_where_one_is_asked_for(certificate: Certificate, tmp_path: Path) -> None:
    ours = make_certificate(tmp_path, "ours")
    with tls_collector(certificate, client_ca=ours.certificate) as collector:
        context = tls_context(certificate.certificate, ours.certificate, ours.key)
        SyslogCollector("localhost", collector.port, context, lambda _: None, timeout_s=5).send(RECORDS[:1])
        with pytest.raises(DeliveryError):
            _sender(collector, certificate.certificate).send(RECORDS[1:2])
    assert [_frames(data) for data in collector.received] == [[syslog_message(RECORDS[0])]]


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ExportError, match=r"ca\.pem"):
        tls_context(tmp_path / "ca.pem")
