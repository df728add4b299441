"""Our LMTP server (RFC 2033) with clients that others wrote: swaks, Postfix, Exim, Dovecot, on both kinds of socket."""

from __future__ import annotations

import re
import smtplib
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.dovecot import running_dovecot
from support.peers import running_exim, running_postfix
from support.requirements import require_program
from support.running import RunningServer, free_port, open_directory, running_server, wait_for

SETTINGS = {
    "mynetworks": "192.0.2.0/24",
    "relay_domains": "here.test",
    "relay_recipient_maps": "inline:{u@here.test=ok, v@here.test=ok}",
    "relay_transport": "discard:",
    "smtpd_peername_lookup": "no",
}
CONTENT = "Subject: by LMTP\r\n\r\n.dot\r\nlast"


class LmtpServer:
    def __init__(self, server: RunningServer, port: int) -> None:
        self.server, self.port = server, port
        self.public = server.queue / "public" / "lmtp"
        self.private = server.queue / "private" / "lmtp"


@pytest.fixture(scope="module")
def lmtp() -> Iterator[LmtpServer]:
    port = free_port()
    lines = [
        f"127.0.0.1:{port} inet n - n - - lmtpd",
        "public-lmtp unix n - n - - lmtpd",
        "private-lmtp unix - - n - - lmtpd",
    ]
    with running_server(main_cf=SETTINGS, master_cf=lines) as server:
        found = LmtpServer(server, port)
        found.public, found.private = server.queue / "public/public-lmtp", server.queue / "private/private-lmtp"
        yield found
        assert "Traceback" not in server.output + server.log


def swaks(*arguments: str) -> subprocess.CompletedProcess[str]:
    require_program("swaks")
    command = ["swaks", "--protocol", "LMTP", "--from", "a@b.example", "--helo", "client.example", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("way", ["inet", "socket"])
def test_swaks_hears_a_reply_for_each_recipient(lmtp: LmtpServer, way: str) -> None:
    where = ["--server", "127.0.0.1", "--port", str(lmtp.port)] if way == "inet" else ["--socket", str(lmtp.public)]
    done = swaks(*where, "--to", "u@here.test,nobody@here.test,v@here.test")
    heard = [line[4:] for line in done.stdout.splitlines() if line.startswith(("<-  ", "<** "))]
    assert any(line.startswith("550 5.1.1 <nobody@here.test>") for line in heard), done.stdout
    queued = [line for line in heard if "queued as" in line]
    assert queued, done.stdout
    ids = set(re.findall(r"queued as (\w+)", "\n".join(queued)))
    assert len(ids) == 1
    queue_id = ids.pop()
    for recipient in ("u@here.test", "v@here.test"):
        lmtp.server.wait_for_log(f"{queue_id}: to=<{recipient}>")
    assert re.search(rf"/lmtpd\[\d+\]: {queue_id}: client=", lmtp.server.log)


def test_the_file_system_decides_who_may_connect(lmtp: LmtpServer) -> None:
    assert stat.S_IMODE(lmtp.private.parent.stat().st_mode) == 0o700
    for path in (lmtp.public, lmtp.private):
        assert stat.S_ISSOCK(path.stat().st_mode)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(path))
            assert sock.recv(4) == b"220 "
            sock.sendall(b"LHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@elsewhere.test>\r\n")
            heard = b""
            while b"\r\n554 " not in heard:  # RFC 2033 changes nothing about who may relay
                heard += sock.recv(4096)
    assert (
        "connect from localhost[127.0.0.1]" in lmtp.server.log or "connect from unknown[127.0.0.1]" in lmtp.server.log
    )


def test_every_worker_serves_the_socket_and_a_reload_keeps_it(lmtp: LmtpServer) -> None:
    lmtp.server.reload()

    def pids() -> set[str]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(lmtp.public))
            assert sock.recv(4) == b"220 "
        return set(re.findall(r"lmtpd\[(\d+)\]: connect", lmtp.server.log))

    wait_for(lambda: len(pids()) == 2, "both workers to have had a connection")


