"""The deliverer as a process that hostile or broken workers talk to: it survives, and other workers notice nothing."""

from __future__ import annotations

import array
import asyncio
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import (
    INLINE_BYTES,
    PACKET_FDS,
    SCHEMA,
    Answer,
    Inbox,
    Job,
    Outbox,
    Outcome,
    PacketTrouble,
    Transport,
    delivered,
)
from ekiden.message.content import Content, FileContent, InlineContent
from support.deliverer_process import (
    DelivererProcess,
    mails,
    reachable_directory,
    running_deliverer,
    until,
    with_channel,
)


def settings(base: Path, **more: str) -> dict[str, str]:
    uid, gid = os.geteuid() or 5000, os.getegid() or 5000
    if os.geteuid() == 0:
        os.chown(base, uid, gid)
    return {
        "virtual_mailbox_base": str(base),
        "virtual_mailbox_maps": "inline:{a@x.example=a/, b@x.example=b/, m@x.example=m}",
        "virtual_uid_maps": f"static:{uid}",
        "virtual_gid_maps": f"static:{gid}",
        **more,
    }


@pytest.fixture
def base() -> Iterator[Path]:
    with reachable_directory() as path:
        yield path


def job(recipient: str = "a@x.example", *, number: int = 1, content: bytes | None = b"A: b\r\n\r\n") -> Job:
    size = len(content) if content is not None else 8
    return Job(number, Transport.VIRTUAL, recipient.encode(), b"s@y.example", b"", content, size)


def ask(sock: socket.socket, *jobs: tuple[Job, int]) -> None:
    outbox = Outbox()
    for one, fd in jobs:
        outbox.put(one, fd)
    assert outbox.flush(sock)


def heard(sock: socket.socket) -> list[Answer] | None:
    """The next packet of answers, or None when the deliverer has hung up."""
    assert select.select([sock], [], [], 20)[0], "no answer"
    packet = Inbox(Answer).receive(sock)
    return None if packet is None else packet[0]


def packet(schema: int, items: object) -> bytes:
    return msgspec.msgpack.encode((schema, items))


NOT_PACKETS = [
    b"\0" * 100,
    b"\xff" * 4096,
    packet(SCHEMA + 1, []),
    packet(SCHEMA, "text"),
    packet(SCHEMA, [["x"] * 7]),
    packet(SCHEMA, [[1, "shell", b"a", b"", b"", b"", 0]]),
    packet(SCHEMA, [[1, "virtual", b"a", b"", b"", None, 5]]),  # content in a descriptor that is not there
    b"\x92\x01\xdd\xff\xff\xff\xff",
    packet(SCHEMA, [])[:-1],
    packet(SCHEMA, [[1, "virtual", b"a", b"", b"", b"", 0]]).replace(b"virtual", b"v\xaertual"),
    b"x" * 190_000,
]


@pytest.mark.parametrize("data", NOT_PACKETS)
def test_garbage_ends_that_worker_only(base: Path, data: bytes) -> None:
    with running_deliverer(settings(base)) as process:
        good, bad = process.new_worker(), process.new_worker()
        with good, bad:
            bad.send(data)
            assert heard(bad) is None
            ask(good, (job(), -1))
            assert [answer.outcome for answer in heard(good) or []] == [Outcome.DELIVERED]
        assert process.stop() == 0
    assert len(mails(base / "a")) == 1


def test_descriptors_that_are_not_asked_for_end_the_worker(base: Path) -> None:
    with running_deliverer(settings(base)) as process:
        before = len(os.listdir(f"/proc/{process.pid}/fd"))
        with process.new_worker() as bad:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 0, 0]))]
            bad.sendmsg([packet(SCHEMA, [])], rights)
            assert heard(bad) is None
            asyncio.run(until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == before, "closed descriptors"))


def test_only_regular_files_are_read(base: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    short = tmp_path / "short"
    short.write_bytes(b"1234567")
    with running_deliverer(settings(base)) as process, process.new_worker() as worker:
        for fd in (reader, *(os.open(path, os.O_RDONLY) for path in ("/dev/zero", tmp_path, short))):
            ask(worker, (job(content=None), fd))
            [answer] = heard(worker) or []
            assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 3)
        # A file that cannot be read (opened for writing, or only as a path) is trouble in the writer, not a crash.
        for flags in (os.O_WRONLY, os.O_PATH):
            ask(worker, (job(content=None), os.open(tmp_path / "written", os.O_CREAT | os.O_RDWR)))
            assert [one.outcome for one in heard(worker) or []] == [Outcome.DEFERRED]
            (tmp_path / "written").write_bytes(b"12345678")
            ask(worker, (job(content=None), os.open(tmp_path / "written", flags)))
            [answer] = heard(worker) or []
            assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 3)
            (tmp_path / "written").unlink()
    os.close(writer)
    assert mails(base / "a") == []


