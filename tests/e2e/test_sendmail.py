"""The sendmail command: what it leaves arrives, with what it lacked, whether the server runs or not."""

from __future__ import annotations

import email
import getpass
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from support.honours import honours
from support.requirements import require_root, require_that
from support.running import RunningServer, running_server, wait_for
from support.smtp_sink import Dumped, SmtpSink, smtp_sink

ORIGIN = "origin.example"
ME = f"{getpass.getuser()}@{ORIGIN}"


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
        assert "fatal: " not in running.log


def sendmail(
    server: RunningServer, *options: str, message: bytes = b"Subject: x\n\nhello\n", program: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*(program or (str(Path(sys.executable).with_name("ekiden-sendmail")),)), *options],
        input=message,
        capture_output=True,
        env={**server.environment, "EKIDEN_CONFIG": str(server.etc)},
        timeout=60,
        check=False,
    )


def sent(server: RunningServer, *options: str, message: bytes = b"Subject: x\n\nhello\n") -> None:
    done = sendmail(server, *options, message=message)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def envelope(message: Dumped) -> tuple[str, list[str]]:
    return message.facts["X-Mail-Args"][0].split()[0].strip("<>"), [
        line.split()[0].strip("<>") for line in message.facts["X-Rcpt-Args"]
    ]


def header(message: Dumped) -> Message:
    return email.message_from_bytes(message.content)


def test_a_message_for_recipients_on_the_command_line(server: RunningServer, sink: SmtpSink) -> None:
    sent(server, "-f", "ann@one.example", "-i", "bob@two.example", "carl@three.example")
    (message,) = sink.messages(1)
    assert envelope(message) == ("ann@one.example", ["bob@two.example", "carl@three.example"])
    assert message.content.startswith(b"Subject: x\n")
    assert message.content.endswith(b"\n\nhello\n\n")
    pickup = re.compile(rf"postfix/pickup\[\d+\]: \w+: uid={os.geteuid()} from=<ann@one\.example>")
    wait_for(lambda: pickup.search(server.log), "the line of pickup")


def test_what_is_missing_is_added(server: RunningServer, sink: SmtpSink) -> None:
    sent(server, "-F", 'Ann "the one" Example', "bob@two.example", message=b"no header at all\n.\nnot read\n")
    (message,) = sink.messages(1)
    fields = header(message)
    assert envelope(message) == (ME, ["bob@two.example"])
    assert fields["From"] == f'"Ann \\"the one\\" Example" <{ME}>'
    assert re.fullmatch(r"<[0-9A-Za-z]+@mx\.origin\.example>", fields["Message-Id"])
    assert parsedate_to_datetime(fields["Date"]).tzinfo is not None
    assert message.content.split(b"\n\n", 1)[1] == b"no header at all\n\n"


def test_what_is_there_is_left_alone(server: RunningServer, sink: SmtpSink) -> None:
    own = b"From: Me <me@my.example>\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nMESSAGE-ID: <1@my.example>\n\nx\n"
    sent(server, "-i", "bob@two.example", message=own)
    (message,) = sink.messages(1)
    assert message.content == own + b"\n"


@honours("myorigin")
def test_recipients_of_the_header(server: RunningServer, sink: SmtpSink) -> None:
    sent(
        server, "-t", "-oi", "also@two.example",
        message=(
            b"To: Ann <ann@one.example>,\n  (a comment) bob\nCC: undisclosed: carl@three.example;\n"
            b"Bcc: secret@four.example,\n secret2@four.example\nbcc : secret3@four.example\n"
            b"Subject: x\n\n.\nBcc: body\n"
        ),
    )  # fmt: skip
    (message,) = sink.messages(1)
    sender, recipients = envelope(message)
    assert sender == ME
    assert sorted(recipients) == sorted(
        [
            "also@two.example", "ann@one.example", f"bob@{ORIGIN}", "carl@three.example",
            "secret@four.example", "secret2@four.example", "secret3@four.example",
        ]
    )  # fmt: skip
    assert b"secret" not in message.content
    assert f"To: Ann <ann@one.example>,\n  (a comment) bob@{ORIGIN}\nCC: ".encode() in message.content
    assert message.content.endswith(b"\n\n.\nBcc: body\n\n")


@pytest.mark.parametrize("options", [("-i",), ("-oi",), ()])
def test_a_dot_alone_ends_the_message_unless_told_not_to(
    server: RunningServer, sink: SmtpSink, options: tuple[str, ...]
) -> None:
    sent(server, *options, "bob@two.example", message=b"From: a@b.example\n\none\n..\n.\ntwo\n")
    (message,) = sink.messages(1)
    body = message.content.split(b"\n\n", 1)[1]
    assert body == (b"one\n..\n.\ntwo\n\n" if options else b"one\n..\n\n")