def test_a_socket_that_a_killed_server_left_is_taken_over() -> None:
    with running_server(main_cf=SETTINGS, master_cf=["lm unix n - n - - lmtpd"]) as server:
        path = server.queue / "public" / "lm"
        server.kill()
        assert path.exists()
        server.start()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(path))
            assert sock.recv(4) == b"220 "


def test_a_reload_opens_and_closes_sockets() -> None:
    with running_server(main_cf=SETTINGS) as server:
        path = server.queue / "public" / "later"

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                try:
                    sock.connect(str(path))
                    return sock.recv(4) == b"220 "
                except OSError:
                    return False

        assert not answers()
        server.services.append("later unix n - n - - lmtpd")
        server.reload()
        wait_for(answers, "a server at the socket")
        server.services.pop()
        server.reload()
        wait_for(lambda: not answers(), "nobody at the socket")


def _send(port: int, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example", timeout=60) as client:
        client.sendmail("a@b.example", list(recipients), CONTENT)


@pytest.mark.parametrize("way", ["inet", "socket"])
def test_postfix_delivers_by_lmtp(lmtp: LmtpServer, way: str) -> None:
    to = f"lmtp:inet:127.0.0.1:{lmtp.port}" if way == "inet" else f"lmtp:unix:{lmtp.public}"
    hop, client = f"127.0.0.1:{lmtp.port}", "lmtp unix - - n - - lmtp"
    with running_postfix({"default_transport": to}, next_hop=hop, master_cf=[client]) as postfix:
        _send(postfix.port, "u@here.test", "v@here.test", "nobody@here.test")
        wait_for(
            lambda: len(re.findall(r"status=(?:sent|bounced)", postfix.log)) >= 3, f"three results:\n{postfix.log}"
        )
        for recipient in ("u", "v"):
            assert re.search(rf"to=<{recipient}@here.test>.* status=sent \(250 2.0.0 Ok: queued as \w+\)", postfix.log)
        assert re.search(r"to=<nobody@here.test>.* status=bounced \(host .* said: 550 5.1.1 ", postfix.log)


def test_exim_delivers_by_lmtp(lmtp: LmtpServer) -> None:
    with running_exim(next_hop=f"127.0.0.1:{lmtp.port}", transport=["protocol = lmtp"]) as exim:
        _send(exim.port, "u@here.test", "v@here.test", "nobody@here.test")
        wait_for(lambda: "** nobody@here.test" in exim.log, "a result for each")
        for recipient in ("u", "v"):
            assert re.search(rf"[=-]> {recipient}@here.test .*C=\"250 2.0.0 Ok: queued as \w+\"", exim.log), exim.log
        assert re.search(r"\*\* nobody@here.test .* 550 5.1.1 ", exim.log), exim.log


def test_dovecot_passes_mail_on_by_lmtp(lmtp: LmtpServer) -> None:
    with open_directory() as directory, running_dovecot(directory, next_port=lmtp.port) as dovecot:
        to = "u@here.test,nobody@here.test,v@here.test"
        said = swaks("--server", "127.0.0.1", "--port", str(dovecot.port), "--to", to).stdout
        assert "<nobody@here.test>: Recipient address rejected: User unknown" in said, said
        for recipient in ("u", "v"):
            assert re.search(rf"250 2.0.0 <{recipient}@here.test> \S+ Saved", said), said
    found = re.findall(r"lmtpd\[\d+\]: disconnect from \S+ .*rcpt=2/3 bdat=1", lmtp.server.log)  # it chunks
    assert found, lmtp.server.log


def test_lmtp_and_smtp_do_not_take_each_other_for_their_own(lmtp: LmtpServer) -> None:
    done = subprocess.run(
        ["swaks", "--server", "127.0.0.1", "--port", str(lmtp.port), "--to", "u@here.test", "--quit-after", "EHLO"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "500 5.5.2 Error: command not recognized" in done.stdout
    assert Path(lmtp.public).exists()
