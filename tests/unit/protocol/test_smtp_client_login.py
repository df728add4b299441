"""STARTTLS (RFC 3207) and AUTH (RFC 4954) of the client core, by transcripts, in every chunking."""

from __future__ import annotations

import base64

import pytest

from ekiden.message.reply import reply
from ekiden.protocol.smtp.client import (
    FINISHED,
    READY,
    SEND_CONTENT,
    START_TLS,
    ClientRules,
    Event,
    LoggedIn,
    LoginFailed,
    LoginRefused,
    Refused,
    SmtpClient,
    Stage,
    TlsDeclined,
    Transaction,
    Trouble,
)
from ekiden.protocol.smtp.client_extensions import extensions_of
from ekiden.protocol.smtp.client_login import LoginProblem

RULES = ClientRules("client.example")
EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"

every_chunking = pytest.mark.parametrize("chunk", [0, 1, 2, 5])


def feed(client: SmtpClient, data: bytes, chunk: int) -> tuple[Event | None, bytes]:
    event = None
    for at in range(0, len(data), chunk or len(data)):
        client.receive(data[at : at + (chunk or len(data))])
        event = client.next_event() if event is None else event
    return event, client.take_output()


def started(chunk: int, ehlo: bytes = EHLO, rules: ClientRules = RULES) -> SmtpClient:
    client = SmtpClient(rules)
    feed(client, b"220 mx.example ESMTP\r\n", chunk)
    assert feed(client, ehlo, chunk) == (READY, b"")
    return client


class Steps:
    """A mechanism of fixed answers; it is complete when all of them were given."""

    def __init__(self, mechanism: str, initial: bytes | None, *answers: bytes | LoginProblem) -> None:
        self.mechanism, self.initial = mechanism, initial
        self._answers = list(answers)
        self.heard: list[bytes] = []

    @property
    def complete(self) -> bool:
        return not self._answers

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        self.heard.append(challenge)
        return self._answers.pop(0) if self._answers else LoginProblem("more than was expected")


# -- STARTTLS --


@every_chunking
def test_after_the_handshake_everything_said_before_is_forgotten_and_ehlo_comes_again(chunk: int) -> None:
    """RFC 3207 §4.2."""
    client = started(chunk)
    assert client.extensions.starttls
    client.start_tls()
    assert client.take_output() == b"STARTTLS\r\n"
    assert feed(client, b"220 2.0.0 Ready to start TLS\r\n", chunk) == (START_TLS, b"")
    client.tls_established()
    assert not client.extensions.keywords
    assert client.take_output() == b"EHLO client.example\r\n"
    assert feed(client, b"250-mx.example\r\n250 8BITMIME\r\n", chunk) == (READY, b"")
    assert not client.extensions.starttls
    assert not client.extensions.pipelining
    assert client.extensions.eight_bit_mime


@pytest.mark.parametrize("more", [b"250 mx.example\r\n", b"250-mx", b"\x16\x03\x01", b"\n"])
def test_whatever_follows_the_reply_to_starttls_in_plain_text_ends_the_session(more: bytes) -> None:
    """CVE-2011-0411: it would be taken for the answer to the EHLO that goes through TLS (RFC 3207 §4)."""
    client = started(0)
    client.start_tls()
    client.take_output()
    event, out = feed(client, b"220 go ahead\r\n" + more, 0)
    assert isinstance(event, Trouble)
    assert (event.stage, out) == (Stage.STARTTLS, b"")
    assert client.next_event() is None
    with pytest.raises(RuntimeError):
        client.tls_established()


def test_plain_text_that_comes_while_the_handshake_is_due_ends_the_session() -> None:
    client = started(0)
    client.start_tls()
    client.take_output()
    assert feed(client, b"220 go ahead\r\n", 0) == (START_TLS, b"")
    event, _ = feed(client, b"250 mx.example\r\n", 0)
    assert isinstance(event, Trouble)


def test_starttls_is_not_said_to_a_server_that_spoke_unasked() -> None:
    client = started(0)
    client.receive(b"220 go ahead\r\n")
    client.start_tls()
    assert client.take_output() == b""
    assert isinstance(client.next_event(), Trouble)


@every_chunking
def test_a_server_that_declines_starttls_still_has_the_session(chunk: int) -> None:
    client = started(chunk)
    client.start_tls()
    client.take_output()
    event, _ = feed(client, b"454 4.7.0 TLS not available\r\n", chunk)
    assert event == TlsDeclined(reply(454, "4.7.0", "TLS not available"))
    client.begin(Transaction(b"<s@s.example>", [b"<a@d.example>"], size=1))
    assert client.take_output().startswith(b"MAIL FROM:")


@pytest.mark.parametrize("said", [b"421 4.3.2 going down\r\n", b"354 what\r\n"])
def test_a_server_that_closes_in_answer_to_starttls_wants_no_session(said: bytes) -> None:
    client = started(0)
    client.start_tls()
    client.take_output()
    event, _ = feed(client, said, 0)
    assert isinstance(event, Refused)
    assert event.stage is Stage.STARTTLS


def test_starttls_comes_before_any_transaction_or_not_at_all() -> None:
    client = started(0)
    client.begin(Transaction(b"<s@s.example>", [b"<a@d.example>"], size=1))
    with pytest.raises(RuntimeError, match="MAIL"):
        client.start_tls()


# -- AUTH --


@every_chunking
def test_a_login_in_one_step(chunk: int) -> None:
    """RFC 4954 §4."""
    client = started(chunk)
    client.log_in(Steps("PLAIN", b"\0user\0secret"))
    assert client.take_output() == b"AUTH PLAIN " + base64.b64encode(b"\0user\0secret") + b"\r\n"
    assert feed(client, b"235 2.7.0 welcome\r\n", chunk) == (LoggedIn("PLAIN"), b"")
    assert client.logged_in
    assert client.reusable


