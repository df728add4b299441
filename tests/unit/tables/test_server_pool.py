"""Which server of a table is asked, and for how long one that failed is not."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, ServerTrouble
from ekiden.tables.table import TableTrouble


class FakeConnection:
    def __init__(self, server: str) -> None:
        self.server = server
        self.alive = True
        self.closed = False

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, limits: PoolLimits, *servers: str) -> None:
        self.now = 0.0
        self.down: set[str] = set()
        self.tried: list[str] = []
        self.made: list[FakeConnection] = []
        self.pool: ServerPool[str, FakeConnection] = ServerPool(
            servers, self._connect, limits, monotonic=lambda: self.now
        )

    async def _connect(self, server: str) -> FakeConnection:
        self.tried.append(server)
        if server in self.down:
            raise ServerTrouble("it is down")
        self.made.append(FakeConnection(server))
        return self.made[-1]

    async def _name(self, connection: FakeConnection) -> str:
        if connection.server in self.down:
            raise ServerTrouble("it broke off")
        return connection.server

    async def ask(self) -> str:
        return await self.pool.ask("fake:x", self._name)


def test_servers_are_tried_in_order_and_left_alone_after_a_failure() -> None:
    async def main() -> None:
        world = World(PoolLimits(2, 5, retry_s=60), "a", "b")
        world.down = {"a"}
        assert await world.ask() == "b"
        assert await world.ask() == "b"
        assert world.tried == ["a", "b"]
        world.down = {"a", "b"}
        with pytest.raises(TableTrouble, match="fake:x: b: it is down"):
            await world.ask()
        tried = len(world.tried)
        with pytest.raises(TableTrouble, match="fake:x: a: it is down; b: it is down"):
            await world.ask()
        assert len(world.tried) == tried
        world.down, world.now = set(), 61
        assert await world.ask() == "a"

    asyncio.run(main())


def test_a_refusal_ends_the_search_and_keeps_the_connection() -> None:
    async def main() -> None:
        world = World(PoolLimits(2, 5), "a", "b")

        async def refused(connection: FakeConnection) -> str:
            raise Refusal("no")

        with pytest.raises(TableTrouble, match=r"^no$"):
            await world.pool.ask("fake:x", refused)
        assert world.tried == ["a"]
        assert world.pool.unused == 1
        assert await world.ask() == "a"
        assert world.tried == ["a"]

    asyncio.run(main())


def test_a_bug_in_a_question_closes_the_connection() -> None:
    async def main() -> None:
        world = World(PoolLimits(2, 5), "a")

        async def broken(connection: FakeConnection) -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await world.pool.ask("fake:x", broken)
        assert world.made[0].closed
        assert world.pool.unused == 0

    asyncio.run(main())


def test_unused_connections_are_closed_after_a_while() -> None:
    async def main() -> None:
        world = World(PoolLimits(2, 5, idle_s=0.02), "a")
        await world.ask()
        assert not world.made[0].closed
        world.now = 0.03
        deadline = asyncio.get_running_loop().time() + 5
        while not world.made[0].closed and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        assert world.made[0].closed

    asyncio.run(main())


def test_another_event_loop_has_its_own_connections() -> None:
    world = World(PoolLimits(2, 5), "a")
    asyncio.run(world.ask())
    asyncio.run(world.ask())
    assert world.tried == ["a", "a"]
