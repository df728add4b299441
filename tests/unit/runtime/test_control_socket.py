"""The control socket, from a command's client to a store in memory."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import deferred
from ekiden.message.envelope import Envelope, Recipient
from ekiden.message.queued import Pending, QueuedMessage, QueueState
from ekiden.message.status import Status
from ekiden.observe.events import Administered, Event, Note
from ekiden.queue.store import Change, QueueEntry, Store, StoreTrouble
from ekiden.runtime.control_client import NotRunning, RunningServer, ServerTrouble
from ekiden.runtime.control_socket import ControlServer
from ekiden.runtime.requests import Filter, WorkerStatus
from ekiden.runtime.system_clock import SystemClock


def address(text: str) -> Address:
    local, _, domain = text.partition("@")
    return Address(local, domain)


def message(number: int, *recipients: str, sender: str = "s@a.example") -> QueuedMessage:
    people = tuple(Recipient(address(text)) for text in recipients or ("r@b.example",))
    result = deferred(Status(4, 4, 1), "connection refused")
    return QueuedMessage(
        queue_id=f"Q{number:05d}",
        envelope=Envelope(sender=address(sender), recipients=people),
        content=InlineContent(b"Subject: x\r\n\r\nhello\r\n"),
        arrived=1000.0 + number,
        pending=tuple(Pending(person, result) for person in people),
    )


class MemoryStore:
    """What the control socket needs of a store."""

    def __init__(self, messages: Iterable[QueuedMessage] = ()) -> None:
        self.states = {m.queue_id: QueueState.DEFERRED for m in messages}
        self.messages = {m.queue_id: m for m in messages}
        self.trouble = ""

    async def entries(
        self, *, states: frozenset[QueueState] | None = None, limit: int = 0, after: str = ""
    ) -> list[QueueEntry]:
        if self.trouble:
            raise StoreTrouble(self.trouble)
        found = [
            QueueEntry(state, self.messages[queue_id], "0")
            for queue_id, state in sorted(self.states.items())
            if queue_id > after and (states is None or state in states)
        ]
        return found[:limit] if limit else found

    async def entry(self, queue_id: str) -> QueueEntry | None:
        state = self.states.get(queue_id)
        return None if state is None else QueueEntry(state, self.messages[queue_id], "0")

    async def change(self, queue_ids: Sequence[str], change: Change, now: float) -> list[str]:
        assert queue_ids, "an empty list means all"
        done = [queue_id for queue_id in queue_ids if queue_id in self.states]
        for queue_id in done:
            if change is Change.DELETE:
                del self.states[queue_id]
            else:
                self.states[queue_id] = QueueState.HOLD if change is Change.HOLD else QueueState.DEFERRED
        return done

    async def counts(self) -> dict[QueueState, int]:
        return {state: list(self.states.values()).count(state) for state in QueueState}


class Recorder:
    """Scheduler, statistics and observer in one: remembers what it was told."""

    def __init__(self) -> None:
        self.flushes = self.wakes = 0
        self.withdrawn: list[str] = []
        self.events: list[Event] = []

    def flush(self) -> None:
        self.flushes += 1

    def wake(self) -> None:
        self.wakes += 1

    def withdraw(self, queue_ids: Iterable[str]) -> list[str]:
        self.withdrawn += queue_ids
        return []

    async def send_reports(self, subject: str) -> int:
        return 3

    def worker_status(self, counts: dict[str, int]) -> WorkerStatus:
        return WorkerStatus(0, os.getpid(), "1", 1.0, 2, 3, 4, counts)

    def emit(self, event: Event) -> None:
        self.events.append(event)


@asynccontextmanager
async def served(queue: Path, *stores: MemoryStore, **settings: str) -> AsyncIterator[list[Recorder]]:
    (queue / "run").mkdir(mode=0o700)
    parameters = Parameters(settings)
    recorders = [Recorder() for _ in stores]
    servers = [
        ControlServer(
            queue / "run" / f"worker-{index}.sock",
            cast(Store, store), recorder, recorder, recorder, SystemClock(), lambda: parameters,
        )
        for index, (store, recorder) in enumerate(zip(stores, recorders, strict=True))
    ]  # fmt: skip
    for server in servers:
        await server.start()
    try:
        yield recorders
    finally:
        for server in servers:
            await server.close()


def ask(queue: Path, stores: Sequence[MemoryStore], question: Callable[[RunningServer], Any], **settings: str) -> Any:
    """What ``question`` gets from a server with these stores; and what the workers were told."""

    def blocking() -> Any:
        with RunningServer(queue, Parameters(settings)) as server:
            return question(server)

    async def both() -> Any:
        async with served(queue, *stores, **settings) as recorders:
            return await asyncio.to_thread(blocking), recorders

    return asyncio.run(both())


def ids(server: RunningServer, wanted: Filter = Filter()) -> list[str]:  # noqa: B008
    return [line.queue_id for line in server.messages(wanted)]


def test_messages_of_all_workers_come_in_one_order_page_by_page(tmp_path: Path) -> None:
    stores = [MemoryStore([message(n) for n in range(100) if n % 3 == part]) for part in range(3)]
    found, _ = ask(tmp_path, stores, ids, control_listing_limit="7")
    assert found == [f"Q{n:05d}" for n in range(100)]


def test_a_page_is_small_even_when_messages_have_many_recipients(tmp_path: Path) -> None:
    many = [f"r{n}@b.example" for n in range(100)]
    store = MemoryStore([message(n, *many) for n in range(30)])
    found, _ = ask(tmp_path, [store], ids, control_listing_limit="10", control_message_limit="65536")
    assert len(found) == 30


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(sender="<S@A.example>"), ["Q00001"]),
        (Filter(sender="<>"), ["Q00002"]),
        (Filter(recipient="other@c.example"), ["Q00002"]),
        (Filter(domain="C.example"), ["Q00002"]),
        (Filter(states=(QueueState.HOLD,)), ["Q00003"]),
        (Filter(domain="c.example", states=(QueueState.HOLD,)), []),
    ],
)
def test_filters(tmp_path: Path, wanted: Filter, expected: list[str]) -> None:
    store = MemoryStore(
        [
            message(1),
            message(2, "r@b.example", "other@c.example", sender=""),
            message(3, sender="x@x.example"),
        ]
    )
    store.states["Q00003"] = QueueState.HOLD
    found, _ = ask(tmp_path, [store], lambda server: ids(server, wanted))
    assert found == expected


def test_show_tells_the_beginning_of_the_content(tmp_path: Path) -> None:
    stores = [MemoryStore([message(1)]), MemoryStore([message(2)])]
    (shown, nothing), _ = ask(
        tmp_path, stores, lambda server: (server.show("Q00002"), server.show("none")), control_head_limit="10"
    )
    assert shown.message.queue_id == "Q00002"
    assert shown.head == b"Subject: x"
    assert shown.message.recipients[0].reason == "connection refused"
    assert nothing.message is None


def test_a_change_by_name_says_which_it_applied_to(tmp_path: Path) -> None:
    stores = [MemoryStore([message(1)]), MemoryStore([message(2)])]
    changed, recorders = ask(
        tmp_path, stores, lambda server: server.change(Change.HOLD, ["Q00001", "Q00002", "none"], Filter())
    )
    assert changed.count == 2
    assert sorted(changed.queue_ids) == ["Q00001", "Q00002"]
    assert stores[0].states == {"Q00001": QueueState.HOLD}
    # The scheduler gave it back before the store was changed.
    assert "Q00001" in recorders[0].withdrawn
    assert Administered("Q00001", "hold") in recorders[0].events


def test_deleting_by_filter_takes_only_what_matches(tmp_path: Path) -> None:
    store = MemoryStore([message(n, f"r@{'bad' if n % 2 else 'good'}.example") for n in range(50)])
    changed, _ = ask(
        tmp_path,
        [store],
        lambda server: server.change(Change.DELETE, [], Filter(domain="bad.example")),
        control_listing_limit="4",
    )
    assert changed.count == 25
    assert len(store.states) == 25


def test_a_filter_that_matches_nothing_changes_nothing(tmp_path: Path) -> None:
    store = MemoryStore([message(1)])
    changed, _ = ask(tmp_path, [store], lambda server: server.change(Change.DELETE, [], Filter(sender="no@no.example")))
    assert changed.count == 0
    assert len(store.states) == 1


def test_releasing_all_leaves_corrupt_ones_alone(tmp_path: Path) -> None:
    store = MemoryStore([message(1), message(2)])
    store.states.update({"Q00001": QueueState.CORRUPT, "Q00002": QueueState.HOLD})
    changed, recorders = ask(tmp_path, [store], lambda server: server.change(Change.RELEASE, [], Filter()))
    assert changed.count == 1
    assert store.states["Q00001"] is QueueState.CORRUPT
    assert recorders[0].wakes == 1


def test_flush_and_status_reach_every_worker(tmp_path: Path) -> None:
    stores = [MemoryStore([message(1)]), MemoryStore([message(2)])]
    (count, statuses), recorders = ask(tmp_path, stores, lambda server: (server.flush(), server.status()))
    assert count == 2
    assert [recorder.flushes for recorder in recorders] == [1, 1]
    assert [status.counts["deferred"] for status in statuses] == [1, 1]


def test_trouble_of_the_store_is_one_line_for_the_command(tmp_path: Path) -> None:
    store = MemoryStore()
    store.trouble = "database away"

    def question(server: RunningServer) -> None:
        with pytest.raises(ServerTrouble, match="worker-0: database away"):
            ids(server)

    ask(tmp_path, [store], question)


def test_the_socket_is_for_its_owner_alone_and_replaces_a_dead_one(tmp_path: Path) -> None:
    async def look() -> None:
        (tmp_path / "again").mkdir()
        async with served(tmp_path / "again", MemoryStore()):
            pass
        path = tmp_path / "again" / "run" / "worker-0.sock"
        server = ControlServer(
            path, cast(Store, MemoryStore()), Recorder(), Recorder(), Recorder(), SystemClock(), Parameters
        )
        await server.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await server.close()

    asyncio.run(look())


def test_a_deep_directory_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    found, _ = ask(deep, [MemoryStore([message(1)])], ids)
    assert found == ["Q00001"]


def test_no_socket_and_a_dead_socket_are_no_running_server(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        RunningServer(tmp_path, Parameters())
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "run" / "worker-0.sock"))
    with pytest.raises(NotRunning):
        RunningServer(tmp_path, Parameters())


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x04nope", b"\x00\x00\x00\x00", b"\x00\x00", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_nonsense_ends_that_connection_only(tmp_path: Path, data: bytes) -> None:
    async def talk() -> None:
        async with served(tmp_path, MemoryStore()) as recorders:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "run" / "worker-0.sock")
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            assert all(isinstance(event, Note) for event in recorders[0].events)
            with await asyncio.to_thread(RunningServer, tmp_path, Parameters()) as server:
                assert await asyncio.to_thread(ids, server) == []

    asyncio.run(talk())
