"""Clients that mean harm or are broken, against the running server: clear replies, bounded time and memory."""

from __future__ import annotations

import contextlib
import http.client
import re
import resource
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.honours import honours
from support.requirements import require_program, require_that
from support.running import RunningServer, free_port, running_server, wait_for
from support.smtp_socket import SmtpSocket

# The client (on the loopback) is a stranger here.
STRANGER = {
    "myhostname": "mail.here.example",
    "mydestination": "",
    "mynetworks": "192.0.2.1/32",
    "relay_domains": "here.example",
    "relay_transport": "discard:",
    "smtpd_peername_lookup": "no",
    "smtpd_hard_error_limit": "1000",
    "smtpd_soft_error_limit": "1000",
    "worker_processes": "1",
}
LOG_LINE = re.compile(r"\w{3} [ \d]\d \d\d:\d\d:\d\d mail postfix/[a-z]+\[\d+\]: [^\x00-\x1f\x7f]*")
MEGABYTE = 1 << 20


@contextlib.contextmanager
def stranger_server(*master_cf: str, program: tuple[str, ...] = (), **settings: str) -> Iterator[RunningServer]:
    """A server whose log is clean at the end, whatever came."""
    with running_server(main_cf={**STRANGER, **settings}, master_cf=master_cf, start=False) as running:
        running.program = program or running.program
        yield running.start()
        assert running.stop() == 0
        assert running.output == ""
        assert "Traceback" not in running.log
        assert " error: " not in running.log
        assert [line for line in running.log.splitlines() if not LOG_LINE.fullmatch(line)] == []


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with stranger_server() as running:
        yield running


def takes_mail(server: RunningServer) -> bool:
    with SmtpSocket(server.port) as client:
        client.greet()
        return client.mail("a@b.example", "user@here.example").startswith("250 ")


