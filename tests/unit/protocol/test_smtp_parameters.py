"""The parameters of MAIL and RCPT: what each takes, and what a client hears that was not offered it."""

from __future__ import annotations

from typing import Any

import pytest

from ekiden.message.address import Address
from ekiden.message.envelope import BodyType, Notify, Ret
from ekiden.message.reply import Reply
from ekiden.message.xtext import decode_xtext, encode_xtext
from ekiden.protocol.smtp import commands
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import By, Invalid, Mail, MailOptions, Rcpt
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS
from ekiden.protocol.smtp.server import BareNewline, SmtpServer
from ekiden.protocol.smtp.verbs import VERBS, Rules

ALL = frozenset(
    {"AUTH", "BINARYMIME", "CHUNKING", "DELIVERBY", "DSN", "FUTURERELEASE", "MT-PRIORITY", "REQUIRETLS", "SMTPUTF8"}
)
PLAIN = Rules(Limits(), 10_000, False)
RULES = PLAIN.offering(ALL)


def mail(parameters: str | bytes, rules: Rules = RULES) -> Mail | Invalid:
    text = parameters.encode() if isinstance(parameters, str) else parameters
    parsed = VERBS[b"MAIL"].parse(b"FROM:<a@b.example> " + text, rules)
    assert isinstance(parsed, Mail | Invalid)
    return parsed


def rcpt(parameters: str | bytes, rules: Rules = RULES) -> Rcpt | Invalid:
    text = parameters.encode() if isinstance(parameters, str) else parameters
    parsed = VERBS[b"RCPT"].parse(b"TO:<a@b.example> " + text, rules)
    assert isinstance(parsed, Rcpt | Invalid)
    return parsed


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        ("SMTPUTF8", "smtputf8", True),
        ("RET=FULL", "ret", Ret.FULL),
        ("ret=hdrs", "ret", Ret.HDRS),
        ("ENVID=QQ314159", "envid", "QQ314159"),
        ("ENVID=a+20b+2B+3D", "envid", "a b+="),
        ("BY=120;R", "by", By(120, returns=True)),
        ("BY=+5;rt", "by", By(5, returns=True, traces=True)),
        ("BY=-5;N", "by", By(-5, returns=False)),
        ("BY=0;NT", "by", By(0, returns=False, traces=True)),
        ("HOLDFOR=86400", "hold_for", 86400),
        ("HOLDUNTIL=2027-01-15T08:00:00Z", "hold_until", 1_800_000_000.0),
        ("HOLDUNTIL=2027-01-15t10:00:00.750+02:00", "hold_until", 1_800_000_000.0),
        ("MT-PRIORITY=-9", "priority", -9),
        ("MT-PRIORITY=0", "priority", 0),
        ("MT-PRIORITY=9", "priority", 9),
        ("REQUIRETLS", "require_tls", True),
        ("AUTH=<>", "auth", "<>"),
        ("AUTH=e+3Dmc2@example.com", "auth", "e=mc2@example.com"),
    ],
)
def test_what_extensions_say_about_a_message(parameters: str, field: str, value: Any) -> None:
    parsed = mail(parameters)
    assert isinstance(parsed, Mail), parsed
    assert parsed.options == MailOptions(**{field: value})


@pytest.mark.parametrize(
    ("parameters", "notify", "orcpt"),
    [
        ("NOTIFY=NEVER", Notify.GIVEN, ""),
        ("notify=success,Delay", Notify.GIVEN | Notify.SUCCESS | Notify.DELAY, ""),
        ("NOTIFY=FAILURE", Notify.GIVEN | Notify.FAILURE, ""),
        ("ORCPT=rfc822;Bob+2Bnews@Big-Bucks.example", None, "rfc822;Bob+news@Big-Bucks.example"),
        (r"ORCPT=utf-8;\x{99C5}@example.com", None, "utf-8;駅@example.com"),
        ("ORCPT=UTF-8;駅@example.com", None, "utf-8;駅@example.com"),
        ("ORCPT=utf-8;+C3+BC@example.com", None, "utf-8;ü@example.com"),
        ("ORCPT=rfc822;+C3+BC@example.com", None, "utf-8;ü@example.com"),
        ("ORCPT=x400;/C=de/", None, None),
        ("NOTIFY=DELAY ORCPT=rfc822;a@b", Notify.GIVEN | Notify.DELAY, "rfc822;a@b"),
    ],
)
def test_what_the_sender_wants_to_hear_of_a_recipient(
    parameters: str, notify: Notify | None, orcpt: str | None
) -> None:
    parsed = rcpt(parameters)
    if orcpt is None:  # "=" must be coded in xtext
        assert isinstance(parsed, Invalid)
        return
    assert parsed == Rcpt(Address("a", "b.example"), notify, orcpt)


