"""Mail of clients that others wrote, relayed to a next hop that others wrote, and counted by an analyser of theirs."""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
from collections.abc import Iterator

import pytest

from support.honours import honours
from support.requirements import require_conformance, require_program
from support.running import RunningServer, running_server, wait_for
from support.smtp_sink import Dumped, SmtpSink, smtp_sink
from support.smtp_socket import SmtpSocket


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with smtp_sink() as running:
        yield running


@pytest.fixture
def server(sink: SmtpSink) -> Iterator[RunningServer]:
    with running_server(main_cf={"relayhost": sink.relayhost, "myhostname": "relay.example"}) as running:
        yield running
        assert "Traceback" not in running.output + running.log
        assert " error: " not in running.log
        assert "fatal: " not in running.log


def run(program: str, *arguments: str, input_text: str | None = None) -> str:
    done = subprocess.run(
        [require_program(program), *arguments],
        input=input_text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
    return done.stdout


def envelope(message: Dumped) -> tuple[str, list[str]]:
    """The sender and the recipients, without angle brackets and parameters."""
    return message.facts["X-Mail-Args"][0].split()[0].strip("<>"), [
        line.split()[0].strip("<>") for line in message.facts["X-Rcpt-Args"]
    ]


def queue_is_empty(server: RunningServer) -> bool:
    return server.command("mailq").stdout.strip() == "Mail queue is empty"


# -- swaks


def test_a_message_of_swaks(server: RunningServer, sink: SmtpSink) -> None:
    talk = run(
        "swaks", "--server", f"127.0.0.1:{server.port}", "--from", "ann@one.example",
        "--to", "bob@two.example,c@d.example",
        "--header", "Subject: from swaks", "--body", "first\\n.\\n..two dots\\n.last", "--helo", "client.example",
    )  # fmt: skip
    assert re.search(r"<-  250 2\.0\.0 Ok: queued as [0-9A-Za-z]+", talk)
    (message,) = sink.messages(1)
    assert envelope(message) == ("ann@one.example", ["bob@two.example", "c@d.example"])
    assert message.facts["X-Client-Proto"] == ["ESMTP"]
    assert message.facts["X-Helo-Args"] == ["relay.example"]
    header, body = message.content.split(b"\n\n", 1)
    assert b"\nSubject: from swaks\n" in header
    assert body.startswith(b"first\n.\n..two dots\n.last\n")


def test_a_pipelining_client_that_quits_without_waiting(server: RunningServer, sink: SmtpSink) -> None:
    run("swaks", "--server", f"127.0.0.1:{server.port}", "--from", "a@b.example", "--to", "c@d.example", "--pipeline")
    (message,) = sink.messages(1)
    assert envelope(message) == ("a@b.example", ["c@d.example"])


# -- smtp-source


@pytest.mark.parametrize(
    ("options", "messages", "recipients"),
    [
        (("-m", "40", "-s", "8"), 40, 1),
        (("-m", "10", "-s", "2", "-r", "30"), 10, 30),
        (("-m", "30", "-s", "3", "-d"), 30, 1),
        (("-m", "6", "-s", "3", "-l", "300000", "-c"), 6, 1),
        (("-m", "5", "-o", "-N"), 5, 1),
    ],
    ids=["parallel", "many-recipients", "one-connection", "large", "old-protocol"],
)
def test_messages_of_smtp_source(
    server: RunningServer, sink: SmtpSink, options: tuple[str, ...], messages: int, recipients: int
) -> None:
    run("smtp-source", *options, "-f", "ann@one.example", "-t", "bob@two.example", f"127.0.0.1:{server.port}")
    dumps = sink.messages(messages)
    for message in dumps:
        sender, to = envelope(message)
        assert sender.endswith("@one.example")
        assert len(to) == recipients
        assert len(set(to)) == recipients
    wait_for(lambda: server.log.count(": removed") == messages, "all of them to leave the queue")
    assert server.log.count("status=sent") == messages * recipients
    assert queue_is_empty(server)


def test_the_content_of_a_large_message_of_smtp_source_is_whole(server: RunningServer, sink: SmtpSink) -> None:
    run("smtp-source", "-l", "3000000", "-f", "a@b.example", "-t", "c@d.example", f"127.0.0.1:{server.port}")
    with smtp_sink() as direct:
        run("smtp-source", "-l", "3000000", "-f", "a@b.example", "-t", "c@d.example", f"127.0.0.1:{direct.port}")
        bodies = [found.messages(1)[0].content.split(b"\n\n", 1)[1] for found in (sink, direct)]
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) > 2_900_000


# -- smtplib, and content that must not change


def contents() -> Iterator[tuple[str, bytes]]:
    """Messages with CRLF line ends, by name."""
    yield "dots", b"Subject: dots\r\n\r\n.\r\n..\r\n...three\r\n.\r\nmiddle .\r\n\r\n.\r\n"
    yield "no-body", b"Subject: no body\r\n\r\n"
    yield "header-only", b"Subject: header only\r\n"
    yield "body-only", b"\r\nbody only\r\n"
    yield "empty-lines", b"Subject: x\r\n\r\n\r\n\r\n\r\nx\r\n\r\n\r\n"
    yield "eight-bit", "Subject: 8\r\n\r\nfjälls\r\n日本語\r\n".encode() + bytes(range(128, 256)) + b"\r\n"
    yield "long-lines", b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n" + b"." * 997 + b"\r\n"
    yield "controls", b"Subject: x\r\n\r\n\x01\x02\x03\x1b[31m\x7f\t\x0b\x0c\r\n"
    yield "large-dots", b"Subject: x\r\n\r\n" + b".\r\n..\r\n.x\r\n" * 30_000
    folder = require_conformance("smtp", "haraka-mail-specimen")
    for path in sorted(folder.iterdir()):
        text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        yield path.stem, text if text.endswith(b"\r\n") else text + b"\r\n"


