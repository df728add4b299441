"""Each way into the queue has its own rules: listeners with -o, cleanup services, the sendmail command, notices."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from support.honours import honours
from support.recording_sink import Received, RecordingSink, recording_sink
from support.running import RunningServer, free_port, running_server

LISTENERS = {
    "plain": (),
    "remote": ("local_header_rewrite_clients=",),
    "networks": ("local_header_rewrite_clients=permit_mynetworks",),
    "table": ("local_header_rewrite_clients=check_address_map,inline:{127.0.0.1=x}",),
    "everybody": ("local_header_rewrite_clients=static:all",),
    "nobody": ("local_header_rewrite_clients=permit_sasl_authenticated",),
    "broken": ("local_header_rewrite_clients=texthash:/no/such/file",),
    "unmapped": ("receive_override_options=no_address_mappings",),
    "unchecked": ("receive_override_options=no_header_body_checks,no_milters",),
    "unknown": ("receive_override_options=no_unknown_recipient_checks",),
    "unlisted": ("smtpd_reject_unlisted_recipient=no",),
    "other": ("cleanup_service_name=other",),
    "filter": ("content_filter=smtp:[127.0.0.1]:FILTER",),
}
PORTS = {name: free_port() for name in LISTENERS}
MESSAGE = b"To: u@x.test\r\nCc: bare\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def sink() -> Iterator[RecordingSink]:
    with recording_sink() as running:
        yield running


@pytest.fixture(scope="module")
def content_filter() -> Iterator[RecordingSink]:
    with recording_sink() as running:
        yield running


@pytest.fixture(scope="module")
def server(sink: RecordingSink, content_filter: RecordingSink) -> Iterator[RunningServer]:
    main_cf = {
        "relayhost": sink.next_hop,
        "myhostname": "mx.here.test",
        "mydestination": "local.test",
        "local_recipient_maps": "inline:{known=x}",
        "local_transport": f"smtp:{sink.next_hop}",
        "canonical_maps": "inline:{u@x.test=mapped@x.test}",
        "always_bcc": "archive@x.test",
        "message_strip_characters": r"\033",
        "message_reject_characters": r"\001",
        "worker_processes": "1",
    }
    master_cf = ["other unix n - n - 0 cleanup -o always_bcc= -o canonical_maps=inline:{u@x.test=other@x.test}"]
    for name, options in LISTENERS.items():
        line = f"127.0.0.1:{PORTS[name]} inet n - n - - smtpd" + "".join(f" -o {option}" for option in options)
        master_cf.append(line.replace("FILTER", str(content_filter.port)))
    with running_server(main_cf=main_cf, master_cf=master_cf) as running:
        yield running
        assert "Traceback" not in running.output + running.log


def send(name: str, *, to: Sequence[str] = ("u@x.test",), content: bytes = MESSAGE) -> None:
    with smtplib.SMTP("127.0.0.1", PORTS[name], timeout=20) as client:
        client.ehlo("client.example")
        assert client.sendmail("u@x.test", list(to), content) == {}


def sent(sink: RecordingSink, name: str, *, to: Sequence[str] = ("u@x.test",), content: bytes = MESSAGE) -> Received:
    send(name, to=to, content=content)
    (found,) = sink.take()
    return found


@honours("canonical_maps", "always_bcc")
def test_the_plain_way(server: RunningServer, sink: RecordingSink) -> None:
    found = sent(sink, "plain")
    assert found.sender == "mapped@x.test"
    assert sorted(found.recipients) == ["archive@x.test", "mapped@x.test"]
    assert found.field("To") == "mapped@x.test"
    assert found.field("From") == "mapped@x.test"


@honours("local_header_rewrite_clients")
@pytest.mark.parametrize(
    ("name", "local"),
    [("plain", True), ("networks", True), ("table", True), ("everybody", True), ("remote", False), ("nobody", False)],
)
def test_whose_headers_are_completed(server: RunningServer, sink: RecordingSink, name: str, local: bool) -> None:
    found = sent(sink, name)
    assert found.field("Cc") == ("bare@mx.here.test" if local else "bare")
    assert (found.field("Date") is not None) is local


def test_a_client_that_nobody_can_tell_is_to_come_again(server: RunningServer) -> None:
    with smtplib.SMTP("127.0.0.1", PORTS["broken"], timeout=20) as client:
        client.ehlo("client.example")
        assert client.mail("a@b.test")[0] == 451


@honours("receive_override_options")
def test_no_address_mappings(server: RunningServer, sink: RecordingSink) -> None:
    found = sent(sink, "unmapped")
    assert (found.sender, found.recipients, found.field("To")) == ("u@x.test", ("u@x.test",), "u@x.test")
    assert found.field("Cc") == "bare@mx.here.test"


@honours("receive_override_options", "smtpd_reject_unlisted_recipient")
@pytest.mark.parametrize(("name", "code"), [("plain", 550), ("unmapped", 550), ("unknown", 250), ("unlisted", 250)])
def test_who_is_not_here(server: RunningServer, name: str, code: int) -> None:
    with smtplib.SMTP("127.0.0.1", PORTS[name], timeout=20) as client:
        client.ehlo("client.example")
        client.mail("a@b.test")
        assert client.rcpt("known@local.test")[0] == 250
        assert client.rcpt("nobody@local.test")[0] == code


@honours("message_strip_characters", "message_reject_characters", "receive_override_options")
def test_characters(server: RunningServer, sink: RecordingSink) -> None:
    assert sent(sink, "plain", content=b"X: \x1by\r\n\r\na\x1b[31m\r\n").body == b"a[31m\r\n"
    assert sent(sink, "unchecked", content=b"X: y\r\n\r\na\x1b\x01\r\n").body == b"a\x1b\x01\r\n"
    with pytest.raises(smtplib.SMTPDataError, match="disallowed character") as refused:
        send("plain", content=b"X: y\r\n\r\na\x01\r\n")
    assert refused.value.smtp_code == 550


@honours("cleanup_service_name")
def test_another_cleanup_service(server: RunningServer, sink: RecordingSink) -> None:
    found = sent(sink, "other")
    assert (found.sender, found.recipients) == ("other@x.test", ("other@x.test",))
    assert found.field("To") == "other@x.test"


@honours("content_filter")
def test_a_content_filter_comes_first(
    server: RunningServer, sink: RecordingSink, content_filter: RecordingSink
) -> None:
    found = sent(content_filter, "filter", to=["u@x.test", "known@local.test"])
    assert sorted(found.recipients) == ["archive@x.test", "known@local.test", "mapped@x.test"]
    found = sent(sink, "plain")
    assert found.field("To") == "mapped@x.test"


def test_the_sendmail_command(server: RunningServer, sink: RecordingSink) -> None:
    subprocess.run(
        [sys.executable, "-m", "ekiden.cli.sendmail", "-C", str(server.etc), "-f", "u@x.test", "host!user"],
        input=b"To: host!user\nBcc: secret\n\nbody\x1b\n",
        check=True,
        timeout=60,
    )
    (found,) = sink.take()
    assert found.sender == "mapped@x.test"
    assert sorted(found.recipients) == ["archive@x.test", "user@host"]
    assert found.field("To") == "user@host"
    assert found.field("Bcc") is None
    assert found.body == b"body\r\n"
