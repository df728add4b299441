"""The smtp agent and what servers offer: the parameters of MAIL and RCPT, SMTPUTF8 or the lack of it, LIMITS."""

from __future__ import annotations

import email
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import BodyType, Client, DeliverBy, Envelope, Notify, Recipient, Ret
from ekiden.protocol.smtp.client_xforward import xforward
from support.fake_peer import Act, Answer, FakePeer
from support.honours import honours
from support.smtp_delivery import Notes, agent_for, brief, request, run

GIVEN = Notify.GIVEN


def offering(*keywords: str) -> dict[str, Answer | list[Answer]]:
    lines = ["fake.example", "PIPELINING", "8BITMIME", *keywords]
    return {
        "EHLO": "".join(f"250{'-' if at < len(lines) - 1 else ' '}{line}\r\n" for at, line in enumerate(lines)).encode()
    }


async def delivered_to(
    script: dict[str, Answer | list[Answer]], wanted: DeliveryRequest, **settings: str
) -> tuple[Sequence[DeliveryResult], FakePeer]:
    async with FakePeer(script) as peer:
        agent = agent_for(peer, settings=settings)
        try:
            return await agent.deliver(wanted), peer
        finally:
            await agent.close()


def envelope_lines(peer: FakePeer) -> list[bytes]:
    return [line.strip() for line in peer.lines if line[:4] in (b"MAIL", b"RCPT")]


def asking(*recipients: Recipient, **envelope: object) -> DeliveryRequest:
    values = {"sender": Address("s", "s.example"), **envelope}
    return structs.replace(request("a"), recipients=recipients, envelope=Envelope(**values))  # type: ignore[arg-type]


A = Address("a", "d.example")


# -- DSN (RFC 3461)


def test_what_the_sender_asks_of_reports_goes_on_to_a_server_with_dsn() -> None:
    wanted = asking(
        Recipient(A, notify=GIVEN | Notify.SUCCESS | Notify.DELAY, orcpt="rfc822;who+me=x@o.example"),
        Recipient(Address("b", "d.example"), notify=GIVEN),
        Recipient(Address("c", "d.example")),
        Recipient(Address("bcc", "d.example"), notify=Notify.NEVER),
        Recipient(Address("new", "d.example"), original=Address("old", "here.example")),
        ret=Ret.HDRS,
        envid="id 1+=\u00e9",
    )
    results, peer = run_for(offering("DSN"), wanted)
    assert envelope_lines(peer) == [
        b"MAIL FROM:<s@s.example> RET=HDRS ENVID=id+201+2B+3D+C3+A9",
        b"RCPT TO:<a@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;who+2Bme+3Dx@o.example",
        b"RCPT TO:<b@d.example> NOTIFY=NEVER",
        b"RCPT TO:<c@d.example>",
        b"RCPT TO:<bcc@d.example> NOTIFY=NEVER",
        b"RCPT TO:<new@d.example> ORCPT=rfc822;old@here.example",
    ]
    assert {result.dsn_passed for result in results} == {True}


@pytest.mark.parametrize("settings", [{}, {"smtp_discard_ehlo_keywords": "dsn"}])
def test_a_server_without_dsn_hears_nothing_of_reports(settings: dict[str, str]) -> None:
    wanted = asking(Recipient(A, notify=GIVEN | Notify.SUCCESS, orcpt="rfc822;x@y"), ret=Ret.FULL, envid="e")
    results, peer = run_for(offering("DSN") if settings else offering(), wanted, **settings)
    assert envelope_lines(peer) == [b"MAIL FROM:<s@s.example>", b"RCPT TO:<a@d.example>"]
    assert not results[0].dsn_passed


def test_an_international_original_recipient_is_escaped_unless_the_session_is_utf8() -> None:
    """RFC 6533 §3."""
    orcpt = "utf-8;j\u00f6rg\\+x@\u4f8b.example"
    _, peer = run_for(offering("DSN", "SMTPUTF8"), asking(Recipient(A, orcpt=orcpt)))
    assert envelope_lines(peer)[1] == rb"RCPT TO:<a@d.example> ORCPT=utf-8;j\x{F6}rg\x{5C}\x{2B}x@\x{4F8B}.example"
    j = Recipient(Address("j\u00f6rg", "d.example"), orcpt=orcpt)
    _, peer = run_for(offering("DSN", "SMTPUTF8"), asking(j))
    assert envelope_lines(peer) == [
        b"MAIL FROM:<s@s.example> SMTPUTF8",
        "RCPT TO:<j\u00f6rg@d.example> ORCPT=utf-8;j\u00f6rg\\x{5C}\\x{2B}x@\u4f8b.example".encode(),
    ]


