"""Content as it arrives: in memory, then in a file that is durable before anything names it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from ekiden.message.content import FileContent, InlineContent
from ekiden.message.queued import QueueState
from ekiden.queue import content as contents
from ekiden.queue.spool import Spool, SpoolLimits
from ekiden.queue.store import HEAD_LIMIT_BYTES, Change, Settlement, StoreTrouble
from support.stored_messages import HandClock, message, opened

NOW = 1_700_000_000.0
SMALL = {"queue_inline_limit": "100", "queue_file_buffer_size": "4096"}


async def until_gone(path: Path) -> None:
    for _ in range(2000):
        if not path.exists():
            return
        await asyncio.sleep(0.002)
    pytest.fail(f"{path} is still there")


def test_small_content_stays_in_memory_and_large_goes_to_a_file(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            writer = store.content_writer("Q1")
            assert writer.write(b"x" * 60) is False
            await writer.drain()
            assert writer.write(memoryview(b"y" * 40)) is False
            assert await writer.finish() == InlineContent(b"x" * 60 + b"y" * 40)
            assert writer.size == 100

            writer = store.content_writer("Q2")
            data = os.urandom(10_001)
            full = [writer.write(data[at : at + 1000]) for at in range(0, 5000, 1000)]
            assert full == [False, False, False, False, True]
            await writer.drain()
            assert writer.write(data[5000:]) is True
            content = await writer.finish()
            assert content == FileContent(str(store.directory / "content" / "Q2"), 10_001, HEAD_LIMIT_BYTES)
            assert await contents.read(content) == data
            assert await contents.read(content, 10) == data[:10]
            assert b"".join([piece async for piece in contents.chunks(content, 999)]) == data
            assert os.stat(content.path).st_mode & 0o777 == 0o600

    asyncio.run(run())


def test_what_is_known_at_the_end_goes_before_the_content(tmp_path: Path) -> None:
    data_of = {"Q1": b"x" * 60, "Q2": os.urandom(5000), "Q3": b"y" * 99}

    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            for name, data in data_of.items():
                writer = store.content_writer(name)
                writer.write(data)
                await writer.drain()
                content = await writer.finish(b"Found: this\r\n")
                whole = b"Found: this\r\n" + data
                assert content.size == writer.size == len(whole)
                assert isinstance(content, FileContent) is (len(whole) > 100)
                assert await contents.read(content) == whole
                assert await contents.read(content, 20) == whole[:20]
                assert b"".join([piece async for piece in contents.chunks(content, 999)]) == whole
                await store.put(message(name, content=content))
            with pytest.raises(ValueError, match="no room"):
                await store.content_writer("Q4").finish(b"x" * (HEAD_LIMIT_BYTES + 1))
        async with opened(tmp_path, settings=SMALL) as store:
            claimed = {each.queue_id: each.content for each in await store.claim(NOW, 5, 60)}
            assert await store.read_content(claimed["Q2"]) == b"Found: this\r\n" + data_of["Q2"]

    asyncio.run(run())


def test_a_file_lives_as_long_as_its_message(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            paths = {}
            for name in ("settled", "deleted", "kept", "unleased"):
                writer = store.content_writer(name)
                writer.write(b"z" * 5000)
                content = await writer.finish()
                assert isinstance(content, FileContent)
                paths[name] = Path(content.path)
                await store.put(message(name, content=content), lease_s=0 if name == "unleased" else 60)
                await writer.discard()  # the message is put: this must not touch its file
                assert paths[name].exists()
            await store.settle(Settlement("settled"))
            await store.settle(Settlement("unleased"))
            await store.change(["deleted"], Change.DELETE, NOW)
            for name in ("settled", "deleted", "unleased"):
                await until_gone(paths[name])
        async with opened(tmp_path, settings=SMALL) as store:
            [kept] = await store.claim(NOW, 5, 60)
            assert await store.read_content(kept.content) == b"z" * 5000
            await store.settle(Settlement("kept"))
            await until_gone(paths["kept"])

    asyncio.run(run())


def test_files_that_no_row_names_are_swept_at_the_start(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            writer = store.content_writer("Q1")
            writer.write(b"z" * 5000)
            await store.put(message("Q1", content=await writer.finish()))
            orphan = store.content_writer("Q2")
            orphan.write(b"z" * 5000)
            await orphan.finish()
            folder = store.directory / "content"
            assert sorted(os.listdir(folder)) == ["Q1", "Q2"]
        async with opened(tmp_path, settings=SMALL):
            assert os.listdir(folder) == ["Q1"]

    asyncio.run(run())


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_a_message_whose_file_is_not_whole_becomes_corrupt(tmp_path: Path, harm: str) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            writer = store.content_writer("Q1")
            writer.write(b"z" * 5000)
            content = await writer.finish()
            assert isinstance(content, FileContent)
            await store.put(message("Q1", content=content))
            if harm == "missing":
                os.unlink(content.path)
            else:
                os.truncate(content.path, HEAD_LIMIT_BYTES + 4999)
            with pytest.raises(StoreTrouble):
                await store.read_content(content)
            assert await store.claim(NOW, 5, 60) == []
            entry = await store.entry("Q1")
            assert entry is not None
            assert entry.state is QueueState.CORRUPT
            assert "content file Q1" in entry.reason

    asyncio.run(run())


def test_what_is_given_up_leaves_nothing_at_any_moment(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            folder = store.directory / "content"
            for moment in range(4):
                writer = store.content_writer("Q1")
                if moment > 0:
                    writer.write(b"z" * 5000)
                if moment > 1:
                    await writer.drain()
                if moment > 2:
                    await writer.finish()
                await writer.discard()
                await writer.discard()
                assert os.listdir(folder) == []
                with pytest.raises(StoreTrouble):
                    await writer.finish()

    asyncio.run(run())


def test_a_caller_that_is_cancelled_does_not_leave_a_file_behind(tmp_path: Path) -> None:
    held, go = threading.Event(), threading.Event()

    def slow(handle: int) -> None:
        held.set()
        go.wait(10)
        os.fsync(handle)

    async def run() -> None:
        async with opened(tmp_path, settings=SMALL, fsync=slow) as store:
            writer = store.content_writer("Q1")
            writer.write(b"z" * 5000)
            finishing = asyncio.ensure_future(writer.finish())
            await asyncio.to_thread(held.wait, 10)
            finishing.cancel()
            asyncio.get_running_loop().call_later(0.01, go.set)
            with pytest.raises(asyncio.CancelledError):
                await finishing
            await writer.discard()
            assert os.listdir(store.directory / "content") == []

    asyncio.run(run())


@pytest.mark.parametrize(("number", "full"), [(errno.EIO, False), (errno.ENOSPC, True), (errno.EDQUOT, True)])
def test_an_fsync_that_fails_is_not_tried_again_and_gives_the_file_up(tmp_path: Path, number: int, full: bool) -> None:
    calls: list[int] = []

    def fail(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))

    async def run() -> None:
        async with opened(tmp_path, settings=SMALL, fsync=fail) as store:
            writer = store.content_writer("Q1")
            writer.write(b"z" * 5000)
            with pytest.raises(StoreTrouble) as caught:
                await writer.finish()
            assert caught.value.full is full
            assert len(calls) == 2  # the file, and the directory that it shares with others
            with pytest.raises(StoreTrouble):
                await writer.finish()
            assert len(calls) == 2
            assert os.listdir(store.directory / "content") == []

    asyncio.run(run())


def test_a_copy_shares_the_content_of_its_origin_and_outlives_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings=SMALL) as store:
            writer = store.content_writer("Q1")
            writer.write(b"z" * 5000)
            content = await writer.finish()
            await store.put(message("Q1", content=content), lease_s=60)
            await store.settle(Settlement("Q1", born=(message("F1", content=content),)))
            await until_gone(store.directory / "content" / "Q1")
            [copy] = await store.claim(NOW, 5, 60)
            assert copy.queue_id == "F1"
            assert copy.content == FileContent(str(store.directory / "content" / "F1"), 5000, HEAD_LIMIT_BYTES)
            assert await store.read_content(copy.content) == b"z" * 5000

    asyncio.run(run())


def test_a_message_never_takes_the_file_of_another(tmp_path: Path) -> None:
    async def run() -> None:
        other = tmp_path / "drop"
        other.write_bytes(b"d" * 200)
        async with opened(tmp_path, settings=SMALL) as store:
            writer = store.content_writer("Q1")
            writer.write(b"z" * 5000)
            await store.put(message("Q1", content=await writer.finish()), lease_s=60)
            with pytest.raises(StoreTrouble):
                await store.put(message("Q1", content=FileContent(str(other), 200)))
            assert (store.directory / "content" / "Q1").read_bytes()[HEAD_LIMIT_BYTES:] == b"z" * 5000
            await store.put(message("Q2", content=FileContent(str(other), 200)))
            other.unlink()
            [found] = await store.claim(NOW, 5, 60)
            assert await store.read_content(found.content) == b"d" * 200

    asyncio.run(run())


def test_free_space_is_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    limits = SpoolLimits(inline_limit=1, buffer_size=1, threads=1, minimum_free=1000)
    free = plenty = 1 << 40
    asked = 0

    def free_bytes(directory: Path) -> int:
        nonlocal asked
        asked += 1
        return free

    monkeypatch.setattr("ekiden.queue.spool.free_bytes", free_bytes)
    spool = Spool(tmp_path, limits=limits, clock=clock)
    try:
        assert spool.has_space()
        assert spool.has_space(plenty)
        assert not spool.has_space(plenty + 1)
        free = 2000
        assert spool.has_space(2001)
        assert asked == 1
        clock.steady += 1
        assert not spool.has_space(2001)
        assert asked == 2
        # When it is scarce every question counts.
        assert spool.has_space(2000)
        free = 999
        assert not spool.has_space()
        assert asked == 4
    finally:
        spool.close()
