"""sendmail(1) in full: its modes, what it does to a message, an SMTP session on standard input, notifications asked."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator

import pytest

from support.classic import Classic
from support.honours import honours
from support.running import RunningServer, running_server, wait_for
from support.smtp_sink import SmtpSink, smtp_sink

ORIGIN = "origin.example"
ME = f"{getpass.getuser()}@{ORIGIN}"


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with smtp_sink() as running:
        yield running


@pytest.fixture
def server(sink: SmtpSink) -> Iterator[RunningServer]:
    settings = {
        "relayhost": sink.relayhost,
        "myorigin": ORIGIN,
        "myhostname": "mx.origin.example",
        "worker_processes": "1",
    }
    with running_server(main_cf=settings) as running:
        yield running
        assert "Traceback" not in running.output + running.log


@pytest.fixture
def classic(server: RunningServer) -> Classic:
    return Classic(server)


def sent(classic: Classic, *options: str, text: str = "Subject: x\n\nhello\n", warning: str = "") -> None:
    done = classic.run("sendmail", *options, text=text)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert warning in done.stderr if warning else not done.stderr


def recipients(sink: SmtpSink, count: int = 1) -> list[list[str]]:
    return [sorted(line.split()[0].strip("<>") for line in each.facts["X-Rcpt-Args"]) for each in sink.messages(count)]


def test_options_without_meaning_are_taken(classic: Classic, sink: SmtpSink) -> None:
    sent(
        classic, "-Am", "-Ac", "-U", "-G", "-m", "-x", "-c", "-h", "3", "-L", "tag", "-O", "a=b", "-p", "SMTP:host",
        "-oem", "-odi", "-em", "-e", "m", "-o7", "-bm", "-oi", "--", "bob@two.example",
    )  # fmt: skip
    assert recipients(sink) == [["bob@two.example"]]


def test_recipients_are_lists_of_addresses(classic: Classic, sink: SmtpSink) -> None:
    sent(classic, "-i", "Bob <bob@two.example>, carl@three.example", "dora")
    assert recipients(sink) == [["bob@two.example", "carl@three.example", f"dora@{ORIGIN}"]]


def test_a_sender_may_have_a_name_and_must_be_an_address(classic: Classic, sink: SmtpSink) -> None:
    sent(classic, "-f", "A B <ann@one.example>", "bob@two.example")
    (message,) = sink.messages(1)
    assert message.facts["X-Mail-Args"][0].startswith("<ann@one.example>")
    done = classic.run("sendmail", "-f", "a b@c@d", "bob@two.example", text="x\n")
    assert done.returncode == os.EX_DATAERR
    assert "a b@c@d" in done.stderr


def test_resent_fields_are_the_only_recipients(classic: Classic, sink: SmtpSink) -> None:
    sent(
        classic, "-t",
        text="Resent-To: r@two.example\nTo: t@two.example\nBcc: b@two.example\nResent-Bcc: rb@two.example\nX: y\n\nx\n",
    )  # fmt: skip
    (message,) = sink.messages(1)
    assert recipients(sink) == [["r@two.example", "rb@two.example"]]
    assert b"b@two.example" not in message.content
    assert b"Resent-To: r@two.example\nTo: t@two.example\nX: y\n" in message.content


def test_lines_of_mailbox_files_go(classic: Classic, sink: SmtpSink) -> None:
    sent(classic, "-t", text="From root Mon Nov 22 10:00:00 2026\n>From x\nTo: bob@two.example\n\nFrom here\n")
    (message,) = sink.messages(1)
    assert b"From root" not in message.content
    assert message.content.endswith(b"\n\nFrom here\n\n")


@honours("extract_recipient_limit")
def test_the_header_may_name_so_many_recipients(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    server.main_cf["extract_recipient_limit"] = "3"
    server.write_configuration()
    three = ", ".join(f"user{number}@two.example" for number in range(3))
    done = classic.run("sendmail", "-t", text=f"To: {three}\nCc: more@two.example\n\nx\n")
    assert done.returncode == os.EX_DATAERR
    assert "extract_recipient_limit = 3" in done.stderr
    done = classic.run("sendmail", "-t", text="To: user@two.example\nCc: @two.example\n\nx\n")
    assert done.returncode == os.EX_DATAERR
    assert "bad address in the field Cc: '@two.example'" in done.stderr
    sent(classic, "-t", "more@two.example", text=f"To: {three}\n\nx\n")
    assert len(recipients(sink)[0]) == 4


@honours("sendmail_fix_line_endings")
@pytest.mark.parametrize(
    ("fix", "first", "last"),
    [("always", b"a\n", b"b\nc\n"), ("strict", b"a\n", b"b \nc\n"), ("strict", b"a\r\n", b"b\nc\n"),
     ("never", b"a\r\n", b"b \nc\n")],
)  # fmt: skip
def test_line_ends(
    server: RunningServer, classic: Classic, sink: SmtpSink, fix: str, first: bytes, last: bytes
) -> None:
    server.main_cf["sendmail_fix_line_endings"] = fix
    server.write_configuration()
    end = first[1:]
    done = subprocess.run(
        [classic.directory / "sendmail", "-i", "bob@two.example"],
        input=b"Subject: x" + end + b"\n" + b"b\r\nc\n", env=classic.environment, capture_output=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    (message,) = sink.messages(1)
    assert message.content.endswith(b"\n\n" + last + b"\n")


def test_notifications_are_asked_for(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    """-N success: the sender hears of relaying to a server without DSN; -N never: not even that it failed."""
    sent(classic, "-f", "ann@one.example", "-N", "success,failure", "dora@two.example")
    (message,) = sink.messages(1)
    assert message.facts["X-Rcpt-Args"] == ["<dora@two.example> NOTIFY=SUCCESS,FAILURE"]
    server.main_cf["smtp_discard_ehlo_keywords"] = "dsn"
    server.reload()
    sent(classic, "-f", "ann@one.example", "-N", "success,failure", "bob@two.example")
    content = {message.facts["X-Rcpt-Args"][0]: message.content for message in sink.messages(3)}
    assert {"<bob@two.example>", "<ann@one.example>"} < content.keys()
    assert b"Action: relayed" in content["<ann@one.example>"]
    server.main_cf["default_transport"] = "error:5.7.1 no"
    del server.main_cf["relayhost"]
    server.reload()
    sent(classic, "-f", "ann@one.example", "-N", "never", "carl@two.example")
    wait_for(lambda: "status=bounced" in server.log and server.log.count(": removed") >= 4, "the failure")
    assert server.log.count("non-delivery notification") == 0
    sent(classic, "-N", "bogus", "carl@two.example", warning="warning: bad -N option value")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("-bv", "x@y.example"), os.EX_USAGE, "-bv: recipients are not verified yet"),
        (("-XV", "x@y.example"), os.EX_USAGE, "VERP"),
        (("-qSx",), os.EX_USAGE, "-qS is not implemented"),
        (("-bs", "-t"), os.EX_USAGE, "-t can be used only in delivery mode"),
        (("-bp", "x@y.example"), os.EX_USAGE, "requires no recipient"),
        (("-B", "9BIT", "x@y.example"), os.EX_USAGE, "8BITMIME or 7BIT"),
        (("-oA",), os.EX_USAGE, "-oA requires pathname"),
        (("-bh",), os.EX_OK, ""),
        (("-q15m",), os.EX_OK, ""),
        (("-bd", "-q15m"), os.EX_OK, ""),
        (("-qRfour.example",), os.EX_UNAVAILABLE, "Flush service is not configured"),
        (("-qINOPE",), os.EX_OK, ""),
        (("-q",), os.EX_OK, ""),
    ],
)
def test_modes_and_refusals(
    server: RunningServer, classic: Classic, options: tuple[str, ...], code: int, words: str
) -> None:
    done = classic.run("sendmail", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert not list((server.queue / "maildrop").iterdir())


def test_daemon_mode_starts_the_server(server: RunningServer, classic: Classic) -> None:
    assert server.stop() == 0
    try:
        assert classic.run("sendmail", "-bd", "-q15m").returncode == 0
        assert classic.run("postfix", "status").returncode == 0
    finally:
        classic.run("postfix", "stop")


# -- an SMTP session on standard input


def session(classic: Classic, *lines: str) -> list[str]:
    done = classic.run("sendmail", "-bs", text="".join(f"{line}\r\n" for line in lines))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_smtp_on_standard_input(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    said = session(
        classic, "EHLO here", "MAIL FROM:<ann@one.example> BODY=8BITMIME", "RCPT TO:<bob@two.example>",
        "RCPT TO:<carl>", "DATA", "Subject: x", "", "one", "..two", ".", "FOO", "RSET", "MAIL FROM:<>",
        "RCPT TO:<dora@two.example>", "DATA", "Subject: y", "", "z", ".", "QUIT",
    )  # fmt: skip
    assert said[0].startswith("220 mx.origin.example ")
    assert "250-PIPELINING" in said
    assert [line[:3] for line in said if line[3] == " "] == [
        "220", "250", "250", "250", "250", "354", "250", "500", "250", "250", "250", "354", "250", "221",
    ]  # fmt: skip
    assert sum(line.startswith("250 2.0.0 Ok: queued as ") for line in said) == 2
    first, second = sorted(sink.messages(2), key=lambda message: b"Subject: y" in message.content)
    assert first.facts["X-Mail-Args"][0].startswith("<ann@one.example>")
    assert sorted(first.facts["X-Rcpt-Args"]) == ["<bob@two.example>", f"<carl@{ORIGIN}>"]
    assert first.content.startswith(b"Subject: x\n")
    assert first.content.endswith(b"\n\none\n.two\n\n")
    assert second.facts["X-Mail-Args"][0].startswith("<>")
    server.wait_for_log(f"uid={os.geteuid()} from=<ann@one.example>")


def test_a_session_that_ends_too_early_leaves_nothing(server: RunningServer, classic: Classic) -> None:
    begin = ["HELO here", "MAIL FROM:<a@b.example>", "RCPT TO:<bob@two.example>", "DATA", "Subject: x", "", "half"]
    assert [line[:3] for line in session(classic, *begin)] == ["220", "250", "250", "250", "354"]
    assert not list((server.queue / "maildrop").iterdir())


def test_a_session_has_limits(server: RunningServer, classic: Classic) -> None:
    server.main_cf |= {"message_size_limit": "2000", "smtpd_recipient_limit": "1", "smtpd_hard_error_limit": "3"}
    server.write_configuration()
    said = session(
        classic, "EHLO here", "MAIL FROM:<a@b.example>", "RCPT TO:<bob@two.example>", "RCPT TO:<carl@two.example>",
        "DATA", *["x" * 70] * 40, ".", "FOO", "NOOP",
    )  # fmt: skip
    assert said[-4:] == [
        "452 4.5.3 Error: too many recipients", "354 End data with <CR><LF>.<CR><LF>",
        "552 5.3.4 Error: message file too big", "421 4.7.0 mx.origin.example Error: too many errors",
    ]  # fmt: skip
    assert not list((server.queue / "maildrop").iterdir())


def test_any_user_may_have_a_session(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    text = "HELO x\nMAIL FROM:<a@b.example>\nRCPT TO:<bob@two.example>\nDATA\nSubject: x\n\nx\n.\nQUIT\n"
    done = classic.run_as("daemon", "sendmail", "-bs", text=text)
    assert "250 2.0.0 Ok: queued as" in done.stdout, done.stderr
    assert recipients(sink) == [["bob@two.example"]]
    server.wait_for_log("uid=1 from=<a@b.example>")


def test_a_maildrop_that_is_not_there_is_told_in_the_session(server: RunningServer, classic: Classic) -> None:
    server.main_cf["queue_directory"] = str(server.directory / "nowhere")
    server.write_configuration()
    said = session(classic, "HELO x", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "QUIT")
    assert said[-2].startswith("451 4.3.0 Error: the maildrop cannot be written: ")


def test_how_much_comes_back_and_under_which_id(server: RunningServer, classic: Classic, sink: SmtpSink) -> None:
    """-R and -V go to the next hop, which speaks DSN (RFC 3461 §4.3, §4.4)."""
    sent(classic, "-f", "ann@one.example", "-R", "hdrs", "-V", "id 1+", "bob@two.example")
    [message] = sink.messages(1)
    assert "RET=HDRS" in message.facts["X-Mail-Args"][0]
    assert "ENVID=id+201+2B" in message.facts["X-Mail-Args"][0]
    sent(classic, "-R", "some", "carl@two.example", warning="warning: bad -R option value")
    done = classic.run("sendmail", "-V", "id\u00e9", "carl@two.example", text="x")
    assert done.returncode == os.EX_USAGE