def memory(server: RunningServer, field: str = "VmRSS") -> int:
    """Bytes of worker 0; VmHWM is the most that there ever was."""
    text = Path(f"/proc/{server.children()['worker 0']}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


# -- the open relay

SENDERS = [
    "<test@example.com>", " test@example.com", "<>", "<postmaster@here.example>", "<x@mail.here.example>",
    "<spam@[127.0.0.1]>", "<spam@localhost>", "<spam>", "<@here.example:spam@example.com>",
]  # fmt: skip
RECIPIENTS = [
    "<victim@example.net>", " victim@example.net", "victim@example.net",
    "<victim%example.net@here.example>", "<victim%example.net@mail.here.example>", "<victim%example.net@[127.0.0.1]>",
    "<victim%example.net@localhost>", "<victim%example.net>", "victim%example.net",
    "<example.net!victim@here.example>", "<example.net!victim>", "<here.example!example.net!victim>",
    "<example.net!victim@[127.0.0.1]>", "<example.net!victim%here.example@here.example>",
    "<@here.example:victim@example.net>", "<@mail.here.example,@here.example:victim@example.net>",
    "<@[127.0.0.1]:victim@example.net>",
    '<"victim@example.net"@here.example>', '<"victim@example.net">', '"victim@example.net"',
    '<"victim%example.net"@here.example>', "<victim@example.net@here.example>", "<victim@here.example@example.net>",
    "<victim@example.net%here.example>", "<victim\\@example.net@here.example>",
    "<victim@[192.0.2.1]>", "<victim@192.0.2.1>", "<victim@[IPv6:2001:db8::1]>",
    "<here.example@example.net>", "<victim@here.example.example.net>", "<victim@xhere.example>",
    "<victim@here.example.>x",
    "<victim@sub.nothere.example>", "<victim:example.net@here.example%example.net>",
    "<victim@example.net,user@here.example>", "<user@here.example> <victim@example.net>",
    '<""@here.example>', "<@here.example>", "<victim@example.net\x00@here.example>",
    "<victim@example.net\t@here.example>",
]  # fmt: skip


@pytest.mark.parametrize("sender", SENDERS)
def test_nothing_is_relayed_for_a_stranger(server: RunningServer, sender: str) -> None:
    with SmtpSocket(server.port) as client:
        client.greet()
        for recipient in RECIPIENTS:
            answer = client.say(f"MAIL FROM:{sender}")
            if answer.startswith("250 "):
                answer = client.say(f"RCPT TO:{recipient}")
            assert re.match(r"5\d\d 5\.\d\.\d ", answer), (sender, recipient, answer)
            assert client.say("DATA").startswith(("503 5.5.1", "554 5.5.1")), (sender, recipient)
            client.say("RSET")
        client.say(f"MAIL FROM:{sender}")
    assert takes_mail(server)


def test_the_textbook_probe_is_told_why(server: RunningServer) -> None:
    with SmtpSocket(server.port) as client:
        client.hear()
        assert client.say("HELO probe.example").startswith("250 ")
        assert client.say("MAIL FROM: test@example.com").startswith("250 ")
        assert client.say("RCPT TO: test2@example.com") == "554 5.7.1 <test2@example.com>: Relay access denied"
    server.wait_for_log("reject: RCPT from unknown[127.0.0.1]: 554 5.7.1 <test2@example.com>: Relay access denied")


# -- other protocols


def test_http_is_no_smtp(server: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = "EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<user@here.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
    connection.request("POST", "/", body, {"Host": "here.example"})
    with pytest.raises(http.client.BadStatusLine):
        connection.getresponse()
    connection.close()
    with SmtpSocket(server.port) as client:
        client.hear()
        client.send(b"CONNECT example.net:25 HTTP/1.1\r\nHost: example.net\r\n\r\n" + body.encode())
        said = []
        while answer := client.hear():
            said.append(answer)
        assert said[-1].startswith(("221 ", "421 ", "502 ", "500 ")), said
        assert not any(answer.startswith("2") and not answer.startswith("221") for answer in said), said


def test_a_tls_client_hello_is_no_smtp(server: RunningServer) -> None:
    context = ssl.create_default_context()
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_hostname="here.example")
    assert time.monotonic() - started < 10
    assert takes_mail(server)


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00" * 4096,
        b"\xff\xfe" * 4096 + b"\r\n",
        b"\r\n" * 500,
        b"\n" * 500,
        b"\r" * 5000 + b"\n",
        b"EHLO <script>\x1b[2J\x07" + "日本語".encode() + b"\r\n",
        b"EHLO a\r\nMAIL FROM:<a\x1b[31m@b.example>\r\n",
        b"EHLO " + b"a" * 1500 + b"\r\n",
        b"MAIL FROM:<a@b.example> SIZE=99999999999999999999999999999999\r\n",
        b"EHLO a\r\nMAIL FROM:<a@b.example> " + b"X=Y " * 400 + b"\r\n",
        b"EHLO a\r\nRCPT TO:<" + b'"' * 600 + b"\r\n",
        b"EHLO a\r\nRCPT TO:<" + b"(" * 900 + b"\r\n",
        b"DATA\r\nBDAT 5 LAST\r\nhello",
    ],
    ids=range(13),
)
def test_noise_gets_refusals_and_leaves_a_clean_log(server: RunningServer, noise: bytes) -> None:
    with SmtpSocket(server.port) as client:
        client.hear()
        client.send(noise + b"\r\nQUIT\r\n")
        answers = []
        while answer := client.hear():
            answers.append(answer)
        assert answers
        assert answers[-1][:3] in ("221", "421", "500", "502", "550", "554"), answers[-3:]
    assert takes_mail(server)


# -- too much


