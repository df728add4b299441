"""The disk of the queue fills up: mail is refused softly, nothing acknowledged is lost, service returns with space."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from support.requirements import require_program, require_root, require_that
from support.running import RunningServer, free_port, running_server, wait_for
from support.smtp_sink import SmtpSink, smtp_sink
from support.smtp_socket import SmtpSocket

MEGABYTE = 1 << 20


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free(self) -> int:
        facts = os.statvfs(self.path)
        return facts.f_bavail * facts.f_frsize

    def leave_free(self, size: int) -> None:
        with self._ballast.open("ab") as file:
            file.write(b"\0" * max(0, self.free - size))

    def fill(self) -> None:
        """To the last byte."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"\0" * 4096):
                pass

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    require_root()
    path.mkdir(mode=0o755, exist_ok=True)
    mounted = subprocess.run(
        [require_program("mount"), "-t", "tmpfs", "-o", f"size={size},mode=755", "none", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    require_that(mounted.returncode == 0, f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run([require_program("umount"), "--lazy", str(path)], check=True)


@contextlib.contextmanager
def server_on_small_disk(size: int, **settings: str) -> Iterator[tuple[RunningServer, SmallDisk]]:
    """Its next hop is not there yet."""
    main_cf = {
        "relayhost": f"[127.0.0.1]:{free_port()}",
        "minimal_backoff_time": "300s",
        "smtpd_hard_error_limit": "10000",
        "smtpd_error_sleep_time": "0s",
        "worker_processes": "1",
        **settings,
    }
    with running_server(main_cf=main_cf, start=False) as server, small_disk(server.queue, size) as disk:
        try:
            yield server, disk
            assert server.stop() == 0
        finally:
            server.close()
        assert "Traceback" not in server.output + server.log


@contextlib.contextmanager
def next_hop(server: RunningServer) -> Iterator[SmtpSink]:
    """From now on there is one, and mail goes."""
    with smtp_sink() as sink:
        server.main_cf["relayhost"] = sink.relayhost
        server.reload()
        yield sink


def send_until_refused(server: RunningServer, size: int, limit: int = 2000) -> tuple[set[str], str]:
    """The recipients whose message was acknowledged, and the refusal."""
    acknowledged: set[str] = set()
    with SmtpSocket(server.port) as client:
        client.greet()
        for number in range(limit):
            recipient = f"user{number}@two.example"
            answer = client.mail("a@b.example", recipient, content=b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * size)
            if not answer.startswith("250 "):
                return acknowledged, answer
            acknowledged.add(recipient)
    raise AssertionError("it never got full")


def arrived(server: RunningServer, sink: SmtpSink, count: int) -> set[str]:
    """The recipients of everything at the next hop, when ``count`` messages are there."""

    def all_there() -> bool:
        # Again and again: what became of a message at the old next hop may be written down after a flush.
        assert server.command("flush").returncode == 0
        return sink.count >= count

    wait_for(all_there, f"{count} messages at the next hop:\n{server.log}")
    return {message.facts["X-Rcpt-Args"][0].strip("<>") for message in sink.messages(count)}


def accepts(server: RunningServer, recipient: str = "after@two.example") -> bool:
    with SmtpSocket(server.port) as client:
        client.greet()
        return client.mail("a@b.example", recipient).startswith("250 ")


def contents(server: RunningServer) -> list[Path]:
    return [path for path in (server.queue / "shards").rglob("content/*") if path.is_file()]


def test_a_disk_that_is_full_to_the_last_byte() -> None:
    """message_size_limit = 0 asks for no space in advance: the commit itself fails."""
    with server_on_small_disk(8 * MEGABYTE, message_size_limit="0") as (server, disk):
        server.start()
        disk.leave_free(2 * MEGABYTE)
        acknowledged, refusal = send_until_refused(server, 10_000)
        assert refusal == "452 4.3.1 Insufficient system storage"
        assert len(acknowledged) > 10
        disk.fill()
        listed = server.command("mailq").stdout
        assert all(recipient in listed for recipient in acknowledged)
        disk.make_room()
        wait_for(lambda: accepts(server), "mail to be accepted again")
        with next_hop(server) as sink:
            assert arrived(server, sink, len(acknowledged) + 1) == acknowledged | {"after@two.example"}


def test_mail_is_refused_before_the_disk_is_full() -> None:
    with server_on_small_disk(8 * MEGABYTE, message_size_limit="1000000") as (server, disk):
        server.start()
        disk.leave_free(1_400_000)  # less than one and a half messages
        with SmtpSocket(server.port) as client:
            client.greet()
            assert client.say("MAIL FROM:<a@b.example>") == "452 4.3.1 Insufficient system storage"
            assert client.say("NOOP").startswith("250 ")
        server.wait_for_log("reject: MAIL from localhost[127.0.0.1]: 452 4.3.1 Insufficient system storage")
        disk.make_room()
        wait_for(lambda: accepts(server), "mail to be accepted again")


def test_large_messages_that_do_not_fit_leave_nothing_behind() -> None:
    with server_on_small_disk(12 * MEGABYTE, message_size_limit="6000000") as (server, disk):
        server.start()
        names = [f"user{number}@two.example" for number in range(4)]
        content = b"Subject: large\r\n\r\n" + (b"y" * 98 + b"\r\n") * 50_000
        answers: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            clients = {name: stack.enter_context(SmtpSocket(server.port)) for name in names}
            for name, client in clients.items():
                client.greet()
                assert client.say("MAIL FROM:<a@b.example>").startswith("250 ")
                assert client.say(f"RCPT TO:<{name}>").startswith("250 ")

            def send(name: str) -> None:
                clients[name].say("DATA")
                answers[name] = clients[name].say(content + b".")

            threads = [threading.Thread(target=send, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert all(answers[name].startswith(("250 2.0.0", "452 4.3.1")) for name in names), answers
            taken = {name for name in names if answers[name].startswith("250 ")}
            assert len(taken) < len(names)
            wait_for(lambda: len(contents(server)) == len(taken), "the end of what was refused")
            # Who was refused may try again on the same connection, once there is room.
            again = next(name for name in names if name not in taken)
            with next_hop(server) as sink:
                assert arrived(server, sink, len(taken)) == taken
                wait_for(lambda: not contents(server), "the end of what was delivered")
                wait_for(lambda: disk.free > 9_000_000, "space")
                wait_for(lambda: clients[again].say("MAIL FROM:<a@b.example>").startswith("250 "), "room")
                assert clients[again].say(f"RCPT TO:<{again}>").startswith("250 ")
                send(again)
                assert answers[again].startswith("250 ")
                assert arrived(server, sink, len(taken) + 1) == taken | {again}
                wait_for(lambda: not contents(server), "the end of what was delivered")


def test_deliveries_go_on_while_the_disk_is_full() -> None:
    """What leaves the queue makes room; what became of it is kept until the disk takes it."""
    with server_on_small_disk(8 * MEGABYTE, message_size_limit="100000") as (server, disk):
        server.start()
        disk.leave_free(2 * MEGABYTE)
        acknowledged, _ = send_until_refused(server, 10_000)
        with next_hop(server) as sink:
            assert arrived(server, sink, len(acknowledged)) == acknowledged
            wait_for(lambda: server.log.count(": removed") == len(acknowledged), "an empty queue")
        assert server.command("mailq").stdout == "Mail queue is empty\n"
        disk.make_room()
        wait_for(lambda: accepts(server), "mail to be accepted again")


def test_sendmail_says_that_the_disk_is_full() -> None:
    with server_on_small_disk(4 * MEGABYTE) as (server, disk):
        server.start()
        disk.fill()
        done = subprocess.run(
            [sys.executable, "-m", "ekiden.cli.sendmail", "-i", "bob@two.example"],
            input=b"Subject: x\n\n" + b"x\n" * 100_000,
            capture_output=True,
            env={**server.environment, "EKIDEN_CONFIG": str(server.etc)},
            timeout=60,
            check=False,
        )
        assert done.returncode == os.EX_TEMPFAIL
        assert b"No space left" in done.stderr
        assert list((server.queue / "maildrop").iterdir()) == []
        disk.make_room()


def test_a_kill_on_a_full_disk_loses_nothing() -> None:
    with server_on_small_disk(8 * MEGABYTE, message_size_limit="0") as (server, disk):
        server.start()
        disk.leave_free(2 * MEGABYTE)
        acknowledged, _ = send_until_refused(server, 10_000)
        disk.fill()
        server.kill()
        disk.make_room()
        server.start()
        with next_hop(server) as sink:
            assert arrived(server, sink, len(acknowledged)) == acknowledged


def test_a_start_on_a_full_disk_says_what_is_wrong() -> None:
    with server_on_small_disk(24 * MEGABYTE) as (server, disk):
        disk.fill()
        code = server.spawn().wait(20)
        assert code in (os.EX_CANTCREAT, os.EX_UNAVAILABLE)
        assert "No space left" in server.output or "full" in server.output, server.output
        disk.make_room()
        server.start()
        assert accepts(server)
