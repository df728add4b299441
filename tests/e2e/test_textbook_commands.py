"""The commands of a textbook on mail servers, as they are printed there, with our names first in PATH."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.cli.classic import COMMANDS
from support.classic import Classic
from support.requirements import require_program
from support.running import RunningServer, free_port, running_server, wait_for
from support.smtp_sink import smtp_sink
from support.smtp_socket import SmtpSocket


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """One message delivered, one that waits, one refused recipient."""
    with smtp_sink() as sink:
        settings = {
            "myhostname": "mail.example.com",
            "relayhost": sink.relayhost,
            "worker_processes": "2",
            "smtpd_banner": "$myhostname ESMTP",
        }
        with running_server(main_cf=settings) as running:
            _mail(running, "sent@example.net")
            running.wait_for_log("status=sent")
            running.main_cf["relayhost"] = f"[127.0.0.1]:{free_port()}"
            running.reload()
            _mail(running, "user@example.com")
            running.wait_for_log("status=deferred")
            yield running


def _mail(server: RunningServer, recipient: str) -> None:
    with SmtpSocket(server.port) as client:
        client.greet()
        assert client.mail("ann@one.example", recipient).startswith("250 ")


@pytest.fixture(scope="module")
def classic(server: RunningServer) -> Classic:
    return Classic(server)


def output(classic: Classic, line: str) -> str:
    done = classic.shell(line)
    assert (done.returncode, done.stderr) == (0, ""), line
    return done.stdout


# -- the queue


@pytest.mark.parametrize("line", ["postqueue -p", "mailq"])
def test_the_queue_is_listed_with_its_size(classic: Classic, line: str) -> None:
    shown = output(classic, line)
    assert "user@example.com" in shown
    assert re.search(r"^-- \d+ Kbytes in 1 Request\.$", shown, re.MULTILINE)


def test_one_mail_is_found_by_its_recipient(classic: Classic) -> None:
    assert output(classic, "postqueue -p | grep user@example.com").split() == ["user@example.com"]


def test_flush(server: RunningServer, classic: Classic) -> None:
    before = server.log.count("to=<user@example.com>")
    assert output(classic, "postfix flush") == ""
    wait_for(lambda: server.log.count("to=<user@example.com>") > before, "another attempt")


# -- the configuration


def test_only_what_differs_from_the_defaults_is_shown(server: RunningServer, classic: Classic) -> None:
    lines = output(classic, "postconf -n").splitlines()
    shown = {line.partition(" =")[0]: line.partition(" =")[2].strip() for line in lines}
    assert shown["myhostname"] == "mail.example.com"
    assert shown["queue_directory"] == str(server.queue)
    assert "smtpd_recipient_limit" not in shown
    assert output(classic, "postconf -h myhostname") == "mail.example.com\n"


@pytest.mark.parametrize("line", ["newaliases", "sendmail -bi"])
def test_the_alias_database_is_rebuilt(server: RunningServer, classic: Classic, line: str) -> None:
    aliases = server.directory / "aliases"
    aliases.write_text("postmaster: root\n")
    text = (server.etc / "main.cf").read_text()
    try:
        (server.etc / "main.cf").write_text(f"{text}alias_database = hash:{aliases}\n")
        output(classic, line)
        made = [path for path in server.directory.iterdir() if path.name.startswith("aliases.")]
        assert made, "an index beside the source"
    finally:
        (server.etc / "main.cf").write_text(text)
    for path in made:
        path.unlink()


def test_check_is_silent_when_nothing_is_wrong(classic: Classic) -> None:
    assert output(classic, "postfix check") == ""


def test_check_says_where(server: RunningServer, classic: Classic) -> None:
    text = (server.etc / "main.cf").read_text()
    try:
        (server.etc / "main.cf").write_text(f"{text}mynetworks = 300.0.0.0/8\nqueue_run_delay = soon\n")
        done = classic.shell("postfix check")
    finally:
        (server.etc / "main.cf").write_text(text)
    assert done.returncode == 1
    lines = len(text.splitlines())
    assert re.search(rf"main\.cf:{lines + 2}: error: queue_run_delay = soon", done.stdout)
    assert re.search(r"300\.0\.0\.0/8", done.stdout)


# -- watching: the log, processes, connections, disk


def test_the_log_can_be_followed_and_searched(server: RunningServer, classic: Classic) -> None:
    log = server.log_file
    for line, words in (
        (f"tail -n 100 {log}", "postfix/"),
        (f'grep "sent" {log}', "status=sent"),
        (f"grep deferred {log}", "status=deferred"),
    ):
        assert words in output(classic, line)


def test_errors_are_found_by_their_word(server: RunningServer, classic: Classic) -> None:
    """``error:`` stands in the lines of what went wrong here."""
    text = (server.etc / "main.cf").read_text()
    try:
        (server.etc / "main.cf").write_text(f"{text}queue_run_delay = soon\n")
        assert server.process is not None
        os.kill(server.process.pid, 1)
        wait_for(lambda: "queue_run_delay = soon" in server.log, "the refused reload")
    finally:
        (server.etc / "main.cf").write_text(text)
    assert "queue_run_delay = soon" in output(classic, f'grep "error" {server.log_file}')


def test_processes_can_be_counted(server: RunningServer, classic: Classic) -> None:
    assert server.process is not None
    ours = f"ps -o args= --ppid {server.process.pid}"
    shown = sorted(output(classic, ours).splitlines())
    assert shown[0].startswith("ekiden: deliverer")
    assert [line.split()[:3] for line in shown if "worker" in line] == [
        ["ekiden:", "worker", "0"], ["ekiden:", "worker", "1"],
    ]  # fmt: skip
    (supervisor,) = output(classic, f"ps -o args= -p {server.process.pid}").splitlines()
    assert supervisor.startswith("ekiden: supervisor")
    assert int(output(classic, "ps aux | grep 'ekiden: ' | wc -l")) >= 4
    # Memory use, by the same names.
    assert all(int(kilobytes) > 0 for kilobytes in output(classic, f"ps -o rss= --ppid {server.process.pid}").split())


def test_connections_can_be_counted(server: RunningServer, classic: Classic) -> None:
    require_program("ss")
    with SmtpSocket(server.port) as client:
        client.greet()
        assert int(output(classic, f"ss -tan | grep :{server.port} | grep -c ESTAB")) >= 1


def test_disk_use_of_the_queue(server: RunningServer, classic: Classic) -> None:
    size, path = output(classic, f"du -sh {server.queue}").split()
    assert Path(path) == server.queue
    assert re.fullmatch(r"[\d.]+[KM]", size)


# -- the names


def test_every_name_runs(classic: Classic) -> None:
    for name in COMMANDS:
        assert output(classic, f"command -v {name}").strip() == str(classic.directory / name)
    state = json.loads(output(classic, "postqueue -j"))
    assert state["queue_name"] == "deferred"


def test_names_of_others_are_not_overwritten(server: RunningServer, tmp_path: Path) -> None:
    sendmail = tmp_path / "sendmail"
    sendmail.write_text("#!/bin/sh\n# somebody else's\n")
    done = server.command("install-names", str(tmp_path))
    assert done.returncode == os.EX_CANTCREAT
    assert f"not written by Ekiden: {sendmail}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sendmail"]
    assert server.command("install-names", "--force", str(tmp_path)).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(COMMANDS)
    assert "somebody" not in sendmail.read_text()
    # What is ours is renewed without a word.
    assert server.command("install-names", str(tmp_path)).returncode == 0
    assert server.command("install-names", str(tmp_path / "nowhere")).returncode == os.EX_CANTCREAT


def test_a_link_is_one_of_the_names_too(server: RunningServer, tmp_path: Path) -> None:
    link = tmp_path / "mailq"
    link.symlink_to("/somewhere/else")
    assert server.command("install-names", str(tmp_path)).returncode == os.EX_CANTCREAT
    assert link.is_symlink()
