"""The server core of LMTP (RFC 2033): its greeting, and one reply for each recipient."""

from __future__ import annotations

import pytest

from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import commands, server_replies
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.lmtp_server import LmtpServer
from ekiden.protocol.smtp.server import SmtpServer
from ekiden.protocol.smtp.verbs import Rules

ENVELOPE = b"LHLO c.example\r\nMAIL FROM:<a@b.example>\r\n"
CONTENT = b"Subject: x\r\n\r\nHello\r\n.\r\n"


def hold(said: bytes, outcome: Reply, *, is_lmtp: bool = True, chunk: int = 4096) -> list[str]:
    """The codes of the replies to ``said``; ``outcome`` is what the queue says of each message."""
    rules = Rules(Limits(), 0, False, is_lmtp=is_lmtp)
    core = (LmtpServer if is_lmtp else SmtpServer)(rules=rules, bare_newline=BareNewline.REJECT)
    core.offer(frozenset({"CHUNKING"}))
    output = b""
    for at in range(0, len(said), chunk):
        core.receive(said[at : at + chunk])
        while (event := core.next_event()) is not None:
            match event:
                case commands.Content() | commands.FirstChunk():
                    continue
                case commands.Invalid(reply=answer):
                    core.reply(answer)
                case commands.Data():
                    core.reply(server_replies.SEND_CONTENT)
                case commands.EndOfContent():
                    core.reply(outcome)
                case commands.Rcpt(address=address) if address.local == "nobody":
                    core.reply(reply(550, "5.1.1", "User unknown"))
                case commands.Quit():
                    core.reply(server_replies.BYE)
                case _:
                    core.reply(server_replies.OK)
        output += core.take_output()
    return [line[:3] for line in output.decode().splitlines()]


def recipients(*names: str) -> bytes:
    return b"".join(f"RCPT TO:<{name}@here.example>\r\n".encode() for name in names)


@pytest.mark.parametrize("outcome", [server_replies.OK, reply(452, "4.3.1", "full"), reply(550, "5.7.1", "no")])
@pytest.mark.parametrize("chunk", [1, 4096])
def test_each_accepted_recipient_gets_a_reply(outcome: Reply, chunk: int) -> None:
    code = str(outcome.code)
    said = ENVELOPE + recipients("u", "nobody", "v", "u") + b"DATA\r\n" + CONTENT + b"QUIT\r\n"
    expected = ["250", "250", "250", "550", "250", "250", "354", code, code, code, "221"]
    assert hold(said, outcome, chunk=chunk) == expected
    assert hold(said.replace(b"LHLO", b"EHLO"), outcome, is_lmtp=False) == [*expected[:7], code, "221"]


def test_recipients_of_a_transaction_before_do_not_count() -> None:
    said = (
        ENVELOPE
        + recipients("u", "v")
        + b"DATA\r\n"
        + CONTENT
        + ENVELOPE[16:]
        + recipients("w")
        + b"DATA\r\n"
        + CONTENT
    )
    assert hold(said, server_replies.OK)[-6:] == ["250", "250", "250", "250", "354", "250"]
    said = ENVELOPE + recipients("u", "v") + b"RSET\r\n" + ENVELOPE[16:] + recipients("w") + b"DATA\r\n" + CONTENT
    assert hold(said, server_replies.OK)[-3:] == ["250", "354", "250"]
    said = ENVELOPE + recipients("u", "v") + ENVELOPE + recipients("w") + b"DATA\r\n" + CONTENT
    assert hold(said, server_replies.OK)[-3:] == ["250", "354", "250"]


def test_a_farewell_is_for_all_recipients() -> None:
    said = ENVELOPE + recipients("u", "v") + b"DATA\r\n" + CONTENT + b"QUIT\r\n"
    assert hold(said, reply(421, "4.7.0", "too many errors", closes=True))[-2:] == ["354", "421"]


def test_data_without_a_recipient_is_503() -> None:
    # RFC 2033 §4.2: 503, where SMTP says 554.
    assert hold(ENVELOPE + b"DATA\r\n", server_replies.OK)[-1] == "503"
    assert hold(ENVELOPE + recipients("nobody") + b"DATA\r\n", server_replies.OK)[-2:] == ["550", "503"]
    assert hold(b"DATA\r\n", server_replies.OK) == ["503"]


@pytest.mark.parametrize(("is_lmtp", "wrong"), [(True, b"HELO"), (True, b"EHLO"), (False, b"LHLO")])
def test_each_protocol_has_its_own_greeting(is_lmtp: bool, wrong: bytes) -> None:
    assert hold(wrong + b" c.example\r\n", server_replies.OK, is_lmtp=is_lmtp) == ["500"]


def test_the_greeting_wants_a_name() -> None:
    assert hold(b"LHLO\r\nlhlo c.example\r\n", server_replies.OK) == ["501", "250"]


@pytest.mark.parametrize("chunk", [1, 4096])
def test_chunks_are_answered_once_and_the_last_one_for_each_recipient(chunk: int) -> None:
    # RFC 2033 §4.3
    said = ENVELOPE + recipients("u", "nobody", "v") + b"BDAT 5\r\nabc\r\nBDAT 3 LAST\r\nd\r\nNOOP\r\n"
    expected = ["250", "250", "250", "550", "250", "250", "452", "452", "250"]
    assert hold(said, reply(452, "4.3.1", "full"), chunk=chunk) == expected
    assert hold(ENVELOPE + recipients("nobody") + b"BDAT 3 LAST\r\na\r\n", server_replies.OK)[-1] == "503"
