"""The SQLite store: what is awaited is on the disk, and what fails fails alone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from ekiden.message.address import Address
from ekiden.message.content import FileContent, InlineContent
from ekiden.message.delivery import deferred
from ekiden.message.envelope import BodyType, Client, Envelope, Notify, Recipient
from ekiden.message.queued import Pending, QueuedMessage, QueueState
from ekiden.message.queueid import QueueIds
from ekiden.message.status import Status
from ekiden.queue.codec import message_of, pack
from ekiden.queue.on_disk import read_shards
from ekiden.queue.schema import shard_directory
from ekiden.queue.sqlite_store import ShardInUse, SqliteStore
from ekiden.queue.store import BatchStore, Change, Settlement, Store, StoreTrouble
from support.stored_messages import HandClock, faulty_connect, message, opened, sqlite_error

NOW = 1_700_000_000.0


def as_interface(store: SqliteStore) -> Store:
    """Checked by mypy: the store is what its interface says."""
    return store


def ids_on_disk(directory: Path) -> list[str]:
    return [entry.message.queue_id for entry in read_shards(directory)]


def test_what_was_put_is_claimed_again_by_the_next_owner_just_as_it_was(tmp_path: Path) -> None:
    recipients = (
        Recipient(Address("b c", "there.example"), Address("x", "y.example"), Notify.NEVER),
        Recipient(Address("d", "[192.0.2.1]"), None, Notify.SUCCESS | Notify.FAILURE),
    )
    whole = QueuedMessage(
        "Q1",
        Envelope(
            Address("é", "例.example"),
            recipients,
            BodyType.EIGHT_BIT_MIME,
            Client("n", "2001:db8::1", "h", "ESMTPS", 9, True),
        ),
        InlineContent(b"\x00\xff\r\n"),
        NOW,
        (Pending(recipients[1], deferred(Status(4, 4, 1), "refused \udcff", relay="r", connect_s=0.25)),),
        "<id@x>",
        NOW + 5,
        3,
        True,
        "amavis:[127.0.0.1]:10024",
    )  # fmt: skip

    async def put() -> None:
        async with opened(tmp_path) as store:
            await store.put(whole)

    async def claim() -> list[QueuedMessage]:
        async with opened(tmp_path) as store:
            assert await store.claim(NOW + 4.9, 10, 60) == []
            return await store.claim(NOW + 5, 10, 60)

    asyncio.run(put())
    assert asyncio.run(claim()) == [whole]


def test_a_row_of_before_content_filters_is_read() -> None:
    old = (Envelope(Address("a", "b.example"), (Recipient(Address("c", "d.example")),)), "<id@x>")
    row = ("Q1", "incoming", 0.0, NOW, 1, "a@b.example", 0, 0, "", pack(old), None, b"x")
    found = message_of(row, Path("/nowhere"))
    assert (found.envelope, found.message_id, found.content_filter) == (*old, "")


def test_many_at_once_share_commits_and_each_is_there(tmp_path: Path) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    async def run() -> None:
        async with opened(tmp_path, connect=faulty_connect(count)) as store:
            names = [f"Q{number:04}" for number in range(300)]
            await asyncio.gather(*(store.put(message(name), lease_s=60) for name in names))
            # The first batch is whatever waits when the thread wakes; the limit is 256 operations.
            assert commits <= 10
            assert (await store.counts())[QueueState.ACTIVE] == 300
            await asyncio.gather(*(store.settle(Settlement(name)) for name in names[:299]))
            assert ids_on_disk(tmp_path) == ["Q0299"]

    asyncio.run(run())


def test_a_queue_id_that_is_taken_fails_alone(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("Q5", b"first"))
            outcomes = await asyncio.gather(
                *(store.put(message(f"Q{number}", b"second"), lease_s=60) for number in range(9)),
                return_exceptions=True,
            )
            assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [5]
            assert isinstance(outcomes[5], StoreTrouble)
            entry = await store.entry("Q5")
            assert entry is not None
            assert entry.state is QueueState.INCOMING
            assert entry.message.content == InlineContent(b"first")
            counts = await store.counts()
            assert (counts[QueueState.ACTIVE], counts[QueueState.INCOMING]) == (8, 1)

    asyncio.run(run())


def test_put_and_settle_of_one_message_in_one_batch_leave_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await asyncio.gather(store.put(message("Q1"), lease_s=9), store.settle(Settlement("Q1")))
            # And an id that comes again behind its own removal is a new message.
            await store.put(message("Q2", b"old"))
            await asyncio.gather(store.settle(Settlement("Q2")), store.put(message("Q2", b"new")))
            entry = await store.entry("Q2")
            assert entry is not None
            assert entry.message.content == InlineContent(b"new")
            assert ids_on_disk(tmp_path) == ["Q2"]

    asyncio.run(run())


def test_a_round_that_leaves_recipients_defers_the_message_and_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            first = message("Q1", recipients=("b", "c"))
            await store.put(first, lease_s=60)
            waits = (Pending(first.envelope.recipients[1], deferred(Status(4, 0, 0), "later \udce9")),)
            await store.settle(Settlement("Q1", waits, NOW + 300, delay_warned=True))
            assert await store.next_due() == NOW + 300
            entry = await store.entry("Q1")
            assert entry is not None
            assert entry.state is QueueState.DEFERRED
            assert (entry.message.pending, entry.message.attempts, entry.message.delay_warned) == (waits, 1, True)
            assert await store.claim(NOW, 5, 60) == []
            [again] = await store.claim(NOW + 300, 5, 60)
            await store.settle(Settlement("Q1", again.pending, NOW + 900))
            entry = await store.entry("Q1")
            assert entry is not None
            assert (entry.message.attempts, entry.message.delay_warned) == (2, True)

    asyncio.run(run())


def test_what_is_born_is_there_when_its_origin_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("Q1"), lease_s=60)
            await store.settle(Settlement("Q1", born=(message("B1"), message("B2"))))
            assert ids_on_disk(tmp_path) == ["B1", "B2"]
            # A duplicate id among the born: nothing of the settlement happens.
            with pytest.raises(StoreTrouble):
                await store.settle(Settlement("B1", born=(message("B3"), message("B2", b"another one"))))
            assert ids_on_disk(tmp_path) == ["B1", "B2"]

    asyncio.run(run())


def test_leases_end_by_settling_by_time_and_by_a_new_owner(tmp_path: Path) -> None:
    clock = HandClock()

    async def run() -> None:
        async with opened(tmp_path, clock=clock) as store:
            await store.put(message("Q1"), lease_s=100)
            await store.put(message("Q2"))
            assert [x.queue_id for x in await store.claim(NOW, 5, 50)] == ["Q2"]
            assert await store.claim(NOW + 86_400, 5, 50) == []  # the wall clock steps by a day: no lease ends
            clock.steady += 51
            assert [x.queue_id for x in await store.claim(NOW, 5, 500)] == ["Q2"]
            clock.steady += 50
            assert [x.queue_id for x in await store.claim(NOW, 5, 500)] == ["Q1"]
            assert await store.claim(NOW, 5, 500) == []
        async with opened(tmp_path, clock=clock) as store:
            assert len(await store.claim(NOW, 5, 50)) == 2

    asyncio.run(run())


def test_a_shard_has_one_owner(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path):
            with pytest.raises(ShardInUse, match="another Ekiden uses this part of the queue"):
                async with opened(tmp_path):
                    pass
            async with opened(tmp_path, shard=1):
                pass
        async with opened(tmp_path):
            pass

    asyncio.run(run())


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            pass
        with pytest.raises(StoreTrouble, match="closed"):
            await store.put(message("Q1"))
        await store.close()

    asyncio.run(run())


@pytest.mark.parametrize("statement", ["COMMIT", "BEGIN IMMEDIATE", "INSERT"])
def test_an_io_error_fails_its_batch_once_and_keeps_what_was_acknowledged(tmp_path: Path, statement: str) -> None:
    seen: list[str] = []
    broken = False

    def fault(sql: str) -> None:
        nonlocal broken
        if broken:
            seen.append(sql)
            if sql.startswith(statement):
                broken = False
                raise sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)

    async def run() -> None:
        nonlocal broken
        async with opened(tmp_path, connect=faulty_connect(fault)) as store:
            await store.put(message("Q1"))
            broken = True
            with pytest.raises(StoreTrouble, match="disk I/O error"):
                await store.put(message("Q2"))
            assert sum(sql.startswith(statement) for sql in seen) == 1  # not tried again
            await store.put(message("Q3"))
        assert ids_on_disk(tmp_path) == ["Q1", "Q3"]

    asyncio.run(run())


def test_a_database_that_cannot_recover_refuses_until_it_can(tmp_path: Path) -> None:
    broken = False

    def fault(sql: str) -> None:
        if broken and (sql == "COMMIT" or "wal_checkpoint(TRUNCATE)" in sql):
            raise sqlite_error(sqlite3.SQLITE_IOERR_FSYNC)

    async def run() -> None:
        nonlocal broken
        async with opened(tmp_path, connect=faulty_connect(fault)) as store:
            await store.put(message("Q1"))
            broken = True
            for name in ("Q2", "Q3"):
                with pytest.raises(StoreTrouble):
                    await store.put(message(name))
            broken = False
            await store.put(message("Q4"))
        assert ids_on_disk(tmp_path) == ["Q1", "Q4"]

    asyncio.run(run())


def test_a_full_disk_refuses_what_arrives_and_lets_go_what_leaves(tmp_path: Path) -> None:
    full = False

    def fault(sql: str) -> None:
        if full and sql.startswith("INSERT"):
            raise sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full")

    async def run() -> None:
        nonlocal full
        async with opened(tmp_path, connect=faulty_connect(fault)) as store:
            await asyncio.gather(*(store.put(message(f"Q{number}"), lease_s=60) for number in range(4)))
            full = True
            outcomes = await asyncio.gather(
                store.put(message("N1")),
                store.settle(Settlement("Q0")),
                store.settle(Settlement("Q1", born=(message("B1"),))),
                store.settle(Settlement("Q2", message("Q2").pending, NOW + 9)),
                return_exceptions=True,
            )
            assert [isinstance(outcome, StoreTrouble) and outcome.full for outcome in outcomes] == [
                True,
                False,
                True,
                False,
            ]
            assert [outcomes[1], outcomes[3]] == [None, None]
            full = False
            await store.put(message("N1"))
        assert sorted(ids_on_disk(tmp_path)) == ["N1", "Q1", "Q2", "Q3"]

    asyncio.run(run())


def test_a_fault_in_our_own_code_reaches_its_callers_and_not_the_thread(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("Q1"))
            with pytest.raises(ZeroDivisionError):
                await store.call(lambda transaction: 1 / 0)
            await store.put(message("Q2"))
        assert ids_on_disk(tmp_path) == ["Q1", "Q2"]

    asyncio.run(run())


def test_a_message_that_cannot_be_read_is_kept_as_corrupt_and_the_others_go_on(tmp_path: Path) -> None:
    reports: list[str] = []

    async def run() -> None:
        async with opened(tmp_path, on_corrupt=lambda queue_id, reason: reports.append(queue_id)) as store:
            for number in range(6):
                await store.put(message(f"Q{number}", due=NOW + number))
            damage = {
                "Q0": "envelope = x'c1'",
                "Q2": "pending = x'91c0'",
                "Q3": "content = x'00'",
                "Q4": "content = NULL",
            }

            def harm(transaction):  # type: ignore[no-untyped-def]
                for name, change in damage.items():
                    transaction.connection.execute(f"UPDATE message SET {change} WHERE queue_id = ?", (name,))

            await store.call(harm)
            # Four of six are bad; two good ones are found all the same, within the limit.
            assert [x.queue_id for x in await store.claim(NOW + 9, 2, 60)] == ["Q1", "Q5"]
            assert reports == ["Q0", "Q2", "Q3", "Q4"]
            found = await store.entries(states=frozenset({QueueState.CORRUPT}))
            assert [entry.message.queue_id for entry in found] == reports
            assert all(entry.reason for entry in found)
            assert found[0].message.envelope.sender == Address("a", "here.example")
            assert (await store.counts())[QueueState.CORRUPT] == 4
            entry = await store.entry("Q3")
            assert entry is not None
            assert entry.state is QueueState.CORRUPT

    asyncio.run(run())


@pytest.mark.parametrize(
    "damage", [b"not a database at all, but long enough to be looked at" * 100, b"SQLite format 3\0" + b"\x55" * 5000]
)
def test_a_damaged_database_is_kept_and_the_text_says_what_to_do(tmp_path: Path, damage: bytes) -> None:
    path = shard_directory(tmp_path, 0) / "queue.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)

    async def run() -> None:
        with pytest.raises(StoreTrouble, match="move the directory away"):
            async with opened(tmp_path):
                pass

    asyncio.run(run())
    assert path.read_bytes() == damage


def test_a_database_of_another_program_or_of_a_newer_ekiden_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path):
            pass
        path = shard_directory(tmp_path, 0) / "queue.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(StoreTrouble, match="newer Ekiden"):
            async with opened(tmp_path):
                pass
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE recipes (name)")
        connection.close()
        with pytest.raises(StoreTrouble, match="not a queue of Ekiden"):
            async with opened(tmp_path):
                pass

    asyncio.run(run())


def test_the_newest_id_outlives_its_message_and_a_restart(tmp_path: Path) -> None:
    ids = QueueIds(0)
    newest = ids.new(NOW)

    async def run() -> None:
        async with opened(tmp_path) as store:
            assert store.newest_us == 0
            await store.put(message(newest), lease_s=9)
            await store.settle(Settlement(newest))
        async with opened(tmp_path) as store:
            assert QueueIds(0, store.newest_us).new(NOW - 3600) > newest

    asyncio.run(run())


def test_claiming_and_next_due_use_the_index_and_no_more_memory_than_asked(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("Q0"))

            def fill(transaction):  # type: ignore[no-untyped-def]
                transaction.connection.execute(
                    "INSERT INTO message (queue_id, state, due, arrived, size, sender, attempts, delay_warned, reason, "
                    "envelope, content) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) "
                    "SELECT 'D' || i, 'deferred', ? + (i * 7919) % 20011, arrived, size, sender, 1, 0, '', envelope, "
                    "content FROM message, n WHERE queue_id = 'Q0'",
                    (NOW,),
                )
                transaction.delete(["Q0"])

            await store.call(fill)
            first = await store.claim(NOW + 30_000, 50, 60)
            assert len(first) == 50
            dues = [x.due for x in first]
            assert dues == sorted(dues)
            assert await store.next_due() == dues[-1] + 1
            counts = await store.counts()
            assert (counts[QueueState.ACTIVE], counts[QueueState.DEFERRED]) == (50, 19_950)

            from ekiden.queue import operations

            def plans(transaction):  # type: ignore[no-untyped-def]
                explain = transaction.connection.execute
                statements = [
                    (operations._CLAIM, (NOW, 9)),
                    (operations._NEXT_DUE, ()),
                    *((text, {"now": NOW, "last": 9, "limit": 9}) for text in operations._NEXT_OF_ALL.values()),
                ]
                return [explain(f"EXPLAIN QUERY PLAN {text}", values).fetchall() for text, values in statements]

            for plan in await store.call(plans):
                text = " ".join(row[3] for row in plan)
                assert "USING" in text, text
                assert "TEMP B-TREE" not in text
                assert "SCAN message" not in text or "INDEX waiting" in text, text

    asyncio.run(run())


def test_a_listing_goes_on_beside_mail_that_moves(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await asyncio.gather(*(store.put(message(f"Q{number:04}")) for number in range(1200)))
            listing = asyncio.ensure_future(store.entries())
            await asyncio.gather(*(store.put(message(f"R{number:04}"), lease_s=9) for number in range(100)))
            found = await listing
            assert [x.message.queue_id for x in found[:1200]] == [f"Q{number:04}" for number in range(1200)]
            assert found[0].message.size == len(b"Subject: x\r\n\r\nHello\r\n")
            assert isinstance(found[0].message.content, FileContent)  # a size without the bytes
            assert len(await store.entries(limit=3)) == 3
            assert await store.entry("none") is None

    asyncio.run(run())


def test_the_files_of_the_queue_are_for_the_owner_only(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("Q1"))
            assert os.stat(store.directory / "content").st_mode & 0o077 == 0

    asyncio.run(run())


def test_a_caller_that_is_cancelled_leaves_a_whole_message_or_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            putting = [asyncio.ensure_future(store.put(message(f"Q{number:03}"))) for number in range(100)]
            await asyncio.sleep(0)
            for task in putting[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*putting, return_exceptions=True)
            assert outcomes[1::2] == [None] * 50
            await store.put(message("last"))
            found = ids_on_disk(tmp_path)
            assert {f"Q{number:03}" for number in range(1, 100, 2)} <= set(found)
            assert len(await store.claim(NOW, 200, 60)) == len(found)

    asyncio.run(run())


def test_an_error_after_the_commit_does_not_end_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:

            def fail(changes: object) -> None:
                raise ZeroDivisionError

            with monkeypatch.context() as patch:
                patch.setattr(store._writer.leases, "apply", fail)
                with pytest.raises(ZeroDivisionError):
                    await store.put(message("Q1"))
            await store.put(message("Q2"))

    asyncio.run(run())


def test_a_part_of_a_round_is_written_and_the_message_stays_active(tmp_path: Path) -> None:
    clock = HandClock()

    async def run() -> None:
        async with opened(tmp_path, clock=clock) as store:
            first = message("Q1", recipients=("b", "c", "d"))
            await store.put(first, lease_s=50)
            clock.steady += 40
            await store.settle(Settlement("Q1", first.pending[1:], lease_s=50))
            clock.steady += 40
            assert await store.claim(NOW, 5, 60) == []
            entry = await store.entry("Q1")
            assert entry is not None
            assert (entry.state, entry.message.pending, entry.message.attempts) == (
                QueueState.ACTIVE,
                first.pending[1:],
                0,
            )
            clock.steady += 11
            [again] = await store.claim(NOW, 5, 60)
            assert again.pending == first.pending[1:]
            # Deleted meanwhile: what is left of its round does not bring it back.
            await store.change(["Q1"], Change.DELETE, NOW)
            await store.settle(Settlement("Q1", first.pending[2:], lease_s=50))
            assert await store.counts() == dict.fromkeys(QueueState, 0)

    asyncio.run(run())


def test_settlements_together_hold_all_or_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            assert isinstance(store, BatchStore)
            for name in ("Q1", "Q2", "Q3", "taken"):
                await store.put(message(name), lease_s=60)
            waits = message("x").pending
            bad = Settlement("Q2", born=(message("taken", b"another one"),))
            with pytest.raises(StoreTrouble):
                await store.settle_all([Settlement("Q1"), bad, Settlement("Q3", waits, NOW + 5)])
            assert (await store.counts())[QueueState.ACTIVE] == 4
            good = Settlement("Q2", born=(message("B1"),), born_lease_s=60)
            await store.settle_all([Settlement("Q1"), good, Settlement("Q3", waits, NOW + 5)])
            found = {x.message.queue_id: x.state.value for x in await store.entries()}
            assert found == {"Q3": "deferred", "taken": "active", "B1": "active"}
            await store.settle_all([Settlement("taken"), Settlement("B1")])
            await store.settle_all([])
            assert ids_on_disk(tmp_path) == ["Q3"]

    asyncio.run(run())


def test_a_listing_goes_page_by_page_in_the_order_of_ids(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            for number in (3, 1, 5, 2, 4):
                await store.put(message(f"Q{number}"), lease_s=60 * (number % 2))
            seen: list[str] = []
            while page := await store.entries(limit=2, after=seen[-1] if seen else ""):
                seen += [x.message.queue_id for x in page]
            assert seen == ["Q1", "Q2", "Q3", "Q4", "Q5"]
            active = await store.entries(states=frozenset({QueueState.ACTIVE}), limit=9, after="Q1")
            assert [x.message.queue_id for x in active] == ["Q3", "Q5"]

    asyncio.run(run())


def test_a_settlement_that_reached_the_disk_though_it_seemed_to_fail_can_be_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.put(message("Q1"), lease_s=9)
            settlement = Settlement("Q1", born=(message("Q2", b"notification"),))
            await store.settle(settlement)
            await store.settle(settlement)
            assert [entry.message.queue_id for entry in await store.entries()] == ["Q2"]

    asyncio.run(run())