def test_content_arrives_byte_for_byte(server: RunningServer, sink: SmtpSink) -> None:
    server.main_cf["local_header_rewrite_clients"] = ""  # headers of clients elsewhere, which are theirs
    server.reload()
    sent = {f"{number}@names.example": (name, data) for number, (name, data) in enumerate(contents())}
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.ehlo("client.example")
        for recipient, (_, data) in sent.items():
            assert client.sendmail("ann@one.example", [recipient], data, ["BODY=8BITMIME"]) == {}
    dumps = {envelope(message)[1][0]: message.content for message in sink.messages(len(sent))}
    for recipient, (name, data) in sent.items():
        # A header that ends the message gets the empty line that parts it from the (empty) body.
        empty_line = b"\n" if name == "header-only" else b""
        assert dumps[recipient] == data.replace(b"\r\n", b"\n") + empty_line + b"\n", name


def test_smtplib_is_told_of_each_recipient(server: RunningServer, sink: SmtpSink) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        refused = client.sendmail("ann@one.example", ["good@two.example", "b@d@x", "also@three.example"], b"x\r\n")
        assert [(to, code) for to, (code, _) in refused.items()] == [("b@d@x", 501)]
        assert client.verify("somebody@two.example")[0] == 252
        assert client.noop()[0] == 250
        assert client.has_extn("size")
    (message,) = sink.messages(1)
    assert envelope(message)[1] == ["good@two.example", "also@three.example"]


def test_our_trace_field_says_who_and_how(server: RunningServer) -> None:
    with smtp_sink("-e") as old:  # a next hop without ESMTP
        server.main_cf["relayhost"] = old.relayhost
        server.reload()
        with SmtpSocket(server.port) as client:
            client.greet()
            answer = client.mail("ann@one.example", "bob@two.example")
        queue_id = answer.rsplit(" ", 1)[1]
        (trace,) = old.dumps(1)
    assert re.search(
        rb"Received: from client\.example \(localhost \[127\.0\.0\.1\]\)\n"
        rb"\s+by relay\.example \(Ekiden\) with ESMTP id " + queue_id.encode() + rb"\n\s+for <bob@two\.example>; "
        rb"\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\n",
        trace,
    ), trace.decode()


# -- the log, counted by a program that knows nothing of Ekiden


def total(report: str, what: str) -> str:
    found = re.search(rf"^ +(\d+k?m?) +{re.escape(what)}(?: .*)?$", report, re.MULTILINE)
    assert found is not None, f"no {what!r} in:\n{report}"
    return found[1]


@honours("smtpd_reject_unlisted_recipient")
def test_pflogsumm_counts_the_log(server: RunningServer, sink: SmtpSink) -> None:
    program = require_program("pflogsumm")
    server.main_cf["transport_maps"] = (
        "inline:{ {slow.example=retry:come back later} {no.example=error:5.7.1 not you} }"
    )
    server.main_cf["mynetworks"] = "127.0.0.1/32"
    server.main_cf["smtpd_reject_unlisted_recipient"] = "no"  # bounces and delays are to be counted
    server.reload()
    run(
        "smtp-source",
        "-m",
        "12",
        "-s",
        "3",
        "-f",
        "ann@one.example",
        "-t",
        "bob@two.example",
        f"127.0.0.1:{server.port}",
    )
    with SmtpSocket(server.port) as client:
        client.greet()
        for recipient in ("a@slow.example", "b@no.example", "c@three.example"):
            assert (
                client.mail("carl@four.example", recipient, content=b"Subject: x\r\n\r\n" + b"y" * 500 + b"\r\n")[:3]
                == "250"
            )
        client.say("QUIT")
    with SmtpSocket(server.port, source="127.0.0.2") as stranger:
        stranger.greet()
        for number in range(3):
            assert stranger.say("MAIL FROM:<x@bad.example>")[:3] == "250"
            assert stranger.say(f"RCPT TO:<victim{number}@elsewhere.example>")[:3] == "554"
            stranger.say("RSET")
        stranger.say("QUIT")
    # 12 and 1 relayed, the notification of the bounce relayed, one deferred.
    wait_for(lambda: server.log.count("status=sent") == 14, "deliveries")
    wait_for(lambda: server.log.count(": removed") == 15, "removals")
    sink.messages(14)
    report = run(program, "--smtpd-stats", "--verbose-msg-detail", str(server.log_file))
    counted = {
        what: total(report, what)
        for what in ("received", "delivered", "deferred", "bounced", "rejected", "forwarded", "discarded", "held")
    }
    assert counted == {
        "received": "15",  # a notification is not received
        "delivered": "14",
        "deferred": "1",
        "bounced": "1",
        "rejected": "3",
        "forwarded": "0",
        "discarded": "0",
        "held": "0",
    }, report
    assert total(report, "senders") == "2"
    assert total(report, "recipients") == "3"
    assert total(report, "sending hosts/domains") == "2"
    assert "Relay access denied" in report
    assert "come back later" in report
    assert "Messages with no size data" not in report
