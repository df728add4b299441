"""socketmap: and tcp: tables (socketmap_table(5), tcp_table(5)) and the pool of connections below all such tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.protocol.netstring import netstring
from ekiden.tables.open import open_table
from ekiden.tables.table import Table, TableTrouble
from ekiden.tables.tcp import encode
from support.honours import honours
from support.table_lookups import HOSTILE_KEYS, IMPOSSIBLE_KEYS

Answer = Callable[[bytes], Awaitable[bytes]]


class Service:
    """A server that gives ``answer`` of each request; it counts its connections."""

    def __init__(self, answer: Answer, read: Callable[[asyncio.StreamReader], Awaitable[bytes]]) -> None:
        self._answer, self._read = answer, read
        self.accepted = self.open = self.most = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while request := await self._read(reader):
                writer.write(await self._answer(request))
        self.open -= 1
        writer.close()

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def read_netstring(reader: asyncio.StreamReader) -> bytes:
    length = int((await reader.readuntil(b":"))[:-1])
    return (await reader.readexactly(length + 1))[:-1]


async def read_line(reader: asyncio.StreamReader) -> bytes:
    return await reader.readline()


@contextlib.asynccontextmanager
async def socketmap(answer: Answer, path: Path | None = None, **settings: str) -> AsyncIterator[tuple[Table, Service]]:
    service = Service(answer, read_netstring)
    if path is not None:
        listener = await asyncio.start_unix_server(service.serve, path)
        word = f"socketmap:unix:{path}:users"
    else:
        listener = await asyncio.start_server(service.serve, "127.0.0.1", 0)
        word = f"socketmap:inet:127.0.0.1:{listener.sockets[0].getsockname()[1]}:users"
    table = open_table(word, parameters=Parameters(settings))
    yield table, service
    await table.close()
    await service.close()
    listener.close()


@contextlib.asynccontextmanager
async def tcp(answer: Answer, **settings: str) -> AsyncIterator[tuple[Table, Service]]:
    service = Service(answer, read_line)
    listener = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    table = open_table(f"tcp:127.0.0.1:{listener.sockets[0].getsockname()[1]}", parameters=Parameters(settings))
    yield table, service
    await table.close()
    await service.close()
    listener.close()


def always(reply: bytes) -> Answer:
    async def answer(request: bytes) -> bytes:
        return reply

    return answer


async def echo(request: bytes) -> bytes:
    return netstring(b"OK " + request)


# -- socketmap ---------------------------------------------------------------------------------------------------------


def test_socketmap_sends_the_name_and_the_key_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        for path in (None, tmp_path / "socket"):
            async with socketmap(echo, path) as (table, service):
                assert await table.lookup("User+X@Example.COM") == "users User+X@Example.COM"
                assert [await table.lookup(key) for key in HOSTILE_KEYS] == [f"users {key}" for key in HOSTILE_KEYS]
                assert [await table.lookup(key) for key in IMPOSSIBLE_KEYS] == [None] * len(IMPOSSIBLE_KEYS)
                assert service.accepted == 1
                assert table.whole_keys

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"8:NOTFOUND,", None),
        (b"9:NOTFOUND ,", None),
        (b"9:TEMP busy,", "TEMP 'busy'"),
        (b"5:PERM ,", "PERM ''"),
        (b"9:TIMEOUT x,", "TIMEOUT 'x'"),
        (b"6:MAYBE ,", "neither OK"),
        (b"0:,", "neither OK"),
        (b"x", "no length"),
        (b"05:OK xx,", "begins with 0"),
        (b"5:OK xxx", "end with a comma"),
        (b"9999999999:", "too many digits"),
    ],
)
def test_socketmap_replies(reply: bytes, says: str | None) -> None:
    async def main() -> None:
        async with socketmap(always(reply)) as (table, _):
            if says is None:
                assert await table.lookup("key") is None
            else:
                with pytest.raises(TableTrouble, match=says):
                    await table.lookup("key")

    asyncio.run(main())


@honours("socketmap_max_query_size", "socketmap_max_reply_size")
def test_socketmap_limits() -> None:
    async def main() -> None:
        async with socketmap(echo, socketmap_max_query_size="20") as (table, _):
            assert await table.lookup("k" * 14) == "users " + "k" * 14
            with pytest.raises(TableTrouble, match="socketmap_max_query_size = 20"):
                await table.lookup("k" * 15)
        async with socketmap(echo, socketmap_max_reply_size="20") as (table, _):
            assert await table.lookup("k" * 11) == "users " + "k" * 11
            with pytest.raises(TableTrouble, match="more than the 20"):
                await table.lookup("k" * 12)

    asyncio.run(main())


@pytest.mark.parametrize(
    "word",
    [
        "socketmap:inet:host:x",
        "socketmap:inet:host:70000:x",
        "socketmap:unix:rel:x",
        "socketmap:host:1:x",
        "socketmap:x",
    ],
)
def test_socketmap_names_that_are_none(word: str) -> None:
    with pytest.raises(ConfigError):
        open_table(word)


# -- tcp ---------------------------------------------------------------------------------------------------------------


def test_tcp_encodes_and_decodes() -> None:
    requests: list[bytes] = []

    async def answer(request: bytes) -> bytes:
        requests.append(request)
        return b"200 " + request[4:].replace(b"\n", b"") + b"%20x\n"

    async def main() -> None:
        async with tcp(answer) as (table, service):
            assert await table.lookup("User@Example.COM a%b") == "User@Example.COM a%b x"
            assert await table.lookup("ü\n") == "ü\n x"
            keys = [key for key in HOSTILE_KEYS if len(encode(key)) < 4000]
            assert [await table.lookup(key) for key in keys] == [f"{key} x" for key in keys]
            assert service.accepted == 1

    asyncio.run(main())
    # as Postfix 3.7 sends them
    assert requests[:2] == [b"get User@Example.COM%20a%25b\n", b"get %C3%BC%0A\n"]
    assert all(request.count(b"\n") == 1 and b"\r" not in request and b"\0" not in request for request in requests)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"500 not here\n", None),
        (b"500 \r\n", None),
        (b"400 later\n", "'later'"),
        (b"250 ok\n", "none of 200, 400, 500"),
        (b"hello\n", "without a status"),
        (b"200 %zz\n", "two hexadecimal digits"),
        (b"200 " + b"x" * 5000 + b"\n", "more than 4096"),
        (b"200 x" * 1000, "more than 4096"),
    ],
)
def test_tcp_replies(reply: bytes, says: str | None) -> None:
    async def main() -> None:
        async with tcp(always(reply)) as (table, _):
            if says is None:
                assert await table.lookup("key") is None
            else:
                with pytest.raises(TableTrouble, match=says):
                    await table.lookup("key")

    asyncio.run(main())


# -- connections -------------------------------------------------------------------------------------------------------


def test_no_more_connections_than_allowed_and_those_are_used_again() -> None:
    async def slow(request: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return b"200 x\n"

    async def main() -> tuple[int, int]:
        async with tcp(slow, table_connection_limit="3") as (table, service):
            assert service.accepted == 0  # nothing connects before the first lookup
            assert await asyncio.gather(*(table.lookup(str(number)) for number in range(20))) == ["x"] * 20
            return service.most, service.accepted

    assert asyncio.run(main()) == (3, 3)


def test_tables_of_one_server_share_their_connections() -> None:
    async def main() -> int:
        async with tcp(always(b"200 x\n")) as (table, service):
            other = open_table(table.name)
            assert (await table.lookup("a"), await other.lookup("b")) == ("x", "x")
            return service.accepted

    assert asyncio.run(main()) == 1


def test_a_connection_that_the_server_closed_is_made_anew() -> None:
    async def main() -> int:
        async with tcp(always(b"200 x\n")) as (table, service):
            assert await table.lookup("a") == "x"
            for writer in service.writers:
                writer.close()
                await writer.wait_closed()
            assert await table.lookup("a") == "x"
            service.writers[-1].transport.abort()
            assert await table.lookup("a") == "x"
            return service.accepted

    assert asyncio.run(main()) == 3


def test_what_nobody_asked_for_is_no_answer_to_the_next_question() -> None:
    async def main() -> list[str | None]:
        answers = iter([b"200 one\n200 smuggled\n", b"200 two\n", b"200 three\n"])

        async def answer(request: bytes) -> bytes:
            return next(answers)

        async with tcp(answer) as (table, _):
            return [await table.lookup(key) for key in ("a", "b", "c")]

    assert asyncio.run(main()) == ["one", "two", "three"]


def test_a_lookup_that_was_given_up_leaves_no_answer_behind() -> None:
    async def main() -> str | None:
        answers = iter([b"200 late\n", b"200 right\n"])

        async def answer(request: bytes) -> bytes:
            reply = next(answers)
            await asyncio.sleep(0.05 if b"late" in reply else 0)
            return reply

        async with tcp(answer) as (table, _):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(table.lookup("a"), 0.01)
            return await table.lookup("b")

    assert asyncio.run(main()) == "right"


def test_a_server_that_says_nothing_is_trouble_in_time() -> None:
    async def never(request: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    async def main() -> None:
        async with tcp(never, table_service_timeout="1", table_connection_limit="1") as (table, _):
            first, second = await asyncio.gather(table.lookup("a"), table.lookup("b"), return_exceptions=True)
            assert "does not answer" in str(first)
            assert "no connection is free, 1 are in use" in str(second) or "does not answer" in str(second)

    asyncio.run(main())


def test_nobody_there_is_trouble() -> None:
    async def main() -> None:
        async with tcp(always(b"200 x\n")) as (table, _):
            name = table.name
        with pytest.raises(TableTrouble, match=rf"^{name}: .*Connection refused"):
            await open_table(name).lookup("a")

    asyncio.run(main())