@every_chunking
def test_a_login_in_several_steps(chunk: int) -> None:
    client = started(chunk)
    exchange = Steps("LOGIN", None, b"user", b"secret")
    client.log_in(exchange)
    assert client.take_output() == b"AUTH LOGIN\r\n"
    assert feed(client, b"334 VXNlcm5hbWU6\r\n", chunk) == (None, base64.b64encode(b"user") + b"\r\n")
    assert feed(client, b"334 \r\n", chunk) == (None, base64.b64encode(b"secret") + b"\r\n")
    assert exchange.heard == [b"Username:", b""]
    assert feed(client, b"235 ok\r\n", chunk) == (LoggedIn("LOGIN"), b"")


def test_an_initial_response_without_bytes_is_an_equals_sign() -> None:
    """RFC 4954 §4."""
    client = started(0)
    client.log_in(Steps("EXTERNAL", b""))
    assert client.take_output() == b"AUTH EXTERNAL =\r\n"


def test_an_initial_response_that_is_too_long_for_a_command_waits_for_the_empty_challenge() -> None:
    """RFC 4954 §4: a command line of AUTH has at most 12288 octets."""
    client = started(0)
    token = b"t" * 9300
    client.log_in(Steps("XOAUTH2", token))
    assert client.take_output() == b"AUTH XOAUTH2\r\n"
    assert feed(client, b"334 \r\n", 0) == (None, base64.b64encode(token) + b"\r\n")
    assert feed(client, b"235 ok\r\n", 0) == (LoggedIn("XOAUTH2"), b"")


@every_chunking
def test_a_refused_login_leaves_the_session_for_another_try(chunk: int) -> None:
    client = started(chunk)
    client.log_in(Steps("PLAIN", b"x"))
    client.take_output()
    event, _ = feed(client, b"535 5.7.8 wrong\r\n", chunk)
    assert event == LoginRefused("PLAIN", reply(535, "5.7.8", "wrong"))
    assert not client.logged_in
    client.log_in(Steps("LOGIN", None))
    assert client.take_output() == b"AUTH LOGIN\r\n"


@pytest.mark.parametrize("said", [b"334 not/base=64\r\n", b"334 \xff\xfe\r\n", b"334 AAA\r\n", b"334 b2s=\r\n"])
def test_an_exchange_that_we_break_off_is_cancelled(said: bytes) -> None:
    """RFC 4954 §4: a single asterisk."""
    client = started(0)
    client.log_in(Steps("PLAIN", b"x"))
    client.take_output()
    assert feed(client, said, 0) == (None, b"*\r\n")
    event, _ = feed(client, b"501 5.7.0 cancelled\r\n", 0)
    assert isinstance(event, LoginFailed)
    assert not client.logged_in


def test_a_server_that_says_yes_before_it_has_shown_who_it_is_is_not_believed() -> None:
    """A mechanism with a last word of the server (RFC 5802 §5) is not done without it."""
    client = started(0)
    client.log_in(Steps("SCRAM-SHA-256", b"n,,n=u,r=1", b"c=biws"))
    client.take_output()
    event, _ = feed(client, b"235 ok\r\n", 0)
    assert isinstance(event, LoginFailed)
    assert not client.logged_in
    assert not client.reusable


def test_a_login_goes_on_with_a_transaction_and_may_say_who_vouches_for_the_message() -> None:
    """RFC 4954 §5: AUTH=<> says nobody."""
    client = started(0, rules=ClientRules("client.example", mail_auth=True))
    client.log_in(Steps("PLAIN", b"x"))
    client.take_output()
    feed(client, b"235 ok\r\n", 0)
    client.begin(Transaction(b"<s@s.example>", [b"<a@d.example>"], size=1))
    assert client.take_output() == b"MAIL FROM:<s@s.example> AUTH=<>\r\nRCPT TO:<a@d.example>\r\nDATA\r\n"
    assert feed(client, b"250 ok\r\n250 ok\r\n354 go\r\n", 0) == (SEND_CONTENT, b"")
    client.end_content()
    client.take_output()
    assert feed(client, b"250 ok\r\n", 0) == (FINISHED, b"")


def test_without_a_login_nobody_is_vouched_for() -> None:
    client = started(0, rules=ClientRules("client.example", mail_auth=True))
    client.begin(Transaction(b"<s@s.example>", [b"<a@d.example>"], size=1))
    assert b"AUTH" not in client.take_output()


# -- what a server offers --


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (("mx", "AUTH PLAIN login"), ("PLAIN", "LOGIN")),
        (("mx", "AUTH=PLAIN LOGIN"), ("PLAIN", "LOGIN")),
        (("mx", "AUTH=LOGIN", "AUTH PLAIN LOGIN"), ("LOGIN", "PLAIN")),
        (("mx", "AUTH"), ()),
        (("mx", "AUTHOR PLAIN"), ()),
    ],
)
def test_mechanisms_are_read_in_both_ways_that_servers_write_them(
    lines: tuple[str, ...], mechanisms: tuple[str, ...]
) -> None:
    assert extensions_of(reply(250, None, *lines)).mechanisms == mechanisms


def test_what_is_to_be_ignored_is_not_offered() -> None:
    offered = extensions_of(reply(250, None, "mx", "STARTTLS", "AUTH PLAIN"), {"STARTTLS", "AUTH"})
    assert not offered.starttls
    assert not offered.mechanisms
