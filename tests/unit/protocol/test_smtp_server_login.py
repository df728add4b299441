"""AUTH in the server core (RFC 4954 §4): the exchange, its limits, and what must not come near it."""

from __future__ import annotations

import base64

import pytest

from ekiden.message.reply import Reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import AuthResponse, AuthStart, Event, Helo, Invalid, Mail, Noop
from ekiden.protocol.smtp.server import BareNewline, Limits, SmtpServer, State, ehlo_reply
from ekiden.protocol.smtp.server_replies import auth_challenge
from ekiden.protocol.smtp.verbs import Rules
from support.dialogs import chunks

PROMPT = auth_challenge("")


def new_core(
    *, forbids_early_input: bool = True, bare_newline: BareNewline = BareNewline.REJECT, limits: Limits | None = None
) -> SmtpServer:
    rules = Rules(limits or Limits(), 0, False, has_login=True, forbids_early_input=forbids_early_input)
    core = SmtpServer(rules=rules, bare_newline=bare_newline)
    assert isinstance(said(core, b"EHLO c.example\r\n", ehlo_reply("mail.example", ("AUTH PLAIN",))), Helo)
    return core


def said(core: SmtpServer, data: bytes, answer: Reply | None = None) -> Event:
    """The one event of these bytes, answered."""
    core.receive(data)
    event = core.next_event()
    assert event is not None
    if isinstance(event, Invalid):
        answer = event.reply
    elif isinstance(event, AuthResponse) and event.refusal is not None:
        answer = event.refusal.reply
    core.reply(answer or replies.OK)
    return event


def in_exchange(core: SmtpServer) -> SmtpServer:
    assert said(core, b"AUTH PLAIN\r\n", PROMPT) == AuthStart("PLAIN")
    assert core.state is State.LOGIN
    return core


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"AUTH PLAIN", AuthStart("PLAIN")),
        (b"auth plain ", AuthStart("PLAIN")),
        (b"AUTH PLAIN AGJvYgBzZWNyZXQ=", AuthStart("PLAIN", b"\0bob\0secret")),
        (b"AUTH EXTERNAL =", AuthStart("EXTERNAL", b"")),
        (b"AUTH SCRAM-SHA-256-PLUS", AuthStart("SCRAM-SHA-256-PLUS")),
    ],
)
def test_auth_has_a_mechanism_and_perhaps_a_response(line: bytes, event: AuthStart) -> None:
    assert said(new_core(), line + b"\r\n") == event


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"AUTH", replies.AUTH_SYNTAX),
        (b"AUTH PL+IN", replies.AUTH_SYNTAX),
        (b"AUTH " + b"X" * 21, replies.AUTH_SYNTAX),
        (b"AUTH PLAIN AA== AA==", replies.AUTH_SYNTAX),
        (b"AUTH PLAIN *", replies.BAD_BASE64),
        (b"AUTH PLAIN ==", replies.BAD_BASE64),
        (b"AUTH PLAIN AGJvYgBzZWNyZXQ", replies.BAD_BASE64),
        (b"AUTH PLAIN AGJv!YgBzZWNyZXQ=", replies.BAD_BASE64),
        (b"AUTH PLAIN AGJvYgBzZWNyZXQ=AA==", replies.BAD_BASE64),
        (b"AUTH PLAIN \xff\xfe", replies.BAD_BASE64),
    ],
)
def test_what_is_no_auth_command_is_refused(line: bytes, reply: Reply) -> None:
    core = new_core()
    event = said(core, line + b"\r\n")
    assert isinstance(event, Invalid)
    assert event.reply == reply
    assert core.state is State.GREETED
    assert isinstance(said(core, b"NOOP\r\n"), Noop)


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_an_exchange_goes_on_until_another_reply_than_334(chunk: int) -> None:
    core = in_exchange(new_core())
    for part in chunks(b"Ym9i\r\n", chunk):
        core.receive(part)
    assert core.next_event() == AuthResponse(b"bob")
    core.reply(auth_challenge("UGFzc3dvcmQ6"))
    assert said(core, b"\r\n", replies.LOGGED_IN) == AuthResponse(b"")
    assert core.state is State.GREETED
    assert core.take_output().endswith(b"334 \r\n334 UGFzc3dvcmQ6\r\n235 2.7.0 Authentication successful\r\n")
    assert isinstance(said(core, b"MAIL FROM:<>\r\n", replies.SENDER_OK), Mail)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"*", replies.AUTH_CANCELLED),
        (b"=", replies.BAD_BASE64),
        (b"**", replies.BAD_BASE64),
        (b"QUIT!", replies.BAD_BASE64),
        (b" Ym9i", replies.BAD_BASE64),
        (b"Ym9i=", replies.BAD_BASE64),
        (b"\x16\x03\x01", replies.BAD_BASE64),
    ],
)
def test_a_cancelled_or_broken_exchange_is_over(line: bytes, reply: Reply) -> None:
    core = in_exchange(new_core())
    event = said(core, line + b"\r\n")
    assert isinstance(event, AuthResponse)
    assert event.refusal is not None
    assert event.refusal.reply == reply
    assert core.state is State.GREETED
    assert isinstance(said(core, b"NOOP\r\n"), Noop)