def test_nothing_that_a_sender_gave_breaks_out_of_its_parameter() -> None:
    evil = "x\r\nRCPT TO:<evil@d.example> NOTIFY=NEVER\x00"
    wanted = asking(Recipient(A, orcpt=f"rfc822;{evil}"), Recipient(A, orcpt=f"x y;{evil}"), envid=evil)
    _, peer = run_for(offering("DSN"), wanted)
    lines = envelope_lines(peer)
    assert len(lines) == 3
    assert lines[1].startswith(b"RCPT TO:<a@d.example> ORCPT=rfc822;x+0D+0ARCPT+20TO:<evil@")
    assert lines[2] == b"RCPT TO:<a@d.example>"  # no address type


# -- DELIVERBY, MT-PRIORITY, REQUIRETLS


def run_for(
    script: dict[str, Answer | list[Answer]], wanted: DeliveryRequest, **settings: str
) -> tuple[Sequence[DeliveryResult], FakePeer]:
    found: list[tuple[Sequence[DeliveryResult], FakePeer]] = []

    async def work() -> None:
        found.append(await delivered_to(script, wanted, **settings))

    run(work())
    return found[0]


def test_time_and_priority_go_on() -> None:
    # The clock of the agent is the system's: the time left is so long that a second more or less does not show.
    wanted = asking(Recipient(A), deliver_by=DeliverBy(until=4e12, returns=True, traces=True), priority=-3)
    results, peer = run_for(offering("DELIVERBY 60", "MT-PRIORITY MIXER", "REQUIRETLS"), wanted)
    assert envelope_lines(peer)[0] == b"MAIL FROM:<s@s.example> BY=999999999;RT MT-PRIORITY=-3"
    assert results[0].by_passed
    results, peer = run_for(offering(), wanted)
    assert envelope_lines(peer)[0] == b"MAIL FROM:<s@s.example>"
    assert not results[0].by_passed


# -- SMTPUTF8 (RFC 6531)

UTF8_HEADER = InlineContent("Subject: gr\u00fc\u00df dich\r\n\r\nbody\r\n".encode())


@pytest.mark.parametrize(
    ("sender", "recipient", "content", "asked", "needed"),
    [
        (Address("s", "s.example"), A, None, False, False),
        (Address("s", "s.example"), A, None, True, False),  # asked for, but nothing needs it (RFC 6531 §3.4)
        (Address("s", "s.example"), A, UTF8_HEADER, True, True),
        (Address("s", "s.example"), A, UTF8_HEADER, False, False),  # 8-bit rubbish, as ever
        (Address("\u00fc", "s.example"), A, None, True, True),
        (Address("s", "s.example"), Address("a", "b\u00fccher.example"), None, False, True),
    ],
)
def test_smtputf8_is_asked_for_when_something_needs_it(
    sender: Address, recipient: Address, content: InlineContent | None, asked: bool, needed: bool
) -> None:
    wanted = asking(Recipient(recipient), sender=sender, smtputf8=asked)
    wanted = structs.replace(wanted, content=content or wanted.content)
    results, peer = run_for(offering("SMTPUTF8"), wanted)
    assert brief(results) == [("relayed", "2.0.0")]
    assert (b" SMTPUTF8" in envelope_lines(peer)[0]) is needed


def test_without_smtputf8_an_ascii_local_part_goes_to_the_a_labels_of_its_domain() -> None:
    recipients = [Recipient(Address(local, "b\u00fccher.example")) for local in ("ann", "j\u00f6rg", "bob")]
    wanted = asking(*recipients, sender=Address("s", "\u4f8b.example"))
    results, peer = run_for(offering(), wanted)
    assert brief(results) == [("relayed", "2.0.0"), ("failed", "5.6.7"), ("relayed", "2.0.0")]
    assert envelope_lines(peer) == [
        b"MAIL FROM:<s@xn--fsq.example>",
        b"RCPT TO:<ann@xn--bcher-kva.example>",
        b"RCPT TO:<bob@xn--bcher-kva.example>",
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        structs.replace(asking(Recipient(A), smtputf8=True), content=UTF8_HEADER),
        asking(Recipient(A), sender=Address("\u00fc", "s.example")),
        asking(Recipient(Address("\u00fc", "d.example"))),
    ],
)
def test_what_needs_smtputf8_fails_where_it_is_missing(wanted: DeliveryRequest) -> None:
    results, peer = run_for(offering(), wanted)
    assert brief(results) == [("failed", "5.6.7")]
    assert "SMTPUTF8 is required, but was not offered by host fake.example[127.0.0.1]" in results[0].text
    assert envelope_lines(peer) == []


