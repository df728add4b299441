"""memcache: and redis: tables and real servers (memcache_table(5))."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from ekiden.config.errors import ConfigError
from ekiden.protocol.resp import request
from ekiden.tables.open import open_table
from ekiden.tables.table import TableTrouble
from support.databases import DatabaseServer, free_port, running_memcached, running_redis
from support.table_lookups import HOSTILE_KEYS, IMPOSSIBLE_KEYS, look, trouble


class Describe(Protocol):
    """Writes the file of a table."""

    def __call__(self, **settings: str) -> str: ...


def tell(server: DatabaseServer, *commands: bytes) -> list[bytes]:
    """The first line of each answer."""
    found = []
    with socket.create_connection(("127.0.0.1", server.port), 5) as client, client.makefile("rb") as lines:
        for command in commands:
            client.sendall(command)
            found.append(lines.readline())
    return found


@pytest.fixture(scope="module")
def memcached() -> Iterator[DatabaseServer]:
    with running_memcached() as running:
        yield running


@pytest.fixture(scope="module")
def redis() -> Iterator[DatabaseServer]:
    with running_redis("--requirepass", "s3cret") as running:
        rows = [
            request([b"SET", f"mail:{key}".encode(), b"hit %d" % number]) for number, key in enumerate(HOSTILE_KEYS)
        ]
        commands = [
            request([b"SET", b"mail:a@example", b"b@example"]),
            request([b"SET", b"mail:empty@example", b""]),
            request([b"LPUSH", b"mail:list@example", b"x"]),
            request([b"SELECT", b"3"]),
            request([b"SET", b"a@example", b"of 3"]),
        ]
        answers = tell(running, request([b"AUTH", b"s3cret"]), *rows, *commands)
        assert not any(answer.startswith(b"-") for answer in answers)
        yield running


@pytest.fixture
def memcache(tmp_path: Path, memcached: DatabaseServer) -> Describe:
    def write(**settings: str) -> str:
        lines = {"memcache": f"inet:127.0.0.1:{memcached.port}", **settings}
        file = tmp_path / "memcache.cf"
        file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return f"memcache:{file}"

    return write


@pytest.fixture
def redis_table(tmp_path: Path, redis: DatabaseServer) -> Describe:
    def write(**settings: str) -> str:
        lines = {"host": "127.0.0.1", "port": str(redis.port), "password": "s3cret", "prefix": "mail:", **settings}
        file = tmp_path / "redis.cf"
        file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return f"redis:{file}"

    return write


# -- memcache ----------------------------------------------------------------------------------------------------------


def test_memcache_found_and_not_found(memcache: Describe, memcached: DatabaseServer) -> None:
    tell(memcached, b"set t1:a@example 0 0 9\r\nb@example\r\n")
    word = memcache(key_format="t1:%s", domain="example")
    assert look(word, "a@example", "A@Example", "none@example", "a@other", "a") == ["b@example"] * 2 + [None] * 3
    assert look(memcache(key_format="t1:%u@%d"), "a@example", "plain") == ["b@example", None]


def test_memcache_learns_from_its_backup(memcache: Describe, memcached: DatabaseServer) -> None:
    word = memcache(key_format="t2:%s", backup="inline:{ { a@example = of the backup } }", ttl="100", flags="7")
    assert look(word, "a@example", "none@example") == ["of the backup", None]
    assert tell(memcached, b"get t2:a@example\r\n") == [b"VALUE t2:a@example 7 13\r\n"]
    tell(memcached, b"set t2:a@example 0 0 3\r\nnew\r\n")
    assert look(word, "a@example") == ["new"]


def test_memcache_that_is_down(memcache: Describe) -> None:
    nobody = f"inet:127.0.0.1:{free_port()}"
    assert "refused" in trouble(memcache(memcache=nobody), "a@example")
    assert look(memcache(memcache=nobody, backup="inline:{ a@example = backup }"), "a@example") == ["backup"]


def test_memcache_that_is_slow(memcache: Describe, memcached: DatabaseServer) -> None:
    began = time.monotonic()
    with memcached.frozen():
        assert "does not answer" in trouble(memcache(timeout="1", max_try="2", retry_pause="0"), "a@example")
    assert 2 <= time.monotonic() - began < 6


def test_memcache_keys_cannot_be_commands(memcache: Describe, memcached: DatabaseServer) -> None:
    word = memcache(key_format="t3:%s", backup="static:backup")
    assert look(word, *HOSTILE_KEYS) == ["backup"] * len(HOSTILE_KEYS)
    assert look(word, *IMPOSSIBLE_KEYS) == [None] * len(IMPOSSIBLE_KEYS)
    assert look(memcache(key_format="t4:%s"), *HOSTILE_KEYS) == [None] * len(HOSTILE_KEYS)
    assert tell(memcached, b"get x\r\n", b"get y\r\n") == [b"END\r\n", b"END\r\n"]


def test_memcache_values_have_a_limit(memcache: Describe, memcached: DatabaseServer) -> None:
    tell(memcached, b"set t5:a 0 0 20\r\n" + b"x" * 20 + b"\r\n")
    said = trouble(memcache(key_format="t5:%s", data_size_limit="10", max_try="1"), "a")
    assert "data_size_limit = 10" in said


def test_memcache_many_keys_at_once(memcache: Describe, memcached: DatabaseServer) -> None:
    tell(memcached, *(b"set t6:%d 0 0 1\r\nv\r\n" % number for number in range(0, 250, 2)))

    async def main() -> list[str | None]:
        table = open_table(memcache(key_format="t6:%s"))
        found = await table.lookup_many([str(number) for number in range(250)])
        await table.close()
        return found

    assert asyncio.run(main()) == ["v", None] * 125


# -- redis -------------------------------------------------------------------------------------------------------------


def test_redis_found_and_not_found(redis_table: Describe) -> None:
    assert (
        look(redis_table(), "a@example", "A@EXAMPLE", "none@example", "empty@example") == ["b@example"] * 2 + [None] * 2
    )
    assert look(redis_table(result_format="%u", domain="example"), "a@example", "a@other") == ["b", None]
    assert look(redis_table(prefix="", key_format="mail:%u@%d"), "a@example", "plain") == ["b@example", None]
    assert look(redis_table(prefix="", dbname="3"), "a@example") == ["of 3"]


def test_redis_ways_to_name_a_server(redis_table: Describe, redis: DatabaseServer) -> None:
    assert look(redis_table(host=f"unix:{redis.socket}"), "a@example") == ["b@example"]
    assert look(redis_table(hosts=f"127.0.0.1:{free_port()} [127.0.0.1]:{redis.port}"), "a@example") == ["b@example"]


def test_redis_refusals_are_trouble(redis_table: Describe) -> None:
    said = trouble(redis_table(password="wr0ng"), "a@example")
    assert "AUTH is refused" in said
    assert "wr0ng" not in said
    assert "WRONGTYPE" in trouble(redis_table(), "list@example")
    assert "SELECT is refused" in trouble(redis_table(dbname="5000"), "a@example")


def test_redis_hostile_keys_are_only_keys(redis_table: Describe) -> None:
    assert look(redis_table(), *HOSTILE_KEYS) == [f"hit {number}" for number in range(len(HOSTILE_KEYS))]
    assert look(redis_table(), *IMPOSSIBLE_KEYS) == [None] * len(IMPOSSIBLE_KEYS)


def test_redis_many_keys_at_once(redis_table: Describe) -> None:
    async def main() -> list[str | None]:
        table = open_table(redis_table())
        found = await table.lookup_many([*HOSTILE_KEYS * 5, "none", "a@example", "list@example"])
        await table.close()
        return found

    hits = [f"hit {number}" for number in range(len(HOSTILE_KEYS))]
    assert asyncio.run(main()) == [*hits * 5, None, "b@example", None]


def test_redis_that_is_down_is_trouble_and_found_again(redis_table: Describe, redis: DatabaseServer) -> None:
    async def main() -> None:
        asked = open_table(redis_table(prefix="gone:"))
        assert await asked.lookup("a@example") is None
        await asyncio.to_thread(redis.stop)
        with pytest.raises(TableTrouble, match="refused"):
            await asked.lookup("a@example")
        await asyncio.to_thread(redis.start)
        assert await asked.lookup("a@example") is None
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(redis.start)
        assert await asked.lookup("a@example") is None
        await asked.close()

    asyncio.run(main())


def test_redis_that_is_slow(redis_table: Describe, redis: DatabaseServer) -> None:
    with redis.frozen():
        assert "does not answer" in trouble(redis_table(timeout="1"), "a@example")


@pytest.mark.parametrize(
    ("settings", "line", "says"),
    [
        ({"port": "70000"}, 2, "from 1 to 65535"),
        ({"key_format": "%x"}, 5, "%x has no meaning"),
        ({"host": ""}, 1, "no server"),
        ({"timeout": "0"}, 5, "at least 1"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(
    redis_table: Describe, settings: dict[str, str], line: int, says: str
) -> None:
    word = redis_table(**settings)
    with pytest.raises(ConfigError, match=says) as told:
        open_table(word)
    assert (told.value.file, told.value.line) == (word.removeprefix("redis:"), line)