@pytest.mark.parametrize(
    "parameters",
    [
        *("RET=", "RET=BOTH", "RET", "RET=\x80"),
        *("ENVID=", "ENVID", "ENVID=a=b", "ENVID=a+2", "ENVID=a+0D+0A", "ENVID=a+ff", "ENVID=ü", "ENVID=" + "x" * 101),
        *("BY=", "BY=5", "BY=5;X", "BY=0;R", "BY=-1;R", "BY=1234567890;R", "BY=5;RTT", "BY=5,R", "BY=;R", "BY=٥;R"),
        *("HOLDFOR=0", "HOLDFOR=", "HOLDFOR=-5", "HOLDFOR=1234567890", "HOLDFOR=05", "HOLDFOR=1h"),
        *("HOLDUNTIL=tomorrow", "HOLDUNTIL=", "HOLDUNTIL=2027-01-15", "HOLDUNTIL=2027-13-15T08:00:00Z"),
        *("HOLDUNTIL=0000-01-01T00:00:00Z", "HOLDUNTIL=2027-01-15T08:00:00", "HOLDUNTIL=2027-01-15T08:00:00+99:99"),
        *("MT-PRIORITY=10", "MT-PRIORITY=-0", "MT-PRIORITY=+1", "MT-PRIORITY=", "MT-PRIORITY"),
        *("REQUIRETLS=", "REQUIRETLS=yes", "SMTPUTF8=1"),
        *("AUTH=", "AUTH", "AUTH=a+0Ab", "AUTH=a=b"),
        *("SIZE", "SIZE=", "SIZE=-1", "SIZE=1e3", "SIZE=" + "1" * 21),
    ],
)
def test_a_value_that_is_none_is_501(parameters: str) -> None:
    parsed = mail(parameters)
    assert isinstance(parsed, Invalid)
    assert (parsed.reply.code, str(parsed.reply.status), parsed.reason) == (501, "5.5.4", "syntax")


@pytest.mark.parametrize(
    "parameters",
    [
        *("NOTIFY=", "NOTIFY", "NOTIFY=NEVER,DELAY", "NOTIFY=SOMETIMES", "NOTIFY=DELAY,", "NOTIFY=,DELAY"),
        *(
            "ORCPT=",
            "ORCPT=a@b",
            "ORCPT=rfc822;",
            "ORCPT=;a@b",
            "ORCPT=rfc822;a+0Db",
            "ORCPT=rfc822;a+00",
            "ORCPT=rfc822;a+0a",
        ),
        *("ORCPT=rfc822;ü@b", r"ORCPT=utf-8;\x{D800}@b", r"ORCPT=utf-8;\x{110000}@b", r"ORCPT=utf-8;\x{0A}@b"),
        *("ORCPT=utf-8;+FF", r"ORCPT=utf-8;\x{2028}", "ORCPT=rfc822;" + "x" * 500, "ORCPT=rf(c;a@b"),
    ],
)
def test_a_value_that_is_none_for_a_recipient_is_501(parameters: str) -> None:
    parsed = rcpt(parameters)
    assert isinstance(parsed, Invalid)
    assert (parsed.reply.code, str(parsed.reply.status), parsed.reason) == (501, "5.5.4", "syntax")


@pytest.mark.parametrize(
    "parameters",
    [
        *("SIZE=1 SIZE=1", "BODY=7BIT BODY=8BITMIME", "SMTPUTF8 SMTPUTF8", "RET=FULL ret=HDRS", "ENVID=a ENVID=a"),
        *("BY=5;R BY=5;R", "HOLDFOR=5 HOLDFOR=5", "HOLDFOR=5 HOLDUNTIL=2027-01-15T08:00:00Z", "REQUIRETLS REQUIRETLS"),
    ],
)
def test_nothing_is_said_twice(parameters: str) -> None:
    parsed = mail(parameters)
    assert isinstance(parsed, Invalid)
    assert parsed.reply == replies.REPEATED_PARAMETER
    assert isinstance(rcpt("NOTIFY=NEVER NOTIFY=NEVER"), Invalid)


EXAMPLES = {
    "SIZE": "1",
    "BODY": "8BITMIME",
    "SMTPUTF8": "",
    "RET": "FULL",
    "ENVID": "x",
    "AUTH": "<>",
    "BY": "5;N",
    "HOLDFOR": "5",
    "HOLDUNTIL": "2027-01-15T08:00:00Z",
    "MT-PRIORITY": "1",
    "REQUIRETLS": "",
    "NOTIFY": "NEVER",
    "ORCPT": "rfc822;a@b",
}


@pytest.mark.parametrize("row", [*MAIL_PARAMETERS.values(), *RCPT_PARAMETERS.values()], ids=lambda row: row.field)
def test_only_what_was_offered_may_be_used(row: Any) -> None:
    """RFC 5321 §4.1.1.11; whatever its value is, and however often it is there."""
    read = mail if row.keyword in MAIL_PARAMETERS else rcpt
    value = EXAMPLES[row.keyword.decode()]
    text = row.keyword.decode() + (f"={value}" if value else "")
    assert not isinstance(read(text), Invalid)
    if not row.extension:
        assert not isinstance(read(text, PLAIN), Invalid)
        return
    for written in (text, row.keyword.decode() + "=\x01nonsense", f"{text} {text}"):
        refused = read(written, RULES.offering(ALL - {row.extension}))
        assert isinstance(refused, Invalid)
        assert (refused.reply.code, str(refused.reply.status)) == (555, "5.5.4")


