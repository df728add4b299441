"""Extensions as clients that others wrote use them: smtplib, a real Postfix and a real Exim hand mail in.

Behind our server stands smtp-sink, which writes down what the next hop is told.
"""

from __future__ import annotations

import contextlib
import os
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.peers import running_exim, running_postfix
from support.running import RunningServer, open_directory, running_server, wait_for
from support.smtp_sink import Dumped, SmtpSink, smtp_sink
from support.smtp_socket import SmtpSocket

MEGABYTE = 1 << 20
CONTENT = b"From: ann@one.example\r\nSubject: x\r\n\r\n.\r\n..two\r\n.last\r\n"
DSN = (["RET=HDRS", "ENVID=QQ314159"], ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@there.example"])


@contextlib.contextmanager
def relaying(**settings: str) -> Iterator[tuple[RunningServer, SmtpSink]]:
    """A server that relays for this host, and where its mail goes; its log is clean at the end."""
    with smtp_sink() as sink:
        main_cf = {"relayhost": sink.relayhost, "myhostname": "relay.example", "worker_processes": "1", **settings}
        with running_server(main_cf=main_cf) as server:
            yield server, sink
            assert "Traceback" not in server.output + server.log
            assert " error: " not in server.log


def hand_in(port: int, options: tuple[list[str], list[str]], recipient: str = "bob@two.example") -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("ann@one.example", [recipient], CONTENT, *options)


def arguments(message: Dumped) -> tuple[str, str]:
    """What MAIL and RCPT were given."""
    return message.facts["X-Mail-Args"][0], message.facts["X-Rcpt-Args"][0]


def assert_dsn(message: Dumped) -> None:
    mail, rcpt = arguments(message)
    assert "RET=HDRS" in mail
    assert "ENVID=QQ314159" in mail
    assert "NOTIFY=" in rcpt
    assert {"SUCCESS", "FAILURE"} <= set(rcpt.partition("NOTIFY=")[2].split(" ")[0].split(","))
    assert "rfc822;Bob@there.example" in rcpt
    assert message.content.endswith(b"\n\n.\n..two\n.last\n\n")


def test_what_smtplib_asks_for_is_asked_of_the_next_hop() -> None:
    """RFC 3461 §5.2.1"""
    with relaying() as (server, sink):
        hand_in(server.port, DSN)
        (message,) = sink.messages(1)
        assert_dsn(message)


def test_a_real_postfix_hands_on_what_its_client_asked_for() -> None:
    with relaying() as (server, sink), running_postfix(next_hop=f"127.0.0.1:{server.port}") as postfix:
        hand_in(postfix.port, DSN)
        (message,) = sink.messages(1)
        assert_dsn(message)


def test_a_real_exim_hands_on_what_its_client_asked_for_and_sends_content_in_chunks() -> None:
    """RFC 3030 §2: Exim uses BDAT where it is offered."""
    with relaying() as (server, sink), running_exim(next_hop=f"127.0.0.1:{server.port}") as exim:
        hand_in(exim.port, DSN)
        (message,) = sink.messages(1)
        assert_dsn(message)
        server.wait_for_log(" bdat=1 ")


def test_without_chunking_exim_uses_data() -> None:
    settings = {"smtpd_discard_ehlo_keywords": "chunking"}
    with relaying(**settings) as (server, sink), running_exim(next_hop=f"127.0.0.1:{server.port}") as exim:
        hand_in(exim.port, ([], []))
        (message,) = sink.messages(1)
        assert message.content.endswith(b"\n\n.\n..two\n.last\n\n")
        server.wait_for_log(" data=1 ")


@pytest.mark.parametrize("by", ["smtplib", "postfix", "exim"])
def test_addresses_and_content_beyond_ascii(by: str) -> None:
    """RFC 6531 §3.4, RFC 6152 §3: the mail is in our mailbox as it was sent."""
    settings = {
        "myhostname": "relay.example", "virtual_mailbox_domains": "bücher.example", "virtual_transport": "hold:",
        "worker_processes": "1", "virtual_mailbox_maps": "",
    }  # fmt: skip
    content = "From: <jürgen@one.example>\r\nSubject: grüße\r\nMIME-Version: 1.0\r\n"
    content += "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n駅伝\r\n"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(main_cf=settings))
        port = server.port
        if by == "postfix":
            main_cf = {"smtputf8_enable": "yes"}
            port = stack.enter_context(running_postfix(main_cf, next_hop=f"127.0.0.1:{port}")).port
        elif by == "exim":
            port = stack.enter_context(running_exim(next_hop=f"127.0.0.1:{port}")).port
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail(
                "jürgen@one.example", ["駅伝@bücher.example"], content.encode(), ["SMTPUTF8", "BODY=8BITMIME"]
            )
        server.wait_for_log("status=deferred")
        (queue_id,) = [
            line.split()[0].rstrip("*!") for line in server.command("queue", "list").stdout.splitlines() if "@" in line
        ][:1]
        shown = server.command("queue", "show", queue_id).stdout
        assert "Subject: grüße" in shown
        assert "駅伝" in shown
        assert "with UTF8SMTP id" in shown