def test_a_worker_that_asks_without_end_is_not_read_further(base: Path) -> None:
    with (
        running_deliverer(settings(base, deliverer_job_limit="5")) as process,
        process.new_worker() as greedy,
        process.new_worker() as good,
    ):
        (base / "m.lock").write_text("")  # its mail waits for the lock
        greedy.setblocking(False)
        sent = 0
        while True:
            try:
                greedy.send(packet(SCHEMA, [job("m@x.example", number=sent)]))
            except BlockingIOError:
                break
            sent += 1
            assert sent < 100_000
        ask(good, (job(), -1))
        assert [answer.outcome for answer in heard(good) or []] == [Outcome.DELIVERED]
        (base / "m.lock").unlink()
        assert [answer.outcome for answer in heard(greedy) or []] == [Outcome.DELIVERED] * 5


def test_hostile_recipients_get_an_answer(base: Path) -> None:
    names = ["../../etc/passwd", "\0", "a@x.example\0", "", "@", "|cmd", "x" * 20_000, "$(id)", "a@x.example/../b"]
    with running_deliverer(settings(base)) as process, process.new_worker() as worker:
        for transport in Transport:
            for name in [name.encode() for name in names] + [b"\xff\xfe", b"a\nb"]:
                ask(worker, (Job(1, transport, name, b"", b"", b"A: b\r\n\r\n", 8), -1))
                [answer] = heard(worker) or []
                if transport in (Transport.ALIAS, Transport.PIPE):  # there is no such alias or service
                    assert answer.outcome is Outcome.DEFERRED, name
                else:
                    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.FAILED, 1, 1), name
    assert os.listdir(base) == []


def deliver(process: DelivererProcess, *contents: Content, recipient: bytes = b"a@x.example") -> list[Answer]:
    async def use(channel: MailboxChannel) -> list[Answer]:
        futures = [channel.submit(Transport.VIRTUAL, recipient, b"s@y.example", b"H: x\n", one) for one in contents]
        return list(await asyncio.gather(*futures))

    return with_channel(process, use)


def test_content_of_every_size_and_kind(base: Path, tmp_path: Path) -> None:
    sizes = [8, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000]
    bodies = [b"A: b\r\n\r\n" + b"x" * (size - 8) for size in sizes]
    contents: list[Content] = [InlineContent(body) for body in bodies]
    for at, body in enumerate(bodies):
        (tmp_path / str(at)).write_bytes(body)
        contents.append(FileContent(str(tmp_path / str(at)), len(body)))
    with running_deliverer(settings(base)) as process:
        answers = deliver(process, *contents * 5)
        assert {answer.outcome for answer in answers} == {Outcome.DELIVERED}
        [missing] = deliver(process, FileContent(str(tmp_path / "missing"), 10))
        assert missing.outcome is Outcome.DEFERRED
    found = sorted(mail.stat().st_size for mail in mails(base / "a"))
    assert found == sorted([size - 2 + len(b"H: x\n") for size in sizes] * 10)
    for mail in mails(base / "a"):
        assert stat.S_IMODE(mail.stat().st_mode) == 0o600


def test_more_jobs_than_the_limit_and_cancelled_ones(base: Path) -> None:
    with running_deliverer(settings(base, deliverer_job_limit="7")) as process:

        async def use(channel: MailboxChannel) -> None:
            content = InlineContent(b"A: b\r\n\r\n" + b"x" * 30_000)
            futures = [channel.submit(Transport.VIRTUAL, b"b@x.example", b"", b"", content) for _ in range(100)]
            futures[90].cancel()
            await asyncio.gather(*futures[:90], *futures[91:])

        with_channel(process, use, job_limit=7)
    assert len(mails(base / "b")) == 99


def test_outbox_and_inbox_agree() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        outbox, inbox = Outbox(), Inbox(Job)
        sent = [job(number=number, content=None if number % 3 else b"x" * 1000) for number in range(100)]
        for one in sent:
            outbox.put(one, os.open("/dev/null", os.O_RDONLY) if one.content is None else -1)
        received: list[Job] = []
        while len(received) < 100:
            outbox.flush(here)
            got = inbox.receive(there)
            assert got is not None
            jobs, fds = got
            assert len(fds) == sum(one.content is None for one in jobs) <= PACKET_FDS
            for fd in fds:
                os.close(fd)
            received += jobs
        assert received == sent
        answers = Outbox()
        answers.put(delivered(1, "text"))
        answers.flush(there)
        with pytest.raises(PacketTrouble):
            Inbox(Job).receive(here)
