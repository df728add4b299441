"""Binary messages for agents that know lines of text only."""

from __future__ import annotations

import asyncio
import email
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from ekiden.deliver.text_only import deliver_as_text
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, delivered
from ekiden.message.envelope import BodyType
from ekiden.message.mime_parser import Limits
from ekiden.message.status import OK
from ekiden.queue.store import StoreTrouble
from support.smtp_delivery import brief, request

LIMITS = Limits(100_000, 10, 100)
DATA = b"Content-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n\n\r" * 1


class Writer:
    def __init__(self, path: Path, *, breaks: bool = False) -> None:
        self.path, self.size, self.data, self.breaks, self.discarded = path, 0, b"", breaks, False

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        self.data += bytes(data)
        return True

    async def drain(self) -> None:
        if self.breaks:
            raise StoreTrouble("disk full", full=True)

    async def finish(self, head: bytes = b"") -> Content:
        self.path.write_bytes(head + self.data)
        return FileContent(str(self.path), len(head + self.data))

    async def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.discarded = True


def run(content: Content, writer: Writer, limits: Limits = LIMITS) -> tuple[list[bytes], Sequence[DeliveryResult]]:
    seen: list[bytes] = []

    async def agent(wanted: DeliveryRequest) -> Sequence[DeliveryResult]:
        assert wanted.envelope.body is BodyType.EIGHT_BIT_MIME
        found = wanted.content
        seen.append(found.data if isinstance(found, InlineContent) else Path(found.path).read_bytes())
        return [delivered(OK, "done")]

    wanted = replace(request("a", body=BodyType.BINARY_MIME), content=content)
    work = deliver_as_text(wanted, agent, content_writer=lambda _: writer, new_id=lambda: "N1", limits=limits)
    return seen, asyncio.run(work)


def test_content_in_memory_and_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(DATA)
    for content in (InlineContent(DATA), FileContent(str(tmp_path / "c"), len(DATA))):
        writer = Writer(tmp_path / "n")
        [text], results = run(content, writer)
        assert brief(results) == [("delivered", "2.0.0")]
        assert email.message_from_bytes(text).get_payload(decode=True) == b"\x00\r\n\n\r"
        assert not (tmp_path / "n").exists()


def test_a_disk_that_is_full_puts_the_message_off_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(DATA)
    writer = Writer(tmp_path / "n", breaks=True)
    seen, results = run(FileContent(str(tmp_path / "c"), len(DATA)), writer)
    assert (seen, brief(results), writer.discarded) == ([], [("delayed", "4.3.0")], True)
    _, results = run(FileContent(str(tmp_path / "gone"), 5), Writer(tmp_path / "n"))
    assert brief(results) == [("delayed", "4.3.0")]


def test_what_cannot_be_converted_is_returned(tmp_path: Path) -> None:
    seen, results = run(InlineContent(DATA), Writer(tmp_path / "n"), Limits(10, 10, 100))
    assert (seen, brief(results)) == ([], [("failed", "5.6.3")])
