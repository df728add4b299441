"""Programs of Debian that send mail through sendmail: both mail commands, and cron for root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from support.classic import Classic
from support.requirements import require_program, require_root
from support.running import RunningServer, running_server
from support.smtp_sink import Dumped, SmtpSink, smtp_sink

ORIGIN = "origin.example"


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with smtp_sink() as running:
        yield running


@pytest.fixture
def server(sink: SmtpSink) -> Iterator[RunningServer]:
    settings = {"relayhost": sink.relayhost, "myorigin": ORIGIN, "myhostname": "mx.origin.example"}
    with running_server(main_cf=settings) as running:
        yield running
        assert "Traceback" not in running.output + running.log


@pytest.fixture
def classic(server: RunningServer) -> Classic:
    return Classic(server)


def recipients(message: Dumped) -> list[str]:
    return sorted(line.strip("<>") for line in message.facts["X-Rcpt-Args"])


def test_bsd_mailx(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    """A9.12; carbon copies, a blind one, a sender of one's own, verbose."""
    mail = require_program("bsd-mailx")
    settings = server.directory / "mailrc"
    settings.write_text(f"set sendmail={classic.directory}/sendmail\n")
    command = [
        mail, "-n", "-v", "-s", "from mailx", "-c", "carl@two.example", "-b", "secret@two.example", "-r",
        "ann@one.example", "bob@two.example",
    ]  # fmt: skip
    environment = {**classic.environment, "MAILRC": str(settings)}
    done = subprocess.run(
        command, input="hello\n.\nworld\n", env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (message,) = sink.messages(1)
    assert recipients(message) == ["bob@two.example", "carl@two.example", "secret@two.example"]
    assert message.facts["X-Mail-Args"][0].startswith("<ann@one.example>")
    assert b"Subject: from mailx\n" in message.content
    assert b"secret" not in message.content


def test_mailutils_mail(classic: Classic, sink: SmtpSink) -> None:
    mail = require_program("mail.mailutils")
    setting = f'set sendmail="sendmail:{classic.directory}/sendmail"'
    done = subprocess.run(
        [mail, "--no-config", "-E", setting, "-s", "from mailutils", "-a", "X-Own: yes", "bob@two.example"],
        input="hello\n", env=classic.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = sink.messages(1)
    assert recipients(message) == ["bob@two.example"]
    assert b"Subject: from mailutils\n" in message.content
    assert b"X-Own: yes\n" in message.content
    assert message.content.endswith(b"\n\nhello\n\n")


def test_mail_of_a_cron_job_reaches_root(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    """cron calls /usr/sbin/sendmail, which in a mount namespace of its own is ours."""
    require_root()
    cron, target = require_program("cron"), require_program("sendmail")
    wrapper = server.directory / "sendmail"
    wrapper.write_text(f'#!/bin/sh\nexec {classic.directory}/sendmail -C {server.etc} "$@"\n')
    wrapper.chmod(0o755)
    table = server.directory / "crontab"
    table.write_text('@reboot root echo "the job said this"\n')
    script = (
        f"mount --bind {wrapper} {target} && mount --bind {table} /etc/crontab && mount -t tmpfs none /run && "
        "mount -t tmpfs none /etc/cron.d && mount -t tmpfs none /var/spool/cron/crontabs && "
        f"exec {cron} -f"
    )
    process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
    try:
        (message,) = sink.messages(1)
    finally:
        process.kill()
        process.wait(10)
    assert recipients(message) == [f"root@{ORIGIN}"]
    assert message.facts["X-Mail-Args"][0].startswith(f"<root@{ORIGIN}>")
    assert b"Subject: Cron <root@" in message.content
    assert b"(Cron Daemon)" in message.content
    assert b"\nthe job said this\n" in message.content


def test_the_call_that_cron_makes(classic: Classic, sink: SmtpSink) -> None:
    """As other crons call it: sender and recipient in the header of the message."""
    text = (
        "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> true\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\nX-Cron-Env: <SHELL=/bin/sh>\n\noutput\n"
    )
    done = classic.run("sendmail", "-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root", text=text)
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = sink.messages(1)
    assert recipients(message) == [f"root@{ORIGIN}"]
    assert message.facts["X-Mail-Args"][0].startswith(f"<root@{ORIGIN}>")
    assert message.content.endswith(b"\n\noutput\n\n")