@pytest.mark.parametrize("where", ["command", "header", "folded header", "body"])
def test_ten_megabytes_without_a_line_end(where: str) -> None:
    flood = b"x" * MEGABYTE
    with stranger_server(message_size_limit="30000000") as server, SmtpSocket(server.port) as client:
        client.greet()
        before = memory(server)
        if where != "command":
            client.say("MAIL FROM:<a@b.example>")
            client.say("RCPT TO:<user@here.example>")
            client.say("DATA")
            client.send(
                b"Subject: " if where == "header" else b"Subject: x\r\n\r\n" if where == "body" else b"A: b\r\n"
            )
        for _ in range(10):
            client.send(flood if where != "folded header" else b" x\r\n" * (MEGABYTE // 5))
        answer = client.say("\r\n." if where != "command" else "")
        expected = {"command": "500 5.5.2", "body": "250 2.0.0"}.get(where, "552 5.3.4")
        assert answer.startswith(expected), answer
        assert client.say("NOOP").startswith("250 ")
        assert memory(server, "VmHWM") - before < 12 * MEGABYTE
        assert takes_mail(server)


def test_pipelined_commands_without_end_wait_for_their_replies() -> None:
    """A client that sends and never reads is slowed down by TCP; its replies do not pile up in memory."""
    with stranger_server(smtpd_timeout="3s", smtpd_junk_command_limit="10000000") as server:
        before = memory(server)
        with SmtpSocket(server.port) as client:
            client.greet()
            client.socket.settimeout(0.5)
            noop = b"NOOP\r\n" * 10_000
            sent = 0
            try:
                while sent < 200 * MEGABYTE:
                    sent += client.socket.send(noop)
            except (TimeoutError, ConnectionError):
                pass
            assert sent < 100 * MEGABYTE
            assert takes_mail(server)
            wait_for(lambda: "timeout after" in server.log or "lost connection after" in server.log, "its end")
        assert memory(server, "VmHWM") - before < 24 * MEGABYTE


@honours("smtpd_recipient_limit", "smtpd_recipient_overshoot_limit")
def test_recipients_without_end() -> None:
    with stranger_server(smtpd_recipient_limit="50", smtpd_recipient_overshoot_limit="20") as server:
        with SmtpSocket(server.port) as client:
            client.greet()
            client.say("MAIL FROM:<a@b.example>")
            answers = [client.say(f"RCPT TO:<user{number}@here.example>") for number in range(60)]
            assert [answer[:9] for answer in answers] == ["250 2.1.5"] * 50 + ["452 4.5.3"] * 10
            client.say("DATA")
            assert client.say("Subject: x\r\n\r\n.").startswith("250 2.0.0")
        server.wait_for_log("nrcpt=50")


# -- too slow


@honours("smtpd_timeout", "smtpd_min_data_rate")
def test_dripping_clients_are_ended() -> None:
    with stranger_server(smtpd_timeout="2s", smtpd_min_data_rate="1000") as server:
        with contextlib.ExitStack() as stack:
            clients = {
                name: stack.enter_context(SmtpSocket(server.port)) for name in ("mute", "command", "data", "idle")
            }
            for name, client in clients.items():
                if name != "mute":
                    client.greet()
            data = clients["data"]
            data.say("MAIL FROM:<a@b.example>")
            data.say("RCPT TO:<user@here.example>")
            data.say("DATA")
            clients["mute"].hear()
            started = time.monotonic()
            ended: dict[str, str] = {}
            while len(ended) < len(clients):
                assert time.monotonic() - started < 10, f"only {ended} ended"
                for name in clients.keys() - ended.keys():
                    client = clients[name]
                    if name in ("command", "data"):
                        client.send(b"x")
                    client.socket.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        ended[name] = client.socket.recv(4096).decode()
            assert {answer[:9] for answer in ended.values()} == {"421 4.4.2"}
        assert takes_mail(server)
        for stage in ("CONNECT", "EHLO", "DATA"):
            server.wait_for_log(f"timeout after {stage} from unknown[127.0.0.1]")


# -- too many


def test_no_descriptors_left_is_survived() -> None:
    """EMFILE: who does not fit waits or is turned away; when room returns, service does."""
    limited = (require_program("prlimit"), "--nofile=64:64", sys.executable, "-m", "ekiden.cli.main")
    with stranger_server(program=limited, smtpd_client_connection_count_limit="0") as server:
        worker = server.children()["worker 0"]
        assert takes_mail(server)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(SmtpSocket(server.port, deadline_s=0.1)) for _ in range(80)]
            served = 0
            for client in clients:
                with contextlib.suppress(TimeoutError):
                    served += client.hear().startswith("220 ")
            assert 10 <= served <= 60
            before = processor_time(worker)
            time.sleep(1)
            assert processor_time(worker) - before < 0.5, "it spins"
        wait_for(server.banner, "a banner when the others have gone")
        assert takes_mail(server)
        assert server.children()["worker 0"] == worker


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_two_thousand_idle_sessions() -> None:
    count = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    require_that(hard >= count + 500, f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))
    try:
        with stranger_server(smtpd_client_connection_count_limit="0") as server:
            assert takes_mail(server)
            before = memory(server)
            with contextlib.ExitStack() as stack:
                socks = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
                    for _ in range(count)
                ]
                for sock in socks:
                    assert sock.recv(100).startswith(b"220 ")
                    sock.sendall(b"EHLO idle.example\r\n")
                for sock in socks:
                    assert sock.recv(1000).startswith(b"250-")
                assert memory(server) - before < 40 * MEGABYTE
                assert [worker["sessions"] for worker in server.status()] == [count]
                assert takes_mail(server)
            wait_for(lambda: server.status()[0]["sessions"] == 0, "the end of all sessions")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@honours("smtpd_client_connection_count_limit", "smtpd_client_event_limit_exceptions")
