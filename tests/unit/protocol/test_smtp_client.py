"""The client core by transcripts: what the server says, what goes out, which event comes, in every chunking."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ekiden.message.address import Address
from ekiden.protocol.smtp.client import (
    CLOSED,
    FINISHED,
    READY,
    SEND_CONTENT,
    ClientRules,
    Event,
    Refused,
    SmtpClient,
    SpokeToSelf,
    Stage,
    Transaction,
    Trouble,
)
from ekiden.protocol.smtp.client_transaction import wire_path

RULES = ClientRules("client.example")
LMTP = ClientRules("client.example", lmtp=True)
EHLO = b"250-mx.example at your service\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 8BITMIME\r\n"
PLAIN_EHLO = b"250 mx.example\r\n"
CHUNKS = [0, 1, 2, 5]

pytestmark = pytest.mark.parametrize("chunk", CHUNKS)


def feed(client: SmtpClient, data: bytes, chunk: int) -> tuple[Event | None, bytes]:
    """One turn of the server: the first event of it, and what the client sends in answer."""
    event = None
    for at in range(0, len(data), chunk or len(data)):
        client.receive(data[at : at + (chunk or len(data))])
        event = client.next_event() if event is None else event
    return event, client.take_output()


def started(chunk: int, ehlo: bytes = EHLO, rules: ClientRules = RULES) -> SmtpClient:
    client = SmtpClient(rules)
    event, out = feed(client, b"220 mx.example ESMTP\r\n", chunk)
    assert (event, out) == (None, b"LHLO client.example\r\n" if rules.lmtp else b"EHLO client.example\r\n")
    event, out = feed(client, ehlo, chunk)
    assert (event, out) == (READY, b"")
    return client


def transaction(*recipients: str, size: int = 10, eight_bit: bool = False) -> Transaction:
    paths = [f"<{name}@d.example>".encode() for name in recipients]
    return Transaction(b"<s@s.example>", paths, size=size, eight_bit=eight_bit)


def decided(client: SmtpClient) -> list[tuple[str, int] | None]:
    return [None if known is None else (known.stage.name, known.reply.code) for known in client.outcomes]


def begun(client: SmtpClient, *recipients: str) -> bytes:
    client.begin(transaction(*recipients))
    return client.take_output()


BURST = b"MAIL FROM:<s@s.example> SIZE=10\r\nRCPT TO:<a@d.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n"


def test_a_pipelining_server_gets_the_envelope_in_one_write_and_the_dot_with_the_content(chunk: int) -> None:
    client = started(chunk)
    assert begun(client, "a", "b") == BURST
    assert feed(client, b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 no b\r\n354 go\r\n", chunk) == (SEND_CONTENT, b"")
    client.send_content(b"Subject: x\r\n\r\n.dot")
    client.end_content()
    assert client.take_output() == b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    assert client.stage is Stage.END_OF_DATA
    assert feed(client, b"250 2.0.0 queued as 1\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("END_OF_DATA", 250), ("RCPT", 550)]
    assert client.reusable
    assert begun(client, "a", "b") == BURST  # at once: the last transaction left nothing behind


TAKEN = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 no b\r\n354 go\r\n"


def test_content_that_the_transaction_brings_goes_out_when_the_server_waits_for_it(chunk: int) -> None:
    client = started(chunk)
    paths = [b"<a@d.example>", b"<b@d.example>"]
    client.begin(Transaction(b"<s@s.example>", paths, size=10, content=b"Subject: x\r\n\r\n.dot", early=True))
    assert client.take_output() == BURST  # what may go early is for chunks alone
    assert feed(client, TAKEN, chunk) == (None, b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    assert client.stage is Stage.END_OF_DATA
    assert client.transaction is not None
    assert client.transaction.content is None  # it does not stay in memory with the connection
    assert feed(client, b"250 2.0.0 queued as 1\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("END_OF_DATA", 250), ("RCPT", 550)]
    assert client.reusable


def test_content_that_the_transaction_brings_waits_for_what_the_server_says_unasked(chunk: int) -> None:
    if chunk:
        return  # in pieces it comes too late
    client = started(chunk)
    paths = [b"<a@d.example>", b"<b@d.example>"]
    client.begin(Transaction(b"<s@s.example>", paths, size=10, content=b"x"))
    client.take_output()
    client.receive(TAKEN + b"552 too big\r\n")
    assert client.next_event() == SEND_CONTENT
    assert client.next_event() == FINISHED
    assert client.take_output() == b""
    assert decided(client) == [("END_OF_DATA", 552), ("RCPT", 550)]


def test_without_pipelining_each_command_waits_for_its_reply(chunk: int) -> None:
    client = started(chunk, PLAIN_EHLO)
    assert begun(client, "a", "b") == b"MAIL FROM:<s@s.example>\r\n"
    assert feed(client, b"250 Ok\r\n", chunk) == (None, b"RCPT TO:<a@d.example>\r\n")
    assert feed(client, b"450 later\r\n", chunk) == (None, b"RCPT TO:<b@d.example>\r\n")
    assert feed(client, b"250 Ok\r\n", chunk) == (None, b"DATA\r\n")
    assert feed(client, b"354 go\r\n", chunk) == (SEND_CONTENT, b"")
    client.send_content(b"x\r\n")
    client.end_content()
    assert client.take_output() == b"x\r\n.\r\n"
    assert feed(client, b"250 Ok\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("RCPT", 450), ("END_OF_DATA", 250)]


def test_all_recipients_refused_one_by_one_ends_without_data_and_resets_before_the_next(chunk: int) -> None:
    client = started(chunk, PLAIN_EHLO)
    begun(client, "a")
    feed(client, b"250 Ok\r\n", chunk)
    assert feed(client, b"550 no\r\n", chunk) == (FINISHED, b"")
    assert begun(client, "b") == b"RSET\r\n"
    assert client.stage is Stage.RSET
    assert feed(client, b"250 Ok\r\n", chunk) == (None, b"MAIL FROM:<s@s.example>\r\n")


def test_all_recipients_refused_in_a_burst_and_data_too(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a", "b")
    assert feed(client, b"250 Ok\r\n550 no\r\n451 later\r\n554 no valid recipients\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("RCPT", 550), ("RCPT", 451)]
    assert begun(client, "a", "b") == b"RSET\r\n" + BURST
    reply = b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n"
    assert feed(client, reply, chunk) == (SEND_CONTENT, b"")


def test_all_recipients_refused_but_data_accepted_gets_a_lone_dot(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a")
    assert feed(client, b"250 Ok\r\n550 no\r\n354 go\r\n", chunk) == (None, b".\r\n")  # RFC 2920 §3.1
    assert feed(client, b"250 took nothing\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("RCPT", 550)]
    assert client.reusable


def test_lmtp_without_recipients_never_sends_a_dot_that_has_no_reply(chunk: int) -> None:
    client = started(chunk, EHLO, LMTP)
    begun(client, "a")
    assert feed(client, b"250 Ok\r\n550 no\r\n354 go\r\n", chunk) == (FINISHED, b"")
    assert not client.reusable


def test_mail_refused_decides_all_and_the_rest_of_the_burst_decides_nothing(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a", "b")
    data = b"550 5.7.1 not you\r\n503 need MAIL\r\n250 Ok\r\n503 need RCPT\r\n"
    assert feed(client, data, chunk) == (FINISHED, b"")
    assert decided(client) == [("MAIL", 550), ("MAIL", 550)]
    assert begun(client, "a", "b") == BURST  # nothing to reset


def test_mail_refused_but_data_accepted_gets_no_dot(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a")
    assert feed(client, b"451 later\r\n250 Ok\r\n354 go\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("MAIL", 451)]
    assert not client.reusable


def test_mail_refused_one_by_one_ends_there(chunk: int) -> None:
    client = started(chunk, PLAIN_EHLO)
    begun(client, "a")
    assert feed(client, b"451 later\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("MAIL", 451)]


def test_data_refused_decides_those_that_were_accepted(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a", "b")
    assert feed(client, b"250 Ok\r\n250 Ok\r\n550 no\r\n451 4.3.0 busy\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("DATA", 451), ("RCPT", 550)]
    assert begun(client, "a", "b") == b"RSET\r\n" + BURST


def test_lmtp_has_one_reply_for_each_accepted_recipient(chunk: int) -> None:
    client = started(chunk, EHLO, LMTP)
    begun(client, "a", "b", "c")
    assert feed(client, b"250 Ok\r\n250 Ok\r\n550 no\r\n250 Ok\r\n354 go\r\n", chunk)[0] == SEND_CONTENT
    client.send_content(b"x\r\n")
    client.end_content()
    client.take_output()
    assert feed(client, b"250 2.0.0 a\r\n", chunk) == (None, b"")
    assert feed(client, b"452 4.2.2 full\r\n", chunk) == (FINISHED, b"")  # RFC 2033 §4.2
    assert decided(client) == [("END_OF_DATA", 250), ("RCPT", 550), ("END_OF_DATA", 452)]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([b"421 bye\r\n"], [("MAIL", 421), ("MAIL", 421)]),
        ([b"250 Ok\r\n421 bye\r\n"], [("RCPT", 421), ("RCPT", 421)]),
        ([b"250 Ok\r\n550 no\r\n421 bye\r\n"], [("RCPT", 550), ("RCPT", 421)]),
        ([b"250 Ok\r\n250 Ok\r\n250 Ok\r\n421 bye\r\n"], [("DATA", 421), ("DATA", 421)]),
        ([b"250 Ok\r\n250 Ok\r\n550 no\r\n354 go\r\n", b"421 bye\r\n"], [("END_OF_DATA", 421), ("RCPT", 550)]),
    ],
)
def test_421_puts_off_who_is_not_decided_and_ends_the_session(
    turns: Sequence[bytes], expected: list[tuple[str, int]], chunk: int
) -> None:
    client = started(chunk)
    begun(client, "a", "b")
    for turn in turns:
        event, _ = feed(client, turn, chunk)
        if event is SEND_CONTENT:
            client.send_content(b"x\r\n")
            client.end_content()
            client.take_output()
    assert event is FINISHED
    assert decided(client) == expected
    assert not client.reusable


@pytest.mark.parametrize(
    ("greeting", "ehlo", "helo", "stage"),
    [
        (b"554 5.3.2 no\r\n", b"", b"", Stage.GREETING),
        (b"421 busy\r\n", b"", b"", Stage.GREETING),
        (b"220 x\r\n", b"451 later\r\n", b"", Stage.EHLO),
        (b"220 x\r\n", b"421 later\r\n", b"", Stage.EHLO),
        (b"220 x\r\n", b"502 what?\r\n", b"550 not you\r\n", Stage.HELO),
    ],
)
def test_a_server_that_wants_no_session(greeting: bytes, ehlo: bytes, helo: bytes, stage: Stage, chunk: int) -> None:
    client = SmtpClient(RULES)
    event = None
    for turn in (greeting, ehlo, helo):
        if turn:
            event, _ = feed(client, turn, chunk)
    assert isinstance(event, Refused)
    assert event.stage is stage


def test_a_server_that_knows_helo_only(chunk: int) -> None:
    client = SmtpClient(RULES)
    feed(client, b"220 old.example\r\n", chunk)
    assert feed(client, b"500 what?\r\n", chunk) == (None, b"HELO client.example\r\n")
    assert feed(client, b"250 old.example hello\r\n", chunk) == (READY, b"")
    assert begun(client, "a") == b"MAIL FROM:<s@s.example>\r\n"


@pytest.mark.parametrize(
    ("rules", "greeting", "verb"),
    [
        (ClientRules("c", never_ehlo=True), b"220 mx.example ESMTP\r\n", b"HELO c\r\n"),
        (ClientRules("c", always_ehlo=False), b"220 mx.example SMTP\r\n", b"HELO c\r\n"),
        (ClientRules("c", always_ehlo=False), b"220-mx.example\r\n220 esmtp here\r\n", b"EHLO c\r\n"),
    ],
)
def test_which_hello_is_said(rules: ClientRules, greeting: bytes, verb: bytes, chunk: int) -> None:
    assert feed(SmtpClient(rules), greeting, chunk) == (None, verb)


def test_extensions_add_their_parameters_and_can_be_discarded(chunk: int) -> None:
    client = started(chunk)
    client.begin(transaction("a", eight_bit=True))
    assert client.take_output().startswith(b"MAIL FROM:<s@s.example> SIZE=10 BODY=8BITMIME\r\n")
    assert client.extensions.size_limit == 1_000_000
    quiet = started(chunk, EHLO, ClientRules("client.example", discard_keywords=frozenset({"PIPELINING", "SIZE"})))
    assert begun(quiet, "a") == b"MAIL FROM:<s@s.example>\r\n"


def test_smtputf8_is_asked_for_when_an_address_needs_it(chunk: int) -> None:
    client = started(chunk, b"250-mx\r\n250 SMTPUTF8\r\n")
    client.begin(Transaction(b"<>", ["<宛先@d.example>".encode()], size=1))
    assert client.take_output() == b"MAIL FROM:<> SMTPUTF8\r\n"


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE x", b"SIZE -1", b"SIZE 99999999999999999999999"])
def test_a_size_that_is_no_size_limits_nothing(size: bytes, chunk: int) -> None:
    assert started(chunk, b"250-mx\r\n250 " + size + b"\r\n").extensions.size_limit == 0


@pytest.mark.parametrize("ehlo", [b"", b"250 Me.Example hello\r\n"])
def test_a_server_with_our_own_name_is_ourselves(ehlo: bytes, chunk: int) -> None:
    client = SmtpClient(RULES, own_name="me.example")
    event, _ = feed(client, b"220 mx.example\r\n" if ehlo else b"220 ME.example ESMTP\r\n", chunk)
    if ehlo:
        event, _ = feed(client, ehlo, chunk)
    assert isinstance(event, SpokeToSelf)
    assert not client.reusable


@pytest.mark.parametrize(
    "turns",
    [
        [b"354 go\r\n"],
        [b"250 Ok\r\n354 go\r\n"],
        [b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n"],
        [b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n", b"354 go on\r\n"],
        [b"oops\r\n"],
        [b"250 Ok\r\n\x00\xff\r\n"],
        [b"250-Ok\r\n550 no\r\n"],
        [b"250 " + b"x" * 5000],
        [b"250-x\r\n" * 1000],
    ],
)
def test_nonsense_is_trouble_that_decides_nobody(turns: Sequence[bytes], chunk: int) -> None:
    client = started(chunk)
    begun(client, "a", "b")
    for turn in turns:
        event, _ = feed(client, turn, chunk)
        if event is SEND_CONTENT:
            client.send_content(b"x\r\n")
            client.end_content()
            client.take_output()
    assert isinstance(event, Trouble)
    assert decided(client) == [None, None]
    assert not client.reusable
    assert feed(client, b"250 Ok\r\n", chunk) == (None, b"")  # nothing counts any more


def test_a_reply_before_its_question_is_trouble(chunk: int) -> None:
    client = SmtpClient(RULES)
    event, out = feed(client, b"220 mx.example\r\n250 mx.example\r\n", chunk)
    assert isinstance(event, Trouble)
    assert out == b""


def test_an_acceptance_before_the_content_is_trouble_and_no_content_is_sent(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a")
    event, _ = feed(client, b"250 Ok\r\n250 Ok\r\n354 go\r\n250 Ok\r\n", chunk)
    if event is SEND_CONTENT:
        client.send_content(b"secret\r\n")
        client.end_content()
        event = client.next_event()
    assert isinstance(event, Trouble)
    assert client.take_output() == b""


def test_a_refusal_in_the_middle_of_the_content_stops_it(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a")
    feed(client, b"250 Ok\r\n250 Ok\r\n354 go\r\n", chunk)
    client.send_content(b"first\r\n")
    assert client.take_output() == b"first\r\n"
    assert feed(client, b"552 5.3.4 too big\r\n", chunk)[0] == FINISHED
    client.send_content(b"second\r\n")
    client.end_content()
    assert client.take_output() == b""
    assert decided(client) == [("END_OF_DATA", 552)]
    assert not client.reusable


def test_a_reset_refused_is_no_word_about_the_recipients(chunk: int) -> None:
    client = started(chunk)
    begun(client, "a")
    feed(client, b"250 Ok\r\n550 no\r\n554 no\r\n", chunk)
    begun(client, "b")
    event, _ = feed(client, b"503 what?\r\n", chunk)
    assert isinstance(event, Trouble)
    assert decided(client) == [None]


@pytest.mark.parametrize(
    ("reply", "code"),
    [(b"552 too many\r\n", 452), (b"552 5.5.3 too many\r\n", 452), (b"552 5.2.2 full\r\n", 552), (b"550 no\r\n", 550)],
)
def test_552_after_an_accepted_recipient_may_mean_too_many(reply: bytes, code: int, chunk: int) -> None:
    client = started(chunk)
    begun(client, "a", "b")
    feed(client, b"250 Ok\r\n250 Ok\r\n" + reply, chunk)
    assert decided(client)[1] == ("RCPT", code)  # RFC 5321 §4.5.3.1.10


def test_words_between_messages_make_the_session_unusable(chunk: int) -> None:
    client = started(chunk)
    assert client.reusable
    event, _ = feed(client, b"421 4.4.2 idle too long\r\n", chunk)
    assert isinstance(event, Trouble)
    assert not client.reusable
    partial = started(chunk)
    feed(partial, b"42", chunk)
    assert not partial.reusable


def test_quit(chunk: int) -> None:
    client = started(chunk)
    client.quit()
    assert client.take_output() == b"QUIT\r\n"
    assert feed(client, b"221 2.0.0 bye\r\n", chunk) == (CLOSED, b"")
    client.quit()
    assert client.take_output() == b""


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (Address("a", "b.example"), b"<a@b.example>"),
        (Address("", ""), b"<>"),
        (Address("postmaster"), b"<postmaster>"),
        (Address("a b>c", "d.example"), b'<"a b>c"@d.example>'),
        (Address("a\r\nRCPT TO:<x@y>", "d.example"), None),
        (Address("a\x00", "d.example"), None),
        (Address("a", "d.example> SIZE=1"), None),
        (Address("a", "d\n"), None),
        (Address("a", "[IPv6:::1]"), b"<a@[IPv6:::1]>"),
    ],
)
def test_no_address_can_hold_a_command(address: Address, path: bytes | None, chunk: int) -> None:
    assert wire_path(address) == path


# -- BDAT (RFC 3030)

CHUNKING = EHLO.replace(b"8BITMIME", b"CHUNKING")


def test_small_content_goes_with_the_envelope_in_one_write(chunk: int) -> None:
    client = started(chunk, CHUNKING)
    paths = [b"<a@d.example>", b"<b@d.example>"]
    client.begin(Transaction(b"<s@s.example>", paths, size=10, chunked=True, content=b"\r\n.\nx", early=True))
    assert client.take_output() == BURST.replace(b"DATA\r\n", b"BDAT 8 LAST\r\n\r\n.\r\nx\r\n")
    event, out = feed(client, b"250 Ok\r\n250 Ok\r\n550 no\r\n250 2.0.0 queued\r\n", chunk)
    assert (event, out) == (FINISHED, b"")
    assert decided(client) == [("END_OF_DATA", 250), ("RCPT", 550)]
    assert client.reusable


def test_a_partial_reply_to_a_chunk_loses_no_content(chunk: int) -> None:
    client = started(chunk, CHUNKING)
    client.begin(Transaction(b"<s@s.example>", [b"<a@d.example>"], size=10, chunked=True))
    client.take_output()
    assert feed(client, b"250 Ok\r\n250 Ok\r\n", chunk) == (SEND_CONTENT, b"")
    client.send_content(b"one\r\n")
    client.send_content(b"two\r\n")
    assert client.take_output() == b"BDAT 5\r\none\r\n"
    assert feed(client, b"250 ch", chunk)[0] is None
    client.send_content(b"three\r\n")
    client.end_content()
    assert client.take_output() == b"BDAT 5\r\ntwo\r\nBDAT 7 LAST\r\nthree\r\n"
    assert feed(client, b"unk\r\n250 chunk\r\n250 all\r\n", chunk) == (FINISHED, b"")
    assert decided(client) == [("END_OF_DATA", 250)]


def test_binary_content_goes_as_it_is(chunk: int) -> None:
    """RFC 3030 §3: no line is broken, no bare newline mended."""
    client = started(chunk, CHUNKING.replace(b"250 ", b"250-BINARYMIME\r\n250 "))
    data = b"\r\r\n\x00\n" + b"x" * 5000
    client.begin(
        Transaction(b"<s@s.example>", [b"<a@d.example>"], size=10, chunked=True, binary=True, content=data, early=True)
    )
    out = client.take_output()
    assert b" BODY=BINARYMIME\r\n" in out
    assert out.endswith(b"BDAT 5005 LAST\r\n" + data)


def test_lmtp_answers_the_last_chunk_once_a_recipient(chunk: int) -> None:
    client = started(chunk, CHUNKING, LMTP)
    paths = [b"<a@d.example>", b"<b@d.example>"]
    client.begin(Transaction(b"<s@s.example>", paths, size=10, chunked=True, content=b"x", early=True))
    client.take_output()
    assert feed(client, b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 a\r\n", chunk)[0] is None
    assert feed(client, b"452 b\r\n", chunk)[0] == FINISHED
    assert decided(client) == [("END_OF_DATA", 250), ("END_OF_DATA", 452)]
