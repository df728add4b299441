"""The server in the hands of its administrator: status, the queue, reload, stop, kills, shards, aliases."""

from __future__ import annotations

import contextlib
import email
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_peer import Act
from support.honours import honours
from support.peer_thread import peer_in_thread
from support.requirements import require_root
from support.running import RunningServer, free_port, open_directory, running_server, wait_for
from support.smtp_sink import SmtpSink, smtp_sink
from support.smtp_socket import SmtpSocket

HERE = "mail.one.example"


@contextlib.contextmanager
def server_with(*, start: bool = True, **settings: str) -> Iterator[RunningServer]:
    """``relayhost`` is a port where nobody listens, unless the settings say else."""
    defaults = {"myhostname": HERE, "relayhost": f"[127.0.0.1]:{free_port()}", "minimal_backoff_time": "300s"}
    with running_server(main_cf={**defaults, **settings}, start=start) as server:
        yield server
        assert "Traceback" not in server.output + server.log


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with server_with() as running:
        yield running


def send(server: RunningServer, *recipients: str, sender: str = "ann@one.example", port: int = 0) -> str:
    with SmtpSocket(port or server.port) as client:
        client.greet()
        answer = client.mail(sender, *(recipients or ("bob@two.example",)))
        assert answer.startswith("250 2.0.0 Ok: queued as "), answer
        return answer.rsplit(" ", 1)[1]


def queued(server: RunningServer, *filters: str) -> dict[str, dict[str, Any]]:
    done = server.command("queue", "list", "--json", *filters)
    assert done.returncode == 0, done.stderr
    return {message["queue_id"]: message for message in map(json.loads, done.stdout.splitlines())}


def states(server: RunningServer) -> dict[str, str]:
    return {queue_id: message["queue_name"] for queue_id, message in queued(server).items()}


def all_deferred(server: RunningServer, count: int) -> None:
    wait_for(lambda: list(states(server).values()) == ["deferred"] * count, f"{count} deferred messages")


def deliver_all(server: RunningServer, sink: SmtpSink) -> None:
    server.main_cf["relayhost"] = sink.relayhost
    server.reload()
    assert server.command("queue", "flush").returncode == 0


# -- looking at the queue and changing it


def test_the_queue_can_be_looked_at_and_changed(server: RunningServer) -> None:
    first = send(server, "bob@two.example", "carl@three.example")
    second = send(server, "dora@four.example", sender="")
    third = send(server, "emil@two.example", sender="zoe@five.example")
    all_deferred(server, 3)

    assert list(queued(server, "--sender", "<>")) == [second]
    assert list(queued(server, "--recipient", "EMIL@two.example")) == [third]
    assert sorted(queued(server, "--domain", "two.example")) == sorted([first, third])
    assert queued(server, "--state", "hold") == {}
    shown = json.loads(server.command("queue", "show", "--json", first).stdout)
    assert shown["sender"] == "ann@one.example"
    assert shown["content"].startswith("Received: from client.example")
    assert shown["content"].replace("\r\n", "\n").endswith("\n\nhello\n")
    assert [recipient["address"] for recipient in shown["recipients"]] == ["bob@two.example", "carl@three.example"]

    assert server.command("queue", "hold", first).stdout == "1 message put on hold\n"
    assert states(server)[first] == "hold"
    assert json.loads(server.command("queue", "delete", "--json", "--sender", "zoe@five.example").stdout) == {
        "change": "delete", "count": 1, "not_changed": [],
    }  # fmt: skip
    assert sorted(states(server)) == sorted([first, second])
    again = server.command("queue", "delete", third)
    assert again.returncode == os.EX_DATAERR
    assert third in again.stderr

    with smtp_sink() as sink:
        deliver_all(server, sink)
        (delivered,) = sink.messages(1)
        assert delivered.facts["X-Rcpt-Args"] == ["<dora@four.example>"]
        wait_for(lambda: states(server) == {first: "hold"}, "the held message alone")
        assert server.command("queue", "release", first).stdout == "1 message released\n"
        sink.messages(2)
        wait_for(lambda: states(server) == {}, "an empty queue")


def test_requeue_tries_again_at_once(server: RunningServer) -> None:
    queue_id = send(server)
    all_deferred(server, 1)
    attempts = queued(server)[queue_id]["attempts"]
    assert server.command("queue", "requeue", "ALL").stdout == "1 message requeued\n"
    wait_for(lambda: server.log.count(f"{queue_id}: to=<bob@two.example>") == 2, "a second attempt")
    wait_for(lambda: queued(server)[queue_id]["attempts"] > attempts, "the attempt to be counted")


