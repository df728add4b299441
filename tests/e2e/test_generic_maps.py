"""smtp_generic_maps and lmtp_generic_maps: what leaves this host has other addresses, whatever size it is."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest

from support.honours import honours
from support.recording_sink import RecordingSink, recording_sink
from support.running import RunningServer, running_server


@pytest.fixture(scope="module")
def sink() -> Iterator[RecordingSink]:
    with recording_sink() as running:
        yield running


@pytest.fixture(scope="module")
def server(sink: RecordingSink) -> Iterator[RunningServer]:
    main_cf = {
        "relayhost": sink.next_hop,
        "transport_maps": f"inline:{{smtp.test=other:{sink.next_hop} lmtp.test=mailstore:inet:127.0.0.1:{sink.port}}}",
        "worker_processes": "1",
    }
    master_cf = [
        "other unix - - n - - smtp -o smtp_generic_maps=inline:{me@here.test=account@isp.test}",
        "mailstore unix - - n - - lmtp -o lmtp_generic_maps=inline:{me@here.test=account@isp.test}",
    ]
    with running_server(main_cf=main_cf, master_cf=master_cf) as running:
        yield running
        assert "Traceback" not in running.output + running.log


@honours("smtp_generic_maps", "lmtp_generic_maps")
@pytest.mark.parametrize(
    ("domain", "address"),
    [("smtp.test", "account@isp.test"), ("lmtp.test", "account@isp.test"), ("else.test", "me@here.test")],
)
@pytest.mark.parametrize("size", [10, 2_000_000])
def test_addresses_on_the_way_out(
    server: RunningServer, sink: RecordingSink, domain: str, address: str, size: int
) -> None:
    body = b"x" * 70 + b"\r\n"
    body *= 1 + size // len(body)
    content = b"From: Me <me@here.test>\r\nTo: a@b.test,\r\n me@here.test (too)\r\nSubject: me@here.test\r\n\r\n" + body
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.sendmail("me@here.test", [f"bob@{domain}"], content)
    (found,) = sink.take()
    assert (found.sender, found.recipients) == (address, (f"bob@{domain}",))
    assert found.field("From") == f"Me <{address}>"
    assert found.field("To") == f"a@b.test, {address} (too)"
    assert found.field("Subject") == "me@here.test"
    assert found.body == body