# -- LIMITS (RFC 9422)


def test_no_transaction_has_more_recipients_than_the_server_takes() -> None:
    results, peer = run_for(offering("LIMITS RCPTMAX=2 FUTURE=x"), request("a", "b", "c", "d", "e"))
    assert brief(results) == [("relayed", "2.0.0")] * 5
    assert [line[:4] for line in envelope_lines(peer)] == [
        b"MAIL", b"RCPT", b"RCPT", b"MAIL", b"RCPT", b"RCPT", b"MAIL", b"RCPT",
    ]  # fmt: skip
    assert peer.connections == 1


def test_no_session_has_more_transactions_than_the_server_takes() -> None:
    results, peer = run_for(offering("LIMITS MAILMAX=2 RCPTMAX=1"), request("a", "b", "c", "d", "e"))
    assert brief(results) == [("relayed", "2.0.0")] * 5
    assert peer.connections == 3
    assert len(peer.contents) == 5


def test_no_session_has_recipients_of_more_domains_than_the_server_takes() -> None:
    recipients = [Recipient(Address("a", f"{name}.example")) for name in ("x", "y", "X", "z", "y")]
    results, peer = run_for(offering("LIMITS RCPTDOMAINMAX=1"), asking(*recipients))
    assert brief(results) == [("relayed", "2.0.0")] * 5
    assert peer.connections == 3
    assert [line for line in envelope_lines(peer) if line.startswith(b"RCPT")] == [
        b"RCPT TO:<a@x.example>", b"RCPT TO:<a@X.example>", b"RCPT TO:<a@y.example>", b"RCPT TO:<a@y.example>",
        b"RCPT TO:<a@z.example>",
    ]  # fmt: skip


def test_a_connection_that_is_used_up_is_not_kept() -> None:
    async def work() -> None:
        async with FakePeer(offering("LIMITS MAILMAX=1")) as peer:
            agent = agent_for(peer)
            for _ in range(3):
                assert brief(await agent.deliver(request("a"))) == [("relayed", "2.0.0")]
            await agent.close()
            assert peer.connections == 3

    run(work())


def test_a_server_that_goes_in_the_middle_leaves_the_rest_for_the_next() -> None:
    async def work() -> None:
        first: list[Answer] = [b"250 Ok\r\n", b"421 4.3.2 bye\r\n"]
        async with FakePeer({**offering("LIMITS RCPTMAX=1"), "MAIL": first}) as bad, FakePeer() as good:
            agent = agent_for(bad, good)
            results = await agent.deliver(request("a", "b", "c"))
            await agent.close()
            assert brief(results) == [("relayed", "2.0.0")] * 3
            assert (len(bad.contents), len(good.contents)) == (1, 1)

    run(work())


# -- 8BITMIME and BINARYMIME missing (RFC 6152 §3, RFC 3030 §3)

_HEAD = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
)
EIGHT_BIT = InlineContent(_HEAD + "gr\u00fc\u00dfe and plain text around it\r\n".encode())
SEVEN_BIT_ONLY: dict[str, Answer | list[Answer]] = {"EHLO": b"250-fake.example\r\n250 PIPELINING\r\n"}


def holding(content: Content, body: BodyType = BodyType.SEVEN_BIT) -> DeliveryRequest:
    return structs.replace(request("a", body=body), content=content)