def test_mailq_has_the_columns_that_programs_know(server: RunningServer) -> None:
    for recipients in (("bob@two.example", "carl@three.example"), ("dora@four.example",)):
        send(server, *recipients)
    all_deferred(server, 2)
    held = next(iter(queued(server, "--domain", "four.example")))
    assert server.command("queue", "hold", held).returncode == 0
    lines = server.command("mailq").stdout.splitlines()
    assert lines[0] == "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------"
    entry = re.compile(r"([0-9A-Za-z]+)([*!]?) +(\d+) \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d +(\S+)")
    found = [match for line in lines if (match := entry.fullmatch(line))]
    assert [match[4] for match in found] == ["ann@one.example"] * 2
    assert {match[1]: match[2] for match in found}[held] == "!"
    assert re.fullmatch(r"-- \d+ Kbytes in 2 Requests\.", lines[-1])
    assert " " * 47 + "carl@three.example" in lines
    assert any(
        re.fullmatch(r" *\(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: Connection refused\)", line) for line in lines
    )


def test_mailq_reads_the_queue_of_a_server_that_does_not_run(server: RunningServer) -> None:
    queue_id = send(server)
    all_deferred(server, 1)
    assert server.stop() == 0
    done = server.command("mailq", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["queue_id"] == queue_id
    for command in (("status",), ("queue", "flush"), ("stop",), ("reload",)):
        refused = server.command(*command)
        assert refused.returncode == os.EX_UNAVAILABLE, command
        assert "does not run" in refused.stderr
    assert server.command("queue", "hold", queue_id).stdout == "1 message put on hold\n"
    assert json.loads(server.command("mailq", "--json").stdout)["queue_name"] == "hold"


def test_status_tells_of_every_worker(server: RunningServer) -> None:
    with SmtpSocket(server.port) as client:
        client.greet()
        workers = server.status()
        assert [worker["worker"] for worker in workers] == [0, 1]
        assert sum(worker["sessions"] for worker in workers) == 1
        assert {worker["pid"] for worker in workers} == {
            pid for name, pid in server.children().items() if name.startswith("worker")
        }
    text = server.command("status").stdout
    assert re.search(r"^worker 1: process \d+, up .*, 0 messages active; queue: empty$", text, re.MULTILINE)


# -- reload and stop


@honours("smtpd_banner", "message_size_limit")
def test_a_session_keeps_the_configuration_that_it_began_with(server: RunningServer) -> None:
    with SmtpSocket(server.port) as old:
        old.greet()
        server.main_cf |= {"message_size_limit": "5000", "smtpd_banner": "$myhostname ESMTP new"}
        server.reload()
        assert (
            old.mail("a@b.example", "bob@two.example", content=b"x: y\r\n\r\n" + b"x" * 70 * 100 + b"\r\n")[:3] == "250"
        )
        with SmtpSocket(server.port) as new:
            assert new.hear() == f"220 {HERE} ESMTP new"
            assert "250-SIZE 5000" in new.say("EHLO client.example")
        assert old.say("QUIT").startswith("221 ")


def test_a_broken_configuration_is_refused_and_the_old_one_stays(server: RunningServer) -> None:
    server.main_cf["message_size_limit"] = "a lot"
    server.write_configuration()
    refused = server.command("reload")
    assert refused.returncode == os.EX_CONFIG
    assert re.search(r"main\.cf:\d+: error: message_size_limit = a lot", refused.stderr)
    send(server)


def test_stop_lets_a_message_finish(server: RunningServer) -> None:
    with SmtpSocket(server.port) as busy, SmtpSocket(server.port) as idle:
        idle.greet()
        busy.greet()
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<bob@two.example>", "DATA"):
            busy.say(command)
        busy.send(b"Subject: x\r\n\r\nhalf")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert idle.hear().startswith("421 4.3.2 ")
        assert busy.say(" a line\r\n.").startswith("250 2.0.0 ")
        assert busy.hear().startswith("421 4.3.2 ")
        assert busy.line() == b""
    assert server.process.wait(20) == 0
    assert len(server.command("mailq", "--json").stdout.splitlines()) == 1


def test_stop_waits_for_a_delivery_but_not_for_ever() -> None:
    with (
        peer_in_thread({"DOT": Act.STALL}) as peer,
        server_with(relayhost=f"[127.0.0.1]:{peer.port}", stop_timeout="1s") as server,
    ):
        queue_id = send(server)
        wait_for(lambda: peer.contents, "the content at the next hop")
        done = server.command("stop")
        assert done.returncode == 0, done.stderr
        assert server.process is not None
        assert server.process.wait(5) == 0
        assert json.loads(server.command("mailq", "--json").stdout)["queue_id"] == queue_id


def test_start_and_stop_by_command() -> None:
    with server_with(start=False) as server:
        try:
            assert server.command("start").returncode == 0
            again = server.command("start")
            assert again.returncode == os.EX_UNAVAILABLE
            assert "already running" in again.stderr
            serving = server.command("serve")
            assert serving.returncode == os.EX_TEMPFAIL
            send(server)
        finally:
            assert server.command("stop").returncode == 0
        assert server.banner() is None


# -- processes that die, and workers that are no more


def test_the_queue_of_a_killed_worker_is_delivered_by_the_next() -> None:
    with (
        smtp_sink() as sink,
        peer_in_thread({"GREETING": Act.STALL}) as stalling,
        server_with(relayhost=f"[127.0.0.1]:{stalling.port}", worker_processes="1") as server,
    ):
        queue_id = send(server)
        wait_for(lambda: states(server) == {queue_id: "active"}, "the message to be active")
        server.main_cf["relayhost"] = sink.relayhost
        server.reload()
        before = server.children()["worker 0"]
        os.kill(before, signal.SIGKILL)
        (message,) = sink.messages(1)
        assert message.facts["X-Rcpt-Args"] == ["<bob@two.example>"]
        assert server.children()["worker 0"] != before
        wait_for(lambda: states(server) == {}, "an empty queue")
        server.wait_for_log("worker-0 died: killed by SIGKILL; it is started again")


def test_fewer_workers_take_over_the_shards_of_the_others() -> None:
    with server_with(worker_processes="3") as server:
        found: dict[str, str] = {}

        def in_every_shard() -> bool:
            for _ in range(10):
                queue_id = send(server, f"user{len(found)}@two.example")
                found.setdefault(queue_id.rpartition("z")[2], queue_id)
            return len(found) == 3

        wait_for(in_every_shard, "mail in every shard")
        count = len(queued(server))
        all_deferred(server, count)
        assert {message["shard"] for message in queued(server).values()} == set(found) == {"0", "1", "2"}
        held = found["2"]
        assert server.command("queue", "hold", held).returncode == 0
        assert server.stop() == 0
        server.main_cf["worker_processes"] = "1"
        server.write_configuration()
        server.log_file.unlink()
        server.start()
        server.wait_for_log("messages of workers that are no more were taken over")
        after = queued(server)
        assert len(after) == count
        assert {message["shard"] for message in after.values()} == {"0"}
        assert after[held]["queue_name"] == "hold"
        with smtp_sink() as sink:
            deliver_all(server, sink)
            sink.messages(count - 1)
            wait_for(lambda: states(server) == {held: "hold"}, "the held message alone")


def test_two_servers_on_one_queue() -> None:
    with server_with() as server, open_directory() as directory:
        other = RunningServer(directory, main_cf={**server.main_cf, "queue_directory": str(server.queue)})
        assert other.spawn().wait(20) == os.EX_TEMPFAIL
        assert "the server is already running" in other.output
        assert "Traceback" not in other.output
        send(server)


# -- aliases and users


@contextlib.contextmanager
def mailbox_server(**settings: str) -> Iterator[RunningServer]:
    """one.example is virtual: a Maildir for each name below mailboxes/; the aliases file is etc/aliases."""
    uid, gid = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    with server_with(start=False) as server:
        mailboxes = server.directory / "mailboxes"
        mailboxes.mkdir()
        os.chown(mailboxes, uid, gid)
        server.main_cf |= {
            "worker_processes": "1",
            "mydestination": HERE,
            "alias_maps": f"hash:{server.etc}/aliases",
            "virtual_mailbox_domains": "one.example",
            "virtual_mailbox_maps": "inline:{ {ann@one.example=ann/} {bob@one.example=bob/} }",
            "virtual_mailbox_base": str(mailboxes),
            "virtual_uid_maps": f"static:{uid}",
            "virtual_gid_maps": f"static:{gid}",
            "virtual_minimum_uid": "1",
            **settings,
        }
        server.write_configuration()
        yield server


def mailbox(server: RunningServer, name: str) -> list[bytes]:
    new = server.directory / "mailboxes" / name / "new"
    return [path.read_bytes() for path in sorted(new.iterdir())] if new.exists() else []


@honours("alias_maps", "virtual_alias_maps", "virtual_mailbox_domains")
def test_aliases_forward_and_expand() -> None:
    virtual = "inline:{ {team@one.example=ann@one.example, bob@one.example} {old@one.example=ann@one.example} }"
    with mailbox_server(virtual_alias_maps=virtual) as server:
        (server.etc / "aliases").write_text("postmaster: ann@one.example\nBoth: ann@one.example,\n  bob@one.example\n")
        server.start()
        send(server, f"postmaster@{HERE}", sender="x@two.example")
        wait_for(lambda: len(mailbox(server, "ann")) == 1, "the forwarded message")
        forwarded = mailbox(server, "ann")[0]
        assert f"Delivered-To: postmaster@{HERE}\n".encode() in forwarded.replace(b"\r\n", b"\n")
        assert b"Delivered-To: ann@one.example" in forwarded
        told = re.compile(rf"to=<postmaster@{HERE}>, relay=local, .*status=sent \(forwarded as \w+\)")
        wait_for(lambda: told.search(server.log), "its line in the log")
        send(server, f"both@{HERE}", sender="x@two.example")
        wait_for(lambda: (len(mailbox(server, "ann")), len(mailbox(server, "bob"))) == (2, 1), "both")
        send(server, "team@one.example", "old@one.example", sender="x@two.example")
        wait_for(
            lambda: (len(mailbox(server, "ann")), len(mailbox(server, "bob"))) == (4, 2),
            "the team, and ann for old@ too",
        )
        wait_for(lambda: states(server) == {}, "an empty queue")
        wait_for(lambda: server.log.count("orig_to=<team@one.example>") == 2, "the lines of the team in the log")


def test_unknown_users_are_refused_or_returned() -> None:
    with mailbox_server() as server:
        (server.etc / "aliases").write_text("gone: nobody-of-this-name\n")
        server.start()
        with SmtpSocket(server.port) as client:
            client.greet()
            client.say("MAIL FROM:<x@two.example>")
            assert client.say("RCPT TO:<nobody@one.example>").startswith("550 5.1.1 <nobody@one.example>: ")
            assert client.say(f"RCPT TO:<no-such-user@{HERE}>").startswith("550 5.1.1 ")
        # An alias whose target does not exist is only known at delivery: its sender is told.
        send(server, f"gone@{HERE}", sender="ann@one.example")
        wait_for(lambda: mailbox(server, "ann"), "the notification")
        notification = email.message_from_bytes(mailbox(server, "ann")[0])
        assert notification.get_content_type() == "multipart/report"
        assert notification["Return-Path"] == "<>"
        assert b"5.1.1" in mailbox(server, "ann")[0]
        # And for a notification that cannot be delivered there is no other one.
        send(server, f"gone@{HERE}", sender="")
        wait_for(lambda: states(server) == {}, "an empty queue")
        assert len(mailbox(server, "ann")) == 1


def test_alias_loops_end() -> None:
    with mailbox_server() as server:
        (server.etc / "aliases").write_text(f"ping: pong\npong: ping\nround: round@{HERE}, ann@one.example\n")
        server.start()
        send(server, f"ping@{HERE}", sender="bob@one.example")
        wait_for(lambda: mailbox(server, "bob"), "the notification of the loop")
        assert b"5.4.6" in mailbox(server, "bob")[0] or b"loop" in mailbox(server, "bob")[0]
        send(server, f"round@{HERE}", sender="bob@one.example")
        wait_for(lambda: states(server) == {}, "an empty queue")


def test_a_message_that_has_been_here_before_is_a_loop() -> None:
    with mailbox_server() as server:
        (server.etc / "aliases").write_text("away: ann@one.example\n")
        server.start()
        with SmtpSocket(server.port) as client:
            client.greet()
            looping = f"Delivered-To: away@{HERE}\r\nSubject: x\r\n\r\nx\r\n".encode()
            assert client.mail("bob@one.example", f"away@{HERE}", content=looping).startswith("250 ")
            hops = b"".join(b"Received: from x by y; Thu, 1 Jan 1970 00:00:00 +0000\r\n" for _ in range(60))
            assert client.mail("bob@one.example", "ann@one.example", content=hops + b"\r\nx\r\n") == (
                "554 5.4.6 Error: too many hops"
            )
        wait_for(lambda: mailbox(server, "bob"), "the notification")
        assert b"mail forwarding loop" in mailbox(server, "bob")[0]
        assert not mailbox(server, "ann")


def test_check_says_what_is_wrong_before_it_hurts(server: RunningServer) -> None:
    assert server.command("check").returncode == 0
    server.main_cf |= {"smtpd_recipient_limt": "5", "queue_run_delay": "soon"}
    server.write_configuration()
    done = server.command("check")
    assert done.returncode == os.EX_CONFIG
    said = done.stdout + done.stderr
    assert re.search(r"main\.cf:\d+: .*smtpd_recipient_limt.*smtpd_recipient_limit", said)
    assert re.search(r"main\.cf:\d+: error: queue_run_delay = soon", said)


def test_an_ordinary_user_may_not_look_into_the_queue(server: RunningServer) -> None:
    require_root()  # there is nobody else to be otherwise
    assert Path(server.queue, "run").stat().st_mode & 0o077 == 0
    assert Path(server.queue, "shards").stat().st_mode & 0o077 == 0
    listing = subprocess.run(
        ["setpriv", "--reuid=1", "--regid=1", "--clear-groups", "ls", str(server.queue / "maildrop")],
        capture_output=True,
        check=False,
    )
    assert listing.returncode != 0
