"""Shards: read without a server, adopted when their worker is no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.delivery import deferred
from ekiden.message.queued import Pending, QueueState
from ekiden.message.status import Status
from ekiden.queue.on_disk import read_shards, shard_numbers
from ekiden.queue.schema import shard_directory
from ekiden.queue.shards import adopt_orphans
from ekiden.queue.sqlite_store import SqliteStore
from ekiden.queue.store import Change, Settlement, StoreTrouble
from support.stored_messages import HandClock, message, opened

NOW = 1_700_000_000.0
SETTINGS = {"queue_inline_limit": "100"}


async def adopt(directory: Path, workers: int, store: SqliteStore) -> int:
    return await adopt_orphans(directory, workers, into=store, clock=HandClock(), parameters=Parameters(SETTINGS))


async def fill(directory: Path, shard: int) -> None:
    async with opened(directory, shard=shard, settings=SETTINGS) as store:
        writer = store.content_writer(f"S{shard}-file")
        writer.write(b"f" * 5000)
        await store.put(message(f"S{shard}-file", content=await writer.finish(), due=NOW + 1))
        first = message(f"S{shard}-deferred")
        await store.put(first, lease_s=9)
        waits = Pending(first.pending[0].recipient, deferred(Status(4, 0, 0), "later"))
        await store.settle(Settlement(first.queue_id, (waits,), NOW + 77))
        await store.put(message(f"S{shard}-hold", due=NOW + 2))
        await store.change([f"S{shard}-hold"], Change.HOLD, NOW)
        await store.put(message(f"S{shard}-active", due=NOW + 3), lease_s=9)
        for number in range(100):
            await store.put(message(f"S{shard}-{number:03}", due=NOW + 10 + number)) if number < 3 else None


def test_messages_of_a_lost_shard_move_with_state_and_time(tmp_path: Path) -> None:
    async def run() -> None:
        for shard in (0, 2, 3):
            await fill(tmp_path, shard)
        before = {x.message.queue_id: (x.state, x.message.due, x.message.attempts) for x in read_shards(tmp_path)}
        assert len(before) == 21
        async with opened(tmp_path, shard=0, settings=SETTINGS) as store:
            assert await adopt(tmp_path, 2, store) == 7  # shard 2; shard 3 is for worker 1
            assert shard_numbers(tmp_path) == [0, 3]
            assert await adopt(tmp_path, 2, store) == 0
            after = {x.message.queue_id: x for x in await store.entries()}
            assert len(after) == 14
            for name, entry in after.items():
                state, due, attempts = before[name]
                free = QueueState.INCOMING if state is QueueState.ACTIVE else state
                assert (entry.state, entry.message.due, entry.message.attempts) == (free, due, attempts)
            claimed = {x.queue_id: x for x in await store.claim(NOW + 1, 50, 60)}
            assert set(claimed) == {"S0-file", "S2-file"}
            assert await store.read_content(claimed["S2-file"].content) == b"f" * 5000

    asyncio.run(run())


def test_a_crash_between_the_two_steps_makes_no_duplicate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        await fill(tmp_path, 1)
        async with opened(tmp_path, shard=0, settings=SETTINGS) as store:

            class Killed(Exception):
                pass

            real = SqliteStore.call

            async def call(self, function):  # type: ignore[no-untyped-def]
                if self.shard == 1 and function.__name__ == "<lambda>":
                    raise Killed
                return await real(self, function)

            monkeypatch.setattr(SqliteStore, "call", call)
            monkeypatch.setattr(SqliteStore, "_save_mark", lambda self: asyncio.sleep(0))
            with pytest.raises(Killed):
                await adopt(tmp_path, 1, store)
            monkeypatch.undo()
            assert len(read_shards(tmp_path)) == 14  # everything twice
            assert await adopt(tmp_path, 1, store) == 0
            assert len(read_shards(tmp_path)) == 7
            [held] = [x for x in await store.claim(NOW + 1, 9, 60) if x.queue_id == "S1-file"]
            assert await store.read_content(held.content) == b"f" * 5000

    asyncio.run(run())


def test_a_shard_that_somebody_holds_is_left_alone(tmp_path: Path) -> None:
    async def run() -> None:
        await fill(tmp_path, 1)
        async with opened(tmp_path, shard=0) as store, opened(tmp_path, shard=1):
            assert await adopt(tmp_path, 1, store) == 0
            assert shard_numbers(tmp_path) == [0, 1]

    asyncio.run(run())


def test_a_message_without_its_file_is_kept_as_corrupt_in_the_new_shard(tmp_path: Path) -> None:
    async def run() -> None:
        await fill(tmp_path, 1)
        (shard_directory(tmp_path, 1) / "content" / "S1-file").unlink()
        async with opened(tmp_path, shard=0, settings=SETTINGS) as store:
            assert await adopt(tmp_path, 1, store) == 7
            assert await store.claim(NOW + 1, 1, 60) == []
            entry = await store.entry("S1-file")
            assert entry is not None
            assert entry.state is QueueState.CORRUPT

    asyncio.run(run())


def test_shards_are_read_while_a_server_runs_and_while_none_does(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, shard=1) as store:
            await store.put(message("Q1"))
            [entry] = read_shards(tmp_path)
            assert (entry.shard, entry.message.queue_id) == ("1", "Q1")

    assert read_shards(tmp_path) == []
    asyncio.run(run())
    assert [entry.message.queue_id for entry in read_shards(tmp_path)] == ["Q1"]
    bad = shard_directory(tmp_path, 5)
    bad.mkdir()
    (bad / "queue.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreTrouble):
        read_shards(tmp_path)
    troubles: list[StoreTrouble] = []
    assert len(read_shards(tmp_path, on_trouble=troubles.append)) == 1
    assert len(troubles) == 1
