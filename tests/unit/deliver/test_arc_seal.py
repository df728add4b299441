"""What goes on to another host is sealed on its way out, wherever its content lies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.auth.results.write import authentication_results
from ekiden.auth.verdict import Result
from ekiden.config.snapshot import Parameters
from ekiden.deliver.arc_seal import OutgoingSeals
from ekiden.message.content import FileContent, InlineContent, OutgoingContent, SplicedContent
from ekiden.observe.events import Event, Note
from ekiden.policy.arc_sealing import ArcSealer
from ekiden.queue.content import chunks
from ekiden.tls.key_files import KeyFiles
from support.arc_chains import key, pem, verified, zone

OURS = authentication_results("mx.test", "dmarc=pass header.from=author.test; arc=none")
MESSAGE = (
    b"Received: by mx.test\r\n" + OURS + b"From: a@author.test\r\nSubject: x\r\n\r\nHello \r\n\r\nworld\r\n\r\n\r\n"
)


def seals(log: Log, file: str = "arc.pem") -> OutgoingSeals:
    parameters = Parameters(
        {"arc_seal_key": f"mx.test:s:{file}", "dkim_key_directory": "/keys", "authserv_id": "mx.test"}
    )
    sealer = ArcSealer(parameters, key_files=lambda: KeyFiles({"/keys/arc.pem": pem("rsa-sha256")}))
    return OutgoingSeals(sealer, clock=Clock(), observer=log, header_limit=1000, program="smtp")


class Log:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Clock:
    def time(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here should wait")


def places(message: bytes, tmp_path: Path) -> list[OutgoingContent]:
    """The message in memory, in a file with room before it, and as a file whose head was replaced."""
    (tmp_path / "room").write_bytes(b"1234567" + message)
    (tmp_path / "old").write_bytes(b"X: old\r\n" + message[20:])
    return [
        InlineContent(message),
        FileContent(str(tmp_path / "room"), len(message), 7),
        SplicedContent(message[:20], FileContent(str(tmp_path / "old"), len(message) - 12), 8),
    ]


async def applied(content: OutgoingContent, made: OutgoingSeals) -> tuple[OutgoingContent, bytes]:
    out = await made.apply(content, "Q1")
    return out, b"".join([piece async for piece in chunks(out)])


@pytest.mark.parametrize("more", [b"", b"a line  of text \r\n" * 50_000])
def test_a_message_is_sealed_wherever_it_lies(more: bytes, tmp_path: Path) -> None:
    log = Log()
    message = MESSAGE + more
    for content in places(message, tmp_path):
        out, data = asyncio.run(applied(content, seals(log)))
        assert type(out) is (InlineContent if isinstance(content, InlineContent) else SplicedContent)
        assert data.endswith(message)
        assert out.size == len(data)
        assert verified(data, zone(key("mx.test"))).result is Result.PASS
    assert log.events == []


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE.replace(OURS, b""),
        MESSAGE.replace(b"mx.test;", b"other.test;"),
        MESSAGE.replace(b"arc=none", b"arc=temperror"),
        b"X: " + b"y" * 1000 + b"\r\n" + MESSAGE,
        b"",
        b"From: a@b\r\n",
    ],
)
def test_what_is_not_sealed_stays_as_it_is(message: bytes, tmp_path: Path) -> None:
    log = Log()
    content = InlineContent(message)
    assert asyncio.run(applied(content, seals(log)))[0] is content
    assert log.events == []


def test_a_key_that_cannot_be_used_is_told_and_holds_nothing_up() -> None:
    log = Log()
    content = InlineContent(MESSAGE)
    assert asyncio.run(applied(content, seals(log, "none.pem")))[0] is content
    (note,) = log.events
    assert isinstance(note, Note)
    assert (note.text[:40], note.queue_id) == ("no ARC seal by /keys/none.pem: there is ", "Q1")