def test_a_response_that_looks_like_a_command_is_a_response() -> None:
    assert said(in_exchange(new_core()), b"QUIT\r\n", PROMPT) == AuthResponse(base64.b64decode(b"QUIT"))


def test_responses_may_be_longer_than_commands_up_to_their_own_limit() -> None:
    """RFC 4954 §4: 12288 octets, with the line end."""
    longest = base64.b64encode(b"x" * 9214)  # 12288 characters: two too many with their line end
    core = in_exchange(new_core())
    assert said(core, longest[4:] + b"\r\n", PROMPT) == AuthResponse(base64.b64decode(longest[4:]))
    event = said(core, longest + b"\r\n")
    assert isinstance(event, AuthResponse)
    assert event.refusal is not None
    assert event.refusal.reply == replies.AUTH_LINE_TOO_LONG
    initial = longest[:12000]
    assert said(new_core(), b"AUTH PLAIN " + initial + b"\r\n") == AuthStart("PLAIN", base64.b64decode(initial))
    command = said(new_core(), b"NOOP " + longest[:3000] + b"\r\n")
    assert isinstance(command, Invalid)
    assert command.reply == replies.LINE_TOO_LONG


def test_a_response_of_a_megabyte_is_never_held() -> None:
    core = in_exchange(new_core())
    for _ in range(256):
        core.receive(b"A" * 4096)
        assert core.next_event() is None
        assert len(core._lines._buffer) <= Limits().auth_line_bytes
    event = said(core, b"\r\n")
    assert isinstance(event, AuthResponse)
    assert event.refusal is not None
    assert event.refusal.reply == replies.AUTH_LINE_TOO_LONG
    assert core.state is State.GREETED


@pytest.mark.parametrize("forbids", [True, False])
@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"MAIL FROM:<a@b.example>\r\n", b"x", b"AGJvYgBzZWNyZXQ=\r\n"])
@pytest.mark.parametrize("auth", [b"AUTH PLAIN\r\n", b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n"])
def test_nothing_may_be_pipelined_behind_auth(auth: bytes, behind: bytes, forbids: bool) -> None:
    core = new_core(forbids_early_input=forbids)
    event = said(core, auth + behind)
    assert event == Invalid("AUTH", replies.NOT_SYNCHRONIZED, "improper-pipelining")
    assert core.closed


@pytest.mark.parametrize("forbids", [True, False])
def test_nothing_may_be_pipelined_behind_a_response(forbids: bool) -> None:
    core = in_exchange(new_core(forbids_early_input=forbids))
    event = said(core, b"AGJvYgBzZWNyZXQ=\r\nMAIL FROM:<a@b.example>\r\n")
    assert event == Invalid("AUTH", replies.NOT_SYNCHRONIZED, "improper-pipelining")
    assert core.closed


def test_auth_comes_after_helo_and_outside_of_transactions() -> None:
    rules = Rules(Limits(), 0, False, has_login=True)
    core = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
    early = said(core, b"AUTH PLAIN\r\n")
    assert isinstance(early, Invalid)
    assert early.reply == replies.AUTH_NEEDS_HELO
    core = new_core()
    said(core, b"MAIL FROM:<a@b.example>\r\n")
    for line in (b"RCPT TO:<c@d.example>\r\n", b"NOOP\r\n"):
        inside = said(core, b"AUTH PLAIN\r\n")
        assert isinstance(inside, Invalid)
        assert inside.reply == replies.AUTH_IN_TRANSACTION
        said(core, line)


def test_a_bare_line_feed_in_an_exchange_is_refused_or_taken_as_elsewhere() -> None:
    core = in_exchange(new_core())
    assert said(core, b"1234\n") == Invalid("AUTH", replies.BARE_LF_IN_COMMAND, "bare-newline")
    assert core.closed
    core = in_exchange(new_core(bare_newline=BareNewline.NORMALIZE))
    assert said(core, b"1234\n", PROMPT) == AuthResponse(base64.b64decode(b"1234"))


def test_secrets_are_neither_remembered_nor_shown() -> None:
    rules = Rules(Limits(), 0, False, has_login=True)
    for _ in range(2):
        core = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
        said(core, b"EHLO c.example\r\n")
        event = said(core, b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n")
        assert "secret" not in repr(event)
    assert rules.known(b"EHLO c.example\r\n") is not None
    assert rules.known(b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n") is None
    assert "bob" not in repr(AuthResponse(b"bob"))


def test_without_login_auth_is_a_command_that_is_not_there() -> None:
    core = SmtpServer(rules=Rules(Limits(), 0, False), bare_newline=BareNewline.REJECT)
    said(core, b"EHLO c.example\r\n")
    event = said(core, b"AUTH PLAIN\r\n")
    assert isinstance(event, Invalid)
    assert event.reply == replies.NOT_IMPLEMENTED