def test_a_null_sender(server: RunningServer, sink: SmtpSink) -> None:
    sent(server, "-f", "", "bob@two.example")
    sent(server, "-f<>", "bob@two.example")
    for message in sink.messages(2):
        assert envelope(message)[0] == ""
        assert header(message)["From"] == "Mail Delivery System <MAILER-DAEMON@mx.origin.example>"


def test_a_megabyte_of_every_byte_arrives(server: RunningServer, sink: SmtpSink) -> None:
    lines = [bytes(byte for byte in range(1, 256) if byte not in b"\r\n")] * 4200 + [b".", b"..", b"", b"end"]
    body = b"\n".join(lines) + b"\n"
    assert len(body) > 1_048_576
    sent(server, "-i", "-B8BITMIME", "bob@two.example", message=b"From: a@b.example\n\n" + body)
    (message,) = sink.messages(1)
    assert message.content.split(b"\n\n", 1)[1] == body + b"\n"
    assert "BODY=8BITMIME" in message.facts["X-Mail-Args"][0]


def test_messages_wait_for_a_server_that_does_not_run(server: RunningServer, sink: SmtpSink) -> None:
    assert server.stop() == 0
    for number in range(3):
        sent(server, f"user{number}@two.example")
    assert len(list((server.queue / "maildrop").iterdir())) == 3
    assert sink.count == 0
    server.start()
    recipients = {envelope(message)[1][0] for message in sink.messages(3)}
    assert recipients == {f"user{number}@two.example" for number in range(3)}
    wait_for(lambda: not list((server.queue / "maildrop").iterdir()), "an empty maildrop")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), os.EX_USAGE, b"Recipient addresses must be specified"),
        (("-t",), os.EX_USAGE, b"No recipient addresses found"),
        (("-Z", "bob@two.example"), os.EX_USAGE, b"invalid option -- 'Z'"),
        (("-f",), os.EX_USAGE, b"option requires an argument -- 'f'"),
        (("-bx",), os.EX_USAGE, b"unsupported: -bx"),
        (("-i", ""), os.EX_DATAERR, b"bad recipient"),
        (("-i", "<>"), os.EX_DATAERR, b"bad recipient"),
    ],
)
def test_wrong_options_are_told(server: RunningServer, options: tuple[str, ...], code: int, words: bytes) -> None:
    done = sendmail(server, *options)
    assert done.returncode == code
    assert words in done.stderr
    assert not list((server.queue / "maildrop").iterdir())


def test_a_recipient_that_is_no_address_is_refused_at_once(server: RunningServer, sink: SmtpSink) -> None:
    done = sendmail(server, "-i", "bob@two.example", "a b@c@d")
    assert done.returncode == os.EX_DATAERR, done.stderr
    assert b"a b@c@d" in done.stderr
    sent(server, "good@two.example")
    assert [envelope(message)[1] for message in sink.messages(1)] == [["good@two.example"]]
    assert not list((server.queue / "maildrop").iterdir())


def test_a_message_over_the_limit_is_refused_at_once(server: RunningServer) -> None:
    done = sendmail(server, "-i", "bob@two.example", message=b"Subject: x\n\n" + b"x" * 10_240_000)
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"message_size_limit" in done.stderr
    assert not list((server.queue / "maildrop").iterdir())


def test_a_queue_that_is_not_there_is_a_temporary_failure(server: RunningServer) -> None:
    server.main_cf["queue_directory"] = str(server.directory / "nowhere")
    server.write_configuration()
    done = sendmail(server, "bob@two.example")
    assert done.returncode == os.EX_TEMPFAIL
    assert b"nowhere" in done.stderr
    assert b"Traceback" not in done.stderr


def test_mailq_by_its_old_name(server: RunningServer) -> None:
    done = sendmail(server, "-bp")
    assert (done.returncode, done.stdout) == (0, b"Mail queue is empty\n")


def test_the_sender_is_who_owns_the_file(server: RunningServer, sink: SmtpSink) -> None:
    """Any user of the host may submit, and cannot pretend in the log to be another."""
    require_root()
    python = "/usr/bin/python3"
    require_that(os.access(python, os.X_OK), "no Python that another user can run")
    source = Path(__file__).resolve().parents[2] / "src"
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    server.environment["PYTHONPATH"] = f"{source}:{libraries}"
    user = pwd.getpwnam("daemon")
    program = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", python, "-m")
    done = sendmail(server, "ekiden.cli.sendmail", "bob@two.example", program=program)
    assert done.returncode == 0, done.stderr
    (message,) = sink.messages(1)
    assert envelope(message)[0] == f"daemon@{ORIGIN}"
    server.wait_for_log(f"uid={user.pw_uid} from=<daemon@{ORIGIN}>")
