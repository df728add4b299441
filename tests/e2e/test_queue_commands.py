"""postqueue, postsuper, postcat, postfix: they do to a queue what Postfix's do, with a server and without one."""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from collections.abc import Iterator

import pytest

from support.classic import Classic
from support.honours import honours
from support.running import RunningServer, free_port, running_server, wait_for
from support.smtp_sink import SmtpSink, smtp_sink


@pytest.fixture
def server() -> Iterator[RunningServer]:
    settings = {
        "myhostname": "mx.origin.example",
        "relayhost": f"[127.0.0.1]:{free_port()}",
        "minimal_backoff_time": "300s",
        "worker_processes": "1",
    }
    with running_server(main_cf=settings) as running:
        yield running
        assert "Traceback" not in running.output + running.log


@pytest.fixture
def classic(server: RunningServer) -> Classic:
    return Classic(server)


def names(classic: Classic) -> dict[str, str]:
    """Queue ids and states, by postqueue -j."""
    done = classic.run("postqueue", "-j")
    assert done.returncode == 0, done.stderr
    return {entry["queue_id"]: entry["queue_name"] for entry in map(json.loads, done.stdout.splitlines())}


def submit(classic: Classic, *recipients: str, sender: str = "ann@one.example") -> str:
    """A message that cannot be delivered now; its queue id."""
    before = set(names(classic))
    done = classic.run("sendmail", "-i", "-f", sender, *recipients, text="Subject: x\n\nhello\n")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: list({**names(classic)}.values()) == ["deferred"] * (len(before) + 1), "a deferred message")
    (fresh,) = set(names(classic)) - before
    return fresh


def said(classic: Classic, *options: str, text: str = "") -> list[str]:
    done = classic.run("postsuper", *options, text=text)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("runs", [True, False])
def test_postsuper_changes_the_queue_with_a_server_and_without(
    server: RunningServer, classic: Classic, runs: bool
) -> None:
    first, second, third = (submit(classic, f"bob{number}@two.example") for number in range(3))
    if not runs:
        assert server.stop() == 0
    assert said(classic, "-h", first) == [f"postsuper: {first}: placed on hold", "postsuper: Placed on hold: 1 message"]
    assert said(classic, "-h", first) == ["postsuper: Placed on hold: 0 messages"]
    assert said(classic, "-h", second, "deferred") == [
        f"postsuper: {second}: placed on hold", "postsuper: Placed on hold: 1 message",
    ]  # fmt: skip
    assert said(classic, "-d", second, "deferred") == ["postsuper: Deleted: 0 messages"]
    assert said(classic, "-d", "ALL", "incoming", "active") == ["postsuper: Deleted: 0 messages"]
    assert names(classic) == {first: "hold", second: "hold", third: "deferred"}
    assert said(classic, "-H", "ALL") == ["postsuper: Released from hold: 2 messages"]
    assert said(classic, "-d", "-", text=f"{second}\nNOPE\n\n{first} trailing words\n") == [
        f"postsuper: {second}: removed", f"postsuper: {first}: removed", "postsuper: Deleted: 2 messages",
    ]  # fmt: skip
    assert said(classic, "-h", third)[-1] == "postsuper: Placed on hold: 1 message"
    assert said(classic, "-r", third) == [f"postsuper: {third}: requeued", "postsuper: Requeued: 1 message"]
    wait_for(lambda: names(classic) in ({third: "deferred"}, {third: "incoming"}), "the end of the attempt")
    assert said(classic, "-r", "ALL") == ["postsuper: Requeued: 1 message"]
    assert said(classic, "-h", "ALL") == ["postsuper: Placed on hold: 1 message"] or not runs
    assert said(classic, "-s") == said(classic, "-p") == said(classic) == []
    assert f"postfix/postsuper[{{}}]: {first}: removed".split("{}")[1] in server.log
    assert said(classic, "-d", "ALL") == ["postsuper: Deleted: 1 message"]
    assert classic.run("mailq").stdout == "Mail queue is empty\n"


def test_a_message_that_is_given_up_goes_back_to_its_sender(server: RunningServer, classic: Classic) -> None:
    queue_id = submit(classic, "bob@two.example", "carl@two.example")
    assert said(classic, "-h", queue_id)[-1] == "postsuper: Placed on hold: 1 message"
    assert said(classic, "-e", queue_id) == [f"postsuper: {queue_id}: expired", "postsuper: Force-expired: 1 message"]
    assert f"\n{queue_id}!" in classic.run("mailq").stdout
    (entry,) = map(json.loads, classic.run("postqueue", "-j").stdout.splitlines())
    assert (entry["forced_expire"], entry["queue_name"]) == (True, "hold")
    with smtp_sink() as sink:
        server.main_cf["relayhost"] = sink.relayhost
        server.reload()
        assert said(classic, "-f", "ALL") == [
            "postsuper: Force-expired: 1 message", "postsuper: Released from hold: 1 message",
        ]  # fmt: skip
        (report,) = sink.messages(1)
        assert report.facts["X-Rcpt-Args"] == ["<ann@one.example> NOTIFY=NEVER"]
        assert report.content.count(b"Action: failed") == 2
        assert b"Connection refused" in report.content
    wait_for(lambda: not names(classic), "an empty queue")


