"""The smtp agent and what servers offer: the parameters of MAIL and RCPT, SMTPUTF8 or the lack of it, LIMITS."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import DeliverBy, Envelope, Notify, Recipient, Ret
from support.fake_peer import Answer, FakePeer
from support.smtp_delivery import agent_for, brief, request, run

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