def test_binary_content_needs_chunks() -> None:
    assert mail("BODY=BINARYMIME") == Mail(Address("a", "b.example"), None, BodyType.BINARY_MIME)
    for missing in ("CHUNKING", "BINARYMIME"):
        refused = mail("BODY=BINARYMIME", PLAIN.offering(ALL - {missing}))
        assert isinstance(refused, Invalid)
        assert refused.reply.code == 555


@pytest.mark.parametrize("size", [60, 600, 2000])
def test_unknown_parameters_are_shown_short_and_printable(size: int) -> None:
    for parameters in (b"X" * size, b"\xff" * size, b"X=" + b"\x80\xc3" * size):
        for read in (mail, rcpt):
            refused = read(parameters)
            assert isinstance(refused, Invalid)
            assert refused.reply.code == 555
            assert len(refused.reply.text) < 120
            assert refused.reply.text.isascii()


def core(offered: frozenset[str], rules: Rules = PLAIN) -> SmtpServer:
    server = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
    server.receive(b"EHLO c.example\r\n")
    assert type(server.next_event()) is commands.Helo
    server.offer(offered)
    server.reply(replies.ehlo_reply("mx.example", sorted(offered)))
    return server


def ask(server: SmtpServer, line: bytes, answer: Reply = replies.OK) -> commands.Event:
    server.receive(line + b"\r\n")
    event = server.next_event()
    assert event is not None
    server.reply(event.reply if isinstance(event, Invalid) else answer)
    return event


def test_sessions_that_were_offered_different_things_do_not_share_what_lines_mean() -> None:
    rules = Rules(Limits(), 0, False)
    line = b"MAIL FROM:<a@b.example> RET=FULL"
    for _ in range(2):
        assert type(ask(core(frozenset({"DSN"}), rules), line)) is Mail
        assert type(ask(core(frozenset(), rules), line)) is Invalid


def test_an_offer_ends_with_the_next_one() -> None:
    server = core(frozenset({"DSN"}))
    server.receive(b"HELO c.example\r\n")
    assert type(server.next_event()) is commands.Helo
    server.offer(frozenset())
    server.reply(replies.helo_reply("mx.example"))
    assert type(ask(server, b"MAIL FROM:<a@b.example> RET=FULL")) is Invalid


def test_addresses_beyond_ascii_need_smtputf8_in_this_transaction() -> None:
    """RFC 6531 §3.4, §3.5"""
    server = core(frozenset({"SMTPUTF8"}))
    refused = ask(server, "MAIL FROM:<jürgen@b.example>".encode())
    assert isinstance(refused, Invalid)
    assert (refused.reply.code, str(refused.reply.status)) == (553, "5.6.7")
    for declared in (True, False, True):
        ask(server, b"MAIL FROM:<a@b.example>" + (b" SMTPUTF8" if declared else b""))
        for address in ("駅伝@here.example", "a@bücher.example", '"a ü"@here.example'):
            event = ask(server, f"RCPT TO:<{address}>".encode())
            if declared:
                assert isinstance(event, Rcpt)
                assert str(event.address) == address or event.address.local == "a ü"
            else:
                assert isinstance(event, Invalid)
                assert event.reason == "needs-smtputf8"
        ask(server, b"RSET")


@pytest.mark.parametrize(
    "address",
    [
        b"\xff@b.example",
        b"\xc3@b.example",
        b"\xed\xa0\x80@b.example",
        b"a@\xc0\xafb",
        b"\xc2\x85@b",
        b"a\xe2\x80\xa8@b",
    ],
)
def test_what_is_no_utf8_or_no_text_is_no_address(address: bytes) -> None:
    server = core(frozenset({"SMTPUTF8"}))
    refused = ask(server, b"MAIL FROM:<" + address + b"> SMTPUTF8")
    assert isinstance(refused, Invalid)
    assert (refused.reply.code, str(refused.reply.status)) == (501, "5.1.7")
    ask(server, b"MAIL FROM:<a@b.example> SMTPUTF8")
    refused = ask(server, b"RCPT TO:<" + address + b">")
    assert isinstance(refused, Invalid)
    assert (refused.reply.code, str(refused.reply.status)) == (501, "5.1.3")


@pytest.mark.parametrize("data", [b"", b"plain", b"a b", b"a+b=c", bytes(range(256))])
def test_xtext_carries_any_bytes(data: bytes) -> None:
    """RFC 3461 §4"""
    assert decode_xtext(encode_xtext(data)) == data


@pytest.mark.parametrize("data", [b"a b", b"a=b", b"+", b"+4", b"+4g", b"+4a", b"\x80", b"\r\n"])
def test_what_is_no_xtext(data: bytes) -> None:
    assert decode_xtext(data) is None
