"""BDAT (RFC 3030): what goes out in which burst, what a refusal in the middle means, and when DATA is used instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import DeliveryResult
from support.fake_peer import Act, Answer, FakePeer
from support.smtp_delivery import CONTENT, agent_for, brief, request, run, until

EHLO = b"250-fake.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"
TURN_BASED = b"250-fake.example\r\n250 CHUNKING\r\n"
Script = dict[str, "Answer | list[Answer]"]


def deliver(
    script: Script, *names: str, content: Content = CONTENT, **settings: str
) -> tuple[Sequence[DeliveryResult], FakePeer]:
    found: list[tuple[Sequence[DeliveryResult], FakePeer]] = []

    async def work() -> None:
        async with FakePeer({"EHLO": EHLO, **script}) as peer:
            agent = agent_for(peer, settings=settings)
            try:
                results = await agent.deliver(request(*names or ("a",), content=content))
            finally:
                await agent.close()
            found.append((results, peer))

    run(work())
    return found[0]


@pytest.fixture
def large(tmp_path: Path) -> FileContent:
    """Lines with all that DATA would change: dots, bare newlines, a line that is too long, no end of the last line."""
    data = (b"Subject: x\r\n\r\n" + b"." + b"line\r\n" * 100_000) + b".\r\nbare\nlf\rcr\r\n" + b"l" * 1500 + b"\r\nend"
    path = tmp_path / "content"
    path.write_bytes(data)
    return FileContent(str(path), len(data))


def test_a_small_message_is_one_burst() -> None:
    (result,), peer = deliver({})
    assert brief([result]) == [("relayed", "2.0.0")]
    assert [line.strip() for line in peer.lines[:4]] == [
        b"EHLO me.example", b"MAIL FROM:<s@s.example>", b"RCPT TO:<a@d.example>", b"BDAT 27 LAST",
    ]  # fmt: skip
    assert peer.contents == [b"Subject: x\r\n\r\n.hidden dot\r\n"]


def test_a_large_message_goes_in_chunks_when_the_recipients_are_known(large: FileContent) -> None:
    results, peer = deliver({"RCPT": [b"250 Ok\r\n", b"550 5.1.1 no\r\n"]}, "a", "b", content=large)
    assert brief(results) == [("relayed", "2.0.0"), ("failed", "5.1.1")]
    [content] = peer.contents
    assert content.startswith(b"Subject: x\r\n\r\n.line\r\n")
    assert content.endswith(b"\r\n.\r\nbare\r\nlf cr\r\n" + b"l" * 998 + b"\r\n " + b"l" * 502 + b"\r\nend\r\n")
    assert len(peer.chunks) == 3
    assert max(peer.chunks) < 300_000


def test_nothing_is_sent_when_no_recipient_was_taken(large: FileContent) -> None:
    results, peer = deliver({"RCPT": b"550 5.1.1 no\r\n"}, "a", "b", content=large)
    assert brief(results) == [("failed", "5.1.1")] * 2
    assert peer.chunks == []


@pytest.mark.parametrize(
    "script",
    [
        {"RCPT": [b"550 5.1.1 no\r\n", b"250 Ok\r\n"]},
        {"MAIL": [b"550 5.7.1 no\r\n", b"250 Ok\r\n"], "RCPT": [b"503 no\r\n", b"250 Ok\r\n"]},
    ],
)
def test_content_that_was_sent_for_nobody_leaves_the_session_in_order(script: Script) -> None:
    async def work() -> None:
        async with FakePeer({"EHLO": EHLO, **script}) as peer:
            agent = agent_for(peer)
            first, second = [await agent.deliver(request("a")) for _ in range(2)]
            await agent.close()
            assert brief(first)[0][0] == "failed"
            assert brief(second) == [("relayed", "2.0.0")]
            assert peer.connections == 1
            assert ("RSET" in peer.verbs) is ("MAIL" not in script)
            assert peer.contents == [b"Subject: x\r\n\r\n.hidden dot\r\n"]

    run(work())


def test_without_pipelining_every_command_waits_for_its_turn(large: FileContent) -> None:
    results, peer = deliver({"EHLO": TURN_BASED}, "a", "b", content=large)
    assert brief(results) == [("relayed", "2.0.0")] * 2
    assert peer.verbs[:4] == ["EHLO", "MAIL", "RCPT", "RCPT"]
    assert len(peer.chunks) == 3
    (result,), peer = deliver({"EHLO": TURN_BASED})
    assert brief([result]) == [("relayed", "2.0.0")]
    assert peer.chunks == [27]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"452 4.3.1 full\r\n", ("delayed", "4.3.1")),
        (b"552 5.3.4 too big\r\n", ("failed", "5.3.4")),
        (b"421 4.3.2 bye\r\n", ("delayed", "4.3.2")),
        (b"354 what\r\n", ("delayed", "4.5.0")),
        (b"nonsense\r\n", ("delayed", "4.5.0")),
        (Act.CLOSE, ("delayed", "4.4.2")),
    ],
)
def test_a_chunk_that_is_not_taken_ends_the_message(
    answer: Answer, outcome: tuple[str, str], large: FileContent
) -> None:
    results, _ = deliver({"BDAT": [b"250 Ok\r\n", answer]}, "a", "b", content=large)
    assert brief(results) == [outcome] * 2


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"250 2.0.0 Ok\r\n", ("relayed", "2.0.0")),
        (b"554 5.7.1 spam\r\n", ("failed", "5.7.1")),
        (b"451 4.3.0 later\r\n", ("delayed", "4.3.0")),
        (Act.CLOSE, ("delayed", "4.4.2")),
    ],
)
@pytest.mark.parametrize("ehlo", [EHLO, TURN_BASED])
def test_the_reply_to_the_last_chunk_decides(answer: Answer, outcome: tuple[str, str], ehlo: bytes) -> None:
    results, _ = deliver({"EHLO": ehlo, "DOT": answer}, "a", "b")
    assert brief(results) == [outcome] * 2


def test_data_is_used_where_chunking_is_not_offered_or_not_wanted() -> None:
    cases: list[tuple[Script, dict[str, str]]] = [
        ({"EHLO": EHLO.replace(b"CHUNKING", b"X-NOTHING")}, {}),
        ({}, {"smtp_chunking": "no"}),
        ({}, {"smtp_discard_ehlo_keywords": "chunking"}),
    ]
    for script, settings in cases:
        (result,), peer = deliver(script, content=CONTENT, **settings)
        assert brief([result]) == [("relayed", "2.0.0")]
        assert peer.chunks == []
        assert peer.contents == [b"Subject: x\r\n\r\n..hidden dot\r\n.\r\n"]


def test_how_much_goes_early_is_a_limit() -> None:
    """A server that refuses the recipient has seen the content only where it was small enough."""
    for limit, chunks in (("27", [27]), ("26", []), ("0", [])):
        _, peer = deliver({"RCPT": b"550 no\r\n"}, smtp_early_content_limit=limit)
        assert peer.chunks == chunks


def test_a_slow_server_that_has_the_content_is_not_followed_by_another() -> None:
    """It may take the message when it comes to it."""

    async def work() -> None:
        async with FakePeer({"EHLO": EHLO, "RCPT": Act.STALL}) as slow, FakePeer() as next_one:
            agent = agent_for(slow, next_one, settings={"smtp_rcpt_timeout": "1s"})
            results = await agent.deliver(request("a"))
            await agent.close()
            assert brief(results) == [("delayed", "4.4.2")]
            assert next_one.connections == 0

    run(work())


def test_an_empty_message_is_one_empty_chunk() -> None:
    _, peer = deliver({}, content=InlineContent(b""))
    assert (peer.chunks, peer.contents) == ([0], [b""])


def test_slow_reading_server_gets_it_all(large: FileContent) -> None:
    """Replies to chunks come in the middle of the content, cut in two."""

    async def work() -> None:
        answers: list[Answer] = [(b"250 2.0", b".0 Ok\r\n"), (b"250-first\r\n", b"250 second\r\n")]
        async with FakePeer({"EHLO": EHLO, "BDAT": answers}) as peer:
            agent = agent_for(peer)
            wanted = structs.replace(request("a"), content=large)
            assert brief(await agent.deliver(wanted)) == [("relayed", "2.0.0")]
            await agent.close()
            await until(lambda: len(peer.contents) == 1)
            assert peer.contents[0].endswith(b"end\r\n")

    run(work())