def test_postsuper_refuses_what_it_does_not_know(classic: Classic) -> None:
    for options, words in (
        (("-d", "ALL", "nosuchqueue"), "postsuper: fatal: invalid directory name: nosuchqueue"),
        (("-Z",), "postsuper: fatal: usage: postsuper"),
        (("-d",), "postsuper: option requires an argument -- 'd'"),
    ):
        done = classic.run("postsuper", *options)
        assert done.returncode == 1
        assert words in done.stderr
    done = classic.run("postsuper", "-d", "../x")
    assert (done.returncode, done.stderr.splitlines()) == (
        0, ["postsuper: warning: invalid mail queue id: ../x", "postsuper: Deleted: 0 messages"],
    )  # fmt: skip


def test_postsuper_purges_what_a_killed_sendmail_left(server: RunningServer, classic: Classic) -> None:
    old, young = (server.queue / "maildrop" / f".{digit * 32}" for digit in "ab")
    for path in (old, young):
        path.write_text("half a")
    long_ago = time.time() - 3 * 86400
    os.utime(old, (long_ago, long_ago))
    assert said(classic, "-p") == [f"postsuper: purged {old}"]
    assert young.exists()


@pytest.mark.parametrize("name", ["postsuper", "postcat"])
def test_the_queue_is_not_for_every_user(classic: Classic, name: str) -> None:
    queue_id = submit(classic, "bob@two.example")
    done = classic.run_as("daemon", name, *{"postsuper": ("-d", queue_id), "postcat": ("-q", queue_id)}[name])
    assert done.returncode == 1
    assert "only root and the mail_owner may" in done.stderr
    assert "Traceback" not in done.stderr
    assert queue_id in names(classic)


@honours("authorized_mailq_users", "authorized_flush_users")
def test_which_users_may_list_and_flush(server: RunningServer, classic: Classic) -> None:
    queue_id = submit(classic, "bob@two.example")
    assert f"\n{queue_id} " in classic.run_as("daemon", "mailq").stdout
    assert classic.run_as("daemon", "postqueue", "-f").returncode == 0
    server.main_cf |= {"authorized_mailq_users": "!daemon, static:anyone", "authorized_flush_users": "root bin"}
    server.reload()
    for options, words in (
        (("-p",), "User daemon(1) is not allowed to view the mail queue"),
        (("-f",), "User daemon(1) is not allowed to flush the mail queue"),
        (("-i", queue_id), "User daemon(1) is not allowed to flush the mail queue"),
    ):
        done = classic.run_as("daemon", "postqueue", *options)
        assert (done.returncode, done.stderr) == (os.EX_NOPERM, f"postqueue: fatal: {words}\n")
    assert f"\n{queue_id} " in classic.run_as("bin", "mailq").stdout
    assert classic.run_as("bin", "postqueue", "-f").returncode == 0
    assert f"\n{queue_id} " in classic.run("mailq").stdout
    assert classic.run("postqueue", "-f").returncode == 0


@honours("authorized_submit_users")
def test_which_users_may_submit(server: RunningServer, classic: Classic) -> None:
    server.main_cf["authorized_submit_users"] = "!daemon, static:anyone"
    server.reload()
    # The server looks for itself: the command belongs to the user.
    done = classic.run_as("daemon", "sendmail", "bob@two.example", text="x\n")
    assert (done.returncode, done.stderr) == (
        os.EX_NOPERM, "sendmail: fatal: User daemon(1) is not allowed to submit mail\n",
    )  # fmt: skip
    drop = server.queue / "maildrop" / ("c" * 32)
    drop.write_text('{"recipients":["bob@two.example"]}\nSubject: x\n\nx\n')
    os.chown(drop, 1, 1)
    assert classic.run_as("bin", "sendmail", "bob@two.example", text="x\n").returncode == 0
    server.wait_for_log("User daemon(1) is not allowed to submit mail")
    wait_for(lambda: list(names(classic).values()) == ["deferred"], "the message of bin alone")


@honours("fast_flush_domains")
def test_one_message_or_one_site_is_tried_now(server: RunningServer, classic: Classic) -> None:
    there, elsewhere = submit(classic, "bob@two.example"), submit(classic, "carl@three.example")
    refused = classic.run("postqueue", "-s", "two.example")
    assert refused.returncode == os.EX_UNAVAILABLE
    assert 'Flush service is not configured for destination "two.example"' in refused.stderr
    with smtp_sink() as sink:
        server.main_cf |= {"relayhost": sink.relayhost, "fast_flush_domains": "two.example"}
        server.reload()
        assert classic.run("postqueue", "-s", "two.example").returncode == 0
        _until_sent(sink, 1, "<bob@two.example>")
        assert list(names(classic)) == [elsewhere]
        assert classic.run("postqueue", "-i", elsewhere).returncode == 0
        _until_sent(sink, 2, "<carl@three.example>")
    wait_for(lambda: not names(classic), "an empty queue")
    assert classic.run("postqueue", "-i", there).returncode == 0
    for options in (("-i", "a/b"), ("-s", "a b"), (), ("-f", "-p"), ("-p", "more"), ("-x",)):
        done = classic.run("postqueue", *options)
        assert done.returncode == os.EX_UNAVAILABLE
        assert "postqueue: fatal: " in done.stderr


