"""What administrators do to messages: hold, release, requeue, delete."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.message.queued import QueueState
from ekiden.queue.sqlite_store import SqliteStore
from ekiden.queue.store import Change, Settlement
from support.stored_messages import message, opened

NOW = 1_700_000_000.0
LATER = NOW + 1000


async def fill(store: SqliteStore) -> None:
    """One message in each state: its id is the state's name."""
    await store.put(message("incoming", due=LATER))
    await store.put(message("active"), lease_s=60)
    await store.put(message("deferred"), lease_s=60)
    await store.settle(Settlement("deferred", message("x").pending, LATER))
    await store.put(message("hold", due=LATER))
    await store.change(["hold"], Change.HOLD, NOW)
    await store.put(message("corrupt", due=NOW - 1))
    await store.call(
        lambda transaction: (
            transaction.connection.execute("UPDATE message SET envelope = x'c1' WHERE queue_id = 'corrupt'") and None
        )
    )
    assert await store.claim(NOW - 1, 1, 60) == []


async def states(store: SqliteStore) -> dict[str, str]:
    return {entry.message.queue_id: entry.state.value for entry in await store.entries()}


@pytest.mark.parametrize(
    ("change", "by_name", "of_all"),
    [
        (Change.HOLD, {"incoming", "active", "deferred"}, {"incoming", "active", "deferred"}),
        # What is incoming and not due is held until a time that its sender chose (RFC 4865).
        (Change.RELEASE, {"hold", "corrupt", "incoming"}, {"hold"}),
        (Change.REQUEUE, {"incoming", "deferred"}, {"deferred"}),
        (
            Change.DELETE,
            {"incoming", "active", "deferred", "hold", "corrupt"},
            {"incoming", "active", "deferred", "hold", "corrupt"},
        ),
    ],
)
def test_each_change_concerns_the_states_it_is_for(
    tmp_path: Path, change: Change, by_name: set[str], of_all: set[str]
) -> None:
    async def run(directory: Path, names: list[str], wanted: set[str]) -> None:
        async with opened(directory) as store:
            await fill(store)
            before = await states(store)
            assert before == {name: name for name in before}
            assert len(before) == 5
            assert set(await store.change(names, change, NOW)) == wanted
            after = await states(store)
            for name in before:
                if name not in wanted:
                    assert after[name] == name
                elif change is Change.DELETE:
                    assert name not in after
                elif change is Change.HOLD:
                    assert after[name] == "hold"
                elif change is Change.RELEASE:
                    # A row that still cannot be read is listed as what it is; its next claim says so again.
                    assert after[name] == ("corrupt" if name == "corrupt" else "incoming")
            if change is Change.REQUEUE:
                due = {x.queue_id for x in await store.claim(NOW, 9, 60)}
                assert due == wanted

    everything = [state.value for state in QueueState]
    asyncio.run(run(tmp_path / "named", [*everything, "unknown"], by_name))
    asyncio.run(run(tmp_path / "all", [], of_all))


def test_a_message_put_on_hold_while_it_is_delivered(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            for name in ("done", "waits", "released"):
                await store.put(message(name), lease_s=60)
            await store.change(["done", "waits", "released"], Change.HOLD, NOW)
            # Delivered after all: it is gone. Deferred: it stays on hold.
            await store.settle(Settlement("done"))
            await store.settle(Settlement("waits", message("x").pending, NOW))
            # Released while its delivery still runs: nobody else gets it before that ends.
            await store.change(["released"], Change.RELEASE, NOW)
            assert await states(store) == {"waits": "hold", "released": "active"}
            assert await store.claim(LATER, 9, 60) == []
            await store.settle(Settlement("released", message("x").pending, NOW))
            assert [x.queue_id for x in await store.claim(LATER, 9, 60)] == ["released"]
            await store.change(["waits"], Change.RELEASE, NOW)
            assert (await states(store))["waits"] == "deferred"

    asyncio.run(run())


def test_a_message_deleted_while_it_is_delivered_stays_deleted(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("gone"), lease_s=60)
            assert await store.change(["gone"], Change.DELETE, NOW) == ["gone"]
            await store.settle(Settlement("gone", message("x").pending, NOW))
            assert await states(store) == {}

    asyncio.run(run())


def test_a_change_of_all_goes_in_steps(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await asyncio.gather(*(store.put(message(f"Q{number}", due=NOW)) for number in range(600)))
            for claimed in await store.claim(NOW, 600, 60):
                await store.settle(Settlement(claimed.queue_id, claimed.pending, LATER))
            assert len(await store.change([], Change.REQUEUE, NOW)) == 600
            assert len(await store.change([], Change.HOLD, NOW)) == 600
            assert len(await store.change([], Change.RELEASE, NOW)) == 600
            assert len(await store.change([f"Q{number}" for number in range(300)], Change.DELETE, NOW)) == 300
            assert len(await store.change([], Change.DELETE, NOW)) == 300
            assert sum((await store.counts()).values()) == 0

    asyncio.run(run())


def test_a_corrupt_message_that_can_be_read_again_is_released(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path, settings={"queue_inline_limit": "10"}) as store:
            writer = store.content_writer("Q1")
            writer.write(b"x" * 100)
            await store.put(message("Q1", content=await writer.finish()))
            path = store.directory / "content" / "Q1"
            path.rename(tmp_path / "away")
            assert await store.claim(NOW, 9, 60) == []
            assert (await states(store))["Q1"] == "corrupt"
            (tmp_path / "away").rename(path)
            assert await store.change(["Q1"], Change.RELEASE, NOW) == ["Q1"]
            [back] = await store.claim(NOW, 9, 60)
            assert await store.read_content(back.content) == b"x" * 100

    asyncio.run(run())


def test_a_message_that_is_held_until_its_time_goes_by_its_name_only(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("later", due=LATER))
            for change in (Change.REQUEUE, Change.RELEASE):
                assert await store.change([], change, NOW) == []
            assert await store.claim(NOW, 9, 60) == []
            assert await store.next_due() == LATER
        async with opened(tmp_path) as store:  # a restart changes nothing
            assert await store.claim(NOW, 9, 60) == []
            assert await store.change(["later"], Change.RELEASE, NOW) == ["later"]
            assert [each.queue_id for each in await store.claim(NOW, 9, 60)] == ["later"]
            assert await store.change(["later"], Change.RELEASE, NOW) == []

    asyncio.run(run())


def test_a_message_can_go_on_hold_at_its_arrival(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(structs.replace(message("Q1"), hold="the owner of x.example wants it in quarantine"))
            assert await store.claim(NOW, 5, 60) == []
            entry = await store.entry("Q1")
            assert entry is not None
            assert (entry.state, entry.reason) == (QueueState.HOLD, "the owner of x.example wants it in quarantine")
            assert await store.change(["Q1"], Change.RELEASE, NOW) == ["Q1"]
            [released] = await store.claim(NOW, 5, 60)
            assert released == message("Q1")

    asyncio.run(run())
