"""The whole server under its own commands: start to stop, and the queue through the control sockets."""

from __future__ import annotations

import json
import os
import smtplib
import socket
import time
from collections.abc import Iterator

import pytest

from support.running import RunningServer, free_port, open_directory, wait_for


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """Not started. Its next hop does not answer, so that what comes in stays."""
    with open_directory() as directory:
        made = RunningServer(directory, main_cf={"relayhost": f"[127.0.0.1]:{free_port()}"})
        try:
            yield made
        finally:
            made.command("stop")
            made.close()


def send(server: RunningServer, recipient: str, subject: str = "x") -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=10) as client:
        client.sendmail("s@a.example", [recipient], f"Subject: {subject}\r\n\r\nhello\r\n")


def listed(server: RunningServer, *arguments: str) -> list[dict[str, object]]:
    found = server.command("queue", "list", "--json", *arguments)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_the_queue_is_seen_and_changed_in_a_running_server(server: RunningServer) -> None:
    server.start()
    for number in range(6):
        send(server, f"r{number}@{'b' if number % 2 else 'c'}.example", f"number {number}")
    wait_for(lambda: len(listed(server, "--state", "deferred")) == 6, "six deferred messages")
    assert [m["queue_id"] for m in listed(server)] == sorted(str(m["queue_id"]) for m in listed(server))

    shown = server.command("mailq").stdout
    assert shown.startswith("----Queue ID-----")
    assert shown.endswith(" in 6 Requests.\n")
    assert "Connection refused" in shown

    first = str(listed(server)[0]["queue_id"])
    assert "Subject: number 0" in server.command("queue", "show", first).stdout

    held = server.command("queue", "hold", "--domain", "b.example")
    assert held.stdout == "3 messages put on hold\n", held.stderr
    assert len(listed(server, "--state", "hold")) == 3
    assert f"{listed(server, '--state', 'hold')[0]['queue_id']}!" in server.command("mailq").stdout
    assert server.command("queue", "release", "ALL").stdout == "3 messages released\n"
    assert server.command("flush").stdout.endswith("messages are tried again now\n")

    wrong = server.command("queue", "delete", first, "nosuchid")
    assert (wrong.returncode, wrong.stdout) == (os.EX_DATAERR, "1 message deleted\n")
    assert "nosuchid" in wrong.stderr
    assert server.command("queue", "delete", "ALL", "--json").stdout == (
        '{"change": "delete", "count": 5, "not_changed": []}\n'
    )
    assert server.command("mailq").stdout == "Mail queue is empty\n"


def test_the_queue_is_read_from_disk_when_no_server_runs(server: RunningServer) -> None:
    server.start()
    send(server, "r@b.example")
    wait_for(lambda: listed(server, "--state", "deferred"), "a deferred message")
    assert server.stop() == 0
    found = server.command("mailq")
    assert "r@b.example" in found.stdout
    assert found.stderr == "mailq: warning: Mail system is down -- accessing queue directly\n"
    (message,) = listed(server)
    assert server.command("queue", "show", str(message["queue_id"])).returncode == 0
    assert server.command("queue", "delete", "ALL").stdout == "1 message deleted\n"


def test_start_returns_when_it_serves_and_stop_when_it_has_stopped(server: RunningServer) -> None:
    started = server.command("start")
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    assert (server.banner() or "").startswith("220 mx.test")
    again = server.command("start")
    assert again.returncode == os.EX_UNAVAILABLE
    assert "already running" in again.stderr
    state = json.loads(server.command("status", "--json").stdout)
    assert [worker["worker"] for worker in state["workers"]] == [0, 1]
    assert "runs as process" in server.command("status").stdout
    stopped = server.command("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert server.banner() is None
    assert server.command("stop").returncode == os.EX_UNAVAILABLE


def test_a_start_that_fails_says_why(server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        failed = server.command("start")
    assert failed.returncode == os.EX_UNAVAILABLE
    assert f"ekiden: cannot listen on 127.0.0.1:{server.port}: Address already in use" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_reload_serves_the_new_configuration_and_a_broken_one_is_refused(server: RunningServer) -> None:
    server.start()
    server.main_cf["smtpd_banner"] = "mx.test changed"
    server.write_configuration()
    assert server.command("reload").returncode == 0
    wait_for(lambda: server.banner() == "220 mx.test changed", "the new banner")
    server.main_cf["smtpd_timeout"] = "never"
    server.write_configuration()
    refused = server.command("reload")
    assert refused.returncode == os.EX_CONFIG
    assert "smtpd_timeout = never" in refused.stderr
    assert server.banner() == "220 mx.test changed"


def test_a_stop_takes_no_longer_than_it_must_and_a_session_is_told(server: RunningServer) -> None:
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as idle:
        file = idle.makefile("rb")
        assert file.readline().startswith(b"220 ")
        before = time.monotonic()
        assert server.command("stop").returncode == 0
        assert time.monotonic() - before < 10
        assert file.readline()[:3] in (b"421", b"")