def _until_sent(sink: SmtpSink, count: int, recipient: str) -> None:
    assert recipient in {found for message in sink.messages(count) for found in message.facts["X-Rcpt-Args"]}


def test_mailq_and_flush_without_a_server(server: RunningServer, classic: Classic) -> None:
    queue_id = submit(classic, "bob@two.example")
    server.stop()
    done = classic.run("mailq")
    assert done.stderr == "mailq: warning: Mail system is down -- accessing queue directly\n"
    assert f"\n{queue_id} " in done.stdout
    for words in (("postqueue", "-f"), ("postfix", "flush"), ("sendmail", "-q")):
        done = classic.run(*words)
        assert done.returncode == os.EX_UNAVAILABLE
        assert "Cannot flush mail queue - mail system is down" in done.stderr
    assert b"hello" in classic.run("postcat", "-q", queue_id).stdout.encode()


# -- postfix(1)


def test_postfix_starts_and_stops_the_server(server: RunningServer, classic: Classic) -> None:
    running = classic.run("postfix", "status")
    assert running.returncode == 0
    assert re.search(r"is running: PID: \d+\n", running.stderr)
    again = classic.run("postfix", "start")
    assert (again.returncode, "already running" in again.stderr) == (1, True)
    before = server.log.count("configuration reloaded")
    assert classic.run("postfix", "reload").returncode == 0
    wait_for(lambda: server.log.count("configuration reloaded") > before, "a reload")
    assert classic.run("postfix", "stop").returncode == 0
    assert server.process is not None
    server.process.wait(10)
    for word in ("status", "stop", "reload", "abort"):
        done = classic.run("postfix", word)
        assert (done.returncode, "is not running" in done.stderr) == (1, True), word
    try:
        assert classic.run("postfix", "start").returncode == 0
        assert classic.run("postfix", "-c", str(server.etc), "status").returncode == 0
    finally:
        assert classic.run("postfix", "abort").returncode == 0
    assert classic.run("postfix", "status").returncode == 1
    assert classic.run("postfix", "fly").returncode == 1


@honours("maillog_file_rotate_suffix", "maillog_file_compressor")
def test_postfix_logrotate(server: RunningServer, classic: Classic) -> None:
    submit(classic, "bob@two.example")
    before = server.log
    server.main_cf["maillog_file_rotate_suffix"] = "old"
    server.write_configuration()
    done = classic.run("postfix", "logrotate")
    assert (done.returncode, done.stderr) == (0, "")
    old = gzip.decompress(server.directory.joinpath("log.old.gz").read_bytes()).decode()
    assert old.startswith(before)
    submit(classic, "carl@two.example")
    assert "to=<carl@two.example>" in server.log
    assert "to=<bob@two.example>" not in server.log
    server.main_cf |= {"maillog_file_rotate_suffix": "plain", "maillog_file_compressor": ""}
    server.write_configuration()
    assert classic.run("postfix", "logrotate").returncode == 0
    assert "to=<carl@two.example>" in server.directory.joinpath("log.plain").read_text()
    assert classic.run("postfix", "logrotate").returncode == 1  # a name that is taken


def test_postfix_check_names_file_line_and_directory(server: RunningServer, classic: Classic) -> None:
    assert classic.run("postfix", "check").returncode == 0
    server.main_cf |= {"stop_timeout": "soon", "virtual_mailbox_maps": "inline:{ {a@b.example=a/} }"}
    server.main_cf["virtual_mailbox_base"] = str(server.directory / "mailboxes")
    server.write_configuration()
    server.queue.chmod(0o777)
    done = classic.run("postfix", "check")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for wanted in (
        rf"{server.etc}/main\.cf:\d+: error: stop_timeout = soon: must be .*",
        rf"{server.etc}/main\.cf:\d+: error: queue_directory = .*: others may write to it; correct it with: chmod .*",
        rf"{server.etc}/main\.cf:\d+: warning: virtual_mailbox_base = .*/mailboxes: there is no such directory; .*",
    ):
        assert any(re.fullmatch(wanted, line) for line in lines), (wanted, lines)
    server.queue.chmod(0o755)
    server.main_cf |= {"stop_timeout": "5s", "queue_minfree": str(1 << 55), "message_size_limit": "1000"}
    server.write_configuration()
    done = classic.run("postfix", "check")
    assert done.returncode == 0
    assert re.search(r"warning: queue_directory = .*: only \d+ Kbytes are free on its disk", done.stdout)