@honours("disable_mime_output_conversion", "disable_mime_input_processing")
@pytest.mark.parametrize(
    ("settings", "body", "converts"),
    [
        ({}, BodyType.EIGHT_BIT_MIME, True),
        ({}, BodyType.SEVEN_BIT, True),  # the client did not say it, the content shows it
        ({"disable_mime_input_processing": "yes"}, BodyType.SEVEN_BIT, False),
        ({"disable_mime_input_processing": "yes"}, BodyType.EIGHT_BIT_MIME, True),
        ({"disable_mime_output_conversion": "yes"}, BodyType.EIGHT_BIT_MIME, False),
    ],
)
def test_8_bit_content_is_converted_for_a_server_without_8bitmime(
    settings: dict[str, str], body: BodyType, converts: bool
) -> None:
    script = {"EHLO": b"250-fake.example\r\n250-SIZE 1000\r\n250 PIPELINING\r\n"}
    (result,), peer = run_for(script, holding(EIGHT_BIT, body), **settings)  # type: ignore[arg-type]
    assert brief([result]) == [("relayed", "2.0.0")]
    [content] = peer.contents
    assert content.isascii() is converts
    assert (b"gr=C3=BC=C3=9Fe and plain" in content) is converts
    assert envelope_lines(peer)[0] == b"MAIL FROM:<s@s.example> SIZE=%d" % (len(content) - 3)


def test_a_server_with_8bitmime_gets_what_came() -> None:
    _, peer = run_for(offering(), holding(EIGHT_BIT, BodyType.EIGHT_BIT_MIME))
    assert peer.contents == [EIGHT_BIT.data + b".\r\n"]
    assert envelope_lines(peer)[0] == b"MAIL FROM:<s@s.example> BODY=8BITMIME"


def test_a_large_message_is_converted_as_it_goes_out(tmp_path: Path) -> None:
    data = EIGHT_BIT.data + "\u00fc plain text of some length, much of it\r\n".encode() * 20_000
    (tmp_path / "content").write_bytes(data)
    (result,), peer = run_for(
        {"EHLO": b"250-fake.example\r\n250-SIZE\r\n250 PIPELINING\r\n"},
        holding(FileContent(str(tmp_path / "content"), len(data))),
    )
    assert brief([result]) == [("relayed", "2.0.0")]
    [content] = peer.contents
    assert content.isascii()
    assert email.message_from_bytes(content[:-3]).get_payload(decode=True) == data[len(_HEAD) :]
    assert envelope_lines(peer)[0] == b"MAIL FROM:<s@s.example> SIZE=%d" % (len(content) - 3)


def test_a_signature_that_conversion_breaks_is_in_the_log() -> None:
    async def work() -> None:
        async with FakePeer(SEVEN_BIT_ONLY) as peer:
            notes = Notes()
            agent = agent_for(peer, notes=notes)
            await agent.deliver(holding(InlineContent(b"DKIM-Signature: v=1\r\n" + EIGHT_BIT.data)))
            await agent.close()
            assert notes.texts == ["converted for a server without 8BITMIME: its DKIM signature will not verify"]

    run(work())


BINARY = InlineContent(
    b"MIME-Version: 1.0\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n\n\r" + b"z" * 2000
)


def test_binary_content_goes_as_it_is_only_where_it_may() -> None:
    wanted = holding(BINARY, BodyType.BINARY_MIME)
    _, peer = run_for(offering("CHUNKING", "BINARYMIME"), wanted)
    assert peer.contents == [BINARY.data]
    assert envelope_lines(peer)[0] == b"MAIL FROM:<s@s.example> BODY=BINARYMIME"
    # A server that takes any bytes needs no 8BITMIME.
    odd: dict[str, Answer | list[Answer]] = {"EHLO": b"250-fake.example\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"}
    _, peer = run_for(odd, wanted)
    assert peer.contents == [BINARY.data]
    for script, settings in (
        (offering("CHUNKING"), {}),
        (offering(), {}),
        (SEVEN_BIT_ONLY, {}),
        (offering("CHUNKING", "BINARYMIME"), {"smtp_chunking": "no"}),
    ):
        (result,), peer = run_for(script, wanted, **settings)
        assert brief([result]) == [("relayed", "2.0.0")]
        [content] = peer.contents
        assert b"Content-Transfer-Encoding: base64\r\n" in content
        payload = email.message_from_bytes(content.removesuffix(b".\r\n")).get_payload(decode=True)
        assert payload == BINARY.data.partition(b"\r\n\r\n")[2]