def test_connections_of_one_client_are_limited() -> None:
    with (
        stranger_server(
            smtpd_client_connection_count_limit="3", smtpd_client_event_limit_exceptions="127.0.0.3"
        ) as server,
        contextlib.ExitStack() as stack,
    ):
        wait_for(lambda: server.status()[0]["sessions"] == 0, "the end of the first session")

        def connect(source: str) -> tuple[SmtpSocket, str]:
            client = stack.enter_context(SmtpSocket(server.port, source=source))
            return client, client.hear()

        first = [connect("127.0.0.1") for _ in range(3)]
        assert [banner[:4] for _, banner in first] == ["220 "] * 3
        refused, answer = connect("127.0.0.1")
        assert answer == "421 4.7.0 mail.here.example Error: too many connections from 127.0.0.1"
        assert refused.line() == b""
        assert connect("127.0.0.2")[1].startswith("220 ")
        assert all(connect("127.0.0.3")[1].startswith("220 ") for _ in range(6))
        first[0][0].close()
        wait_for(lambda: connect("127.0.0.1")[1].startswith("220 "), "room for another")


@honours("smtpd_client_message_rate_limit", "anvil_rate_time_unit")
def test_messages_of_one_client_are_limited_for_all_workers_together() -> None:
    with stranger_server(smtpd_client_message_rate_limit="4", anvil_rate_time_unit="52w") as server:
        codes = []
        for _ in range(12):
            with SmtpSocket(server.port) as client:
                client.greet()
                codes.append(client.say("MAIL FROM:<a@b.example>")[:9])
        assert codes == ["250 2.1.0"] * 4 + ["450 4.7.1"] * 8


# -- half-closed and gone


def test_a_client_that_closes_its_side_still_hears_everything(server: RunningServer) -> None:
    with SmtpSocket(server.port) as client:
        client.greet()
        client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<user@here.example>\r\nDATA\r\n")
        answers = [client.hear() for _ in range(3)]
        client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        answers.append(client.hear())
        assert [answer[:9] for answer in answers] == ["250 2.1.0", "250 2.1.5", "354 End d", "250 2.0.0"]
        assert client.line() == b""


def test_what_is_cut_off_is_not_queued(server: RunningServer) -> None:
    for end in ("half-close", "close", "reset"):
        with SmtpSocket(server.port) as client:
            client.greet()
            client.say("MAIL FROM:<a@b.example>")
            client.say(f"RCPT TO:<cut-{end}@here.example>")
            client.say("DATA")
            client.send(b"Subject: x\r\n\r\nx\r\n.\r" + b"\n" * 0)
            if end == "half-close":
                client.socket.shutdown(socket.SHUT_WR)
                assert client.line() == b""
            elif end == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: server.log.count("lost connection after DATA") >= 3, "three lost connections")
    assert "to=<cut-" not in server.log
    assert server.command("mailq").stdout == "Mail queue is empty\n"


def test_clients_that_are_gone_before_the_banner() -> None:
    with stranger_server() as server:
        for _ in range(200):
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        assert takes_mail(server)
        wait_for(lambda: server.status()[0]["sessions"] == 0, "the end of all sessions")


def test_a_service_of_its_own_limits_binds_only_its_clients() -> None:
    port = free_port()
    line = f"127.0.0.1:{port} inet n - n - - smtpd -o message_size_limit=2000 -o smtpd_banner=small"
    with stranger_server(line) as server:
        assert server.banner(port) == "220 small"
        assert (server.banner() or "").startswith("220 mail.here.example")
        for number, expected in ((port, "552 5.3.4"), (server.port, "250 2.0.0")):
            with SmtpSocket(number) as client:
                client.greet()
                assert (
                    client.mail("a@b.example", "user@here.example", content=b"x" * 70 + b"\r\n" + b"y\r\n" * 1000)[:9]
                    == expected
                )