def test_one_mailbox_has_the_mail_for_all_spellings_of_its_address() -> None:
    """RFC 5198 §3: letters composed or not; RFC 5890 §2.3.2: the domain in either form."""
    with open_directory() as directory:
        mail = directory / "mail"
        mail.mkdir()
        mail.chmod(0o777)
        settings = {
            "virtual_mailbox_domains": "bücher.example", "virtual_mailbox_base": str(mail),
            "virtual_mailbox_maps": "inline:{jürgen@bücher.example=box/}",
            "virtual_uid_maps": f"static:{os.geteuid() or 65534}",
            "virtual_gid_maps": f"static:{os.getegid() or 65534}",
        }  # fmt: skip
        addresses = [
            f"{local}@{domain}"
            for local in ("jürgen", "ju\u0308rgen", "jürgen+x")
            for domain in ("bücher.example", "xn--bcher-kva.example", "BÜCHER.example")
        ]
        with running_server(main_cf={**settings, "recipient_delimiter": "+"}) as server:
            with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
                for address in addresses:
                    client.sendmail("a@b.example", [address], CONTENT, ["SMTPUTF8"])
            wait_for(
                lambda: len(list(mail.glob("box/new/*"))) == len(addresses), f"{len(addresses)} mails:\n{server.log}"
            )


def test_a_message_is_sent_at_the_given_time_though_the_queue_is_flushed() -> None:
    """RFC 4865 §4"""
    with relaying() as (server, sink):
        started = time.time()
        with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
            client.ehlo()
            assert "futurerelease" in client.esmtp_features
            code, text = client.mail("ann@one.example", ["HOLDFOR=3"])
            assert code == 250
            assert b"held until " in text
            client.rcpt("bob@two.example")
            assert client.data(CONTENT)[0] == 250
        assert server.command("flush").returncode == 0
        (message,) = sink.messages(1)
        assert sink.times(b"two.example")[0] - started >= 2.9
        assert "HOLDFOR" not in arguments(message)[0]


def test_a_host_that_was_away_fetches_its_mail_with_etrn() -> None:
    """RFC 1985 §4; its mail waits with both workers."""
    with smtp_sink() as sink:
        away = f"smtp:[127.0.0.1]:{sink.port + 1}"
        settings = {
            "relay_domains": "away.example", "transport_maps": f"inline:{{away.example={away}}}",
            "minimal_backoff_time": "1h", "maximal_backoff_time": "1h", "queue_run_delay": "1h",
            "smtp_connect_timeout": "2s", "myhostname": "relay.example",
        }  # fmt: skip
        with running_server(main_cf=settings) as server:
            for _ in range(8):
                hand_in(server.port, ([], []), "bob@away.example")
            wait_for(lambda: server.log.count("status=deferred") == 8, "eight deferred messages")
            server.main_cf["transport_maps"] = f"inline:{{away.example=smtp:[127.0.0.1]:{sink.port}}}"
            server.reload()
            with SmtpSocket(server.port) as client:
                client.greet()
                assert client.say("ETRN other.example").startswith("459 4.7.0 ")
                assert client.say("ETRN away.example") == "250 2.0.0 Queuing started"
            assert len(sink.messages(8)) == 8


def memory(server: RunningServer) -> int:
    """The most that the worker has had in memory, in bytes."""
    (pid,) = [pid for name, pid in server.children().items() if name.startswith("worker")]
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("last", [MEGABYTE, 50 * MEGABYTE])
def test_fifty_megabytes_in_chunks_do_not_grow_in_memory(last: int) -> None:
    """In many chunks, and in one."""
    settings = {"message_size_limit": "100000000", "relay_domains": "here.example", "relay_transport": "discard:"}
    line = b"x" * 1022 + b"\r\n"
    with running_server(main_cf={**settings, "worker_processes": "1"}) as server, SmtpSocket(server.port) as client:
        client.greet()
        client.say("MAIL FROM:<a@b.example>", "RCPT TO:<u@here.example>")
        before = memory(server)
        for at in range(0, 50 * MEGABYTE, last):
            is_last = at + last == 50 * MEGABYTE
            client.send(b"BDAT %d%s\r\n" % (last, b" LAST" if is_last else b""))
            for _ in range(last // MEGABYTE):
                client.send(line * 1024)
            answer = client.hear()
            assert answer.startswith("250 2.0.0 "), answer
        assert "queued as" in answer
        assert memory(server) - before < 12 * MEGABYTE


def test_a_refused_chunk_of_fifty_megabytes_is_let_go() -> None:
    """The one that is far too big, and those without a message; the session goes on, or ends."""
    settings = {"smtpd_refused_chunk_limit": "60000000", "relay_domains": "here.example"}
    with running_server(main_cf={**settings, "worker_processes": "1"}) as server, SmtpSocket(server.port) as client:
        client.greet()
        before = memory(server)
        for envelope in ((), ("MAIL FROM:<a@b.example>", "RCPT TO:<u@here.example>")):
            client.say("RSET", *envelope)
            client.send(b"BDAT %d\r\n" % (50 * MEGABYTE))
            for _ in range(50):
                client.send(b"QUIT\r\n  " * (MEGABYTE // 8))
            answer = client.hear()
            assert answer.startswith("552 5.3.4 " if envelope else "503 5.5.1 "), answer
            assert client.say("NOOP").startswith("250 ")
        assert client.say("BDAT 60000001 LAST").startswith("503 5.5.1 ")
        assert client.hear() == ""
        assert memory(server) - before < 12 * MEGABYTE