@honours("mime_nesting_limit", "mime_boundary_length_limit")
def test_what_cannot_be_converted_is_returned_and_not_spoilt() -> None:
    nested = InlineContent(
        b"Content-Type: multipart/mixed; boundary=ab1\r\n\r\n"
        b"--ab1\r\nContent-Type: multipart/mixed; boundary=ab2\r\n\r\n"
        b"--ab2\r\n\r\n\xc3\xbc\r\n--ab2--\r\n--ab1--\r\n"
    )
    (result,), peer = run_for(SEVEN_BIT_ONLY, holding(nested), mime_nesting_limit="1")
    assert brief([result]) == [("failed", "5.6.3")]
    assert "MIME nesting exceeds safety limit" in result.text
    assert peer.contents == []
    (result,), peer = run_for(SEVEN_BIT_ONLY, holding(nested), mime_nesting_limit="2")
    assert brief([result]) == [("relayed", "2.0.0")]
    assert b"=C3=BC" in peer.contents[0] or b"w7w=" in peer.contents[0]
    late = InlineContent(b"Content-Type: multipart/mixed; boundary=ab1\r\n\r\n--ab2\r\n\r\n\xc3\xbc\r\n--ab1--\r\n")
    _, peer = run_for(SEVEN_BIT_ONLY, holding(late))
    assert b"w7w=" not in peer.contents[0]  # nobody's part: a preamble
    _, peer = run_for(SEVEN_BIT_ONLY, holding(late), mime_boundary_length_limit="2")
    assert b"w7w=" in peer.contents[0]
    (result,), _ = run_for(SEVEN_BIT_ONLY, holding(BINARY, BodyType.BINARY_MIME), disable_mime_output_conversion="yes")
    assert brief([result]) == [("failed", "5.6.3")]


# -- XFORWARD

FROM = Client("client.example", "192.0.2.7", "he lo", "ESMTP", 4711)
XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
SAID = b"XFORWARD NAME=client.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=he+20lo IDENT=Q1 SOURCE=REMOTE\r\n"


@honours("smtp_send_xforward_command")
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("answer", [b"250 Ok\r\n", b"501 5.5.4 what?\r\n"])
def test_a_filter_hears_which_client_a_message_came_from(pipelining: bool, answer: bytes) -> None:
    keywords = ("PIPELINING", XFORWARD) if pipelining else (XFORWARD,)
    ehlo = b"250-fake.example\r\n" + "".join(f"250-{word}\r\n" for word in keywords).encode() + b"250 HELP\r\n"
    wanted = asking(Recipient(A), client=FROM)
    script: dict[str, Answer | list[Answer]] = {"EHLO": ehlo, "XFOR": answer}
    (result,), peer = run_for(script, wanted, smtp_send_xforward_command="yes")
    assert brief([result]) == [("relayed", "2.0.0")]
    assert peer.lines[1] == SAID
    assert peer.verbs[2] == "MAIL"
    (result,), peer = run_for(script, wanted)
    assert brief([result]) == [("relayed", "2.0.0")]
    assert "XFOR" not in peer.verbs


def test_only_what_a_filter_knows_is_said() -> None:
    assert xforward(FROM, "Q1", "ADDR FUTURE") == (b"XFORWARD ADDR=192.0.2.7\r\n",)
    assert xforward(FROM, "Q1", "FUTURE") == ()
    unknown = Client(protocol="local", port=1000, is_ipv6=False)
    assert xforward(unknown, "Q1", "NAME ADDR PORT PROTO HELO SOURCE") == (
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] "
        b"SOURCE=LOCAL\r\n",
    )
    v6 = Client("n" * 300, "2001:db8::1", "h" * 300, is_ipv6=True)
    first, second = xforward(v6, "Q1", "NAME ADDR HELO")
    assert first == b"XFORWARD NAME=" + b"n" * 255 + b" ADDR=IPV6:2001:db8::1\r\n"
    assert second == b"XFORWARD HELO=" + b"h" * 255 + b"\r\n"
    evil = Client("x\r\nMAIL FROM:<>", "192.0.2.7", "\u00e9")
    assert xforward(evil, "Q1", "NAME HELO") == (b"XFORWARD NAME=x+0D+0AMAIL+20FROM:<> HELO=+C3+A9\r\n",)


@honours("smtp_xforward_timeout")
def test_a_filter_that_does_not_answer_is_not_waited_for() -> None:
    script = {**offering(XFORWARD), "XFOR": Act.STALL}
    settings = {"smtp_send_xforward_command": "yes", "smtp_xforward_timeout": "1s"}
    (result,), _ = run_for(script, asking(Recipient(A), client=FROM), **settings)
    assert brief([result]) == [("delayed", "4.4.2")]
    assert result.text.endswith("timed out while sending XFORWARD")
