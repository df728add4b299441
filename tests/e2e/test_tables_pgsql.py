"""pgsql: tables and a real PostgreSQL (pgsql_table(5))."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ekiden.config.errors import ConfigError
from ekiden.tables.open import open_table
from ekiden.tables.table import TableTrouble
from support.databases import DatabaseServer, free_port, running_postgres
from support.table_lookups import HOSTILE_KEYS, IMPOSSIBLE_KEYS, look, trouble

_SETUP = """
    CREATE ROLE asks LOGIN PASSWORD 's3cret';
    CREATE TABLE alias (address TEXT, goto TEXT, uid INT);
    GRANT SELECT ON alias TO asks;
    INSERT INTO alias VALUES ('a@example', 'b@example', 42), ('a@example', 'c@example', 43),
        ('nothing@example', NULL, 0), ('üser@example', 'ü@example', 1);
    CREATE FUNCTION find(wanted TEXT) RETURNS SETOF TEXT LANGUAGE sql
        AS 'SELECT goto FROM alias WHERE address = wanted';
"""


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    with running_postgres() as running:
        with psycopg.connect(f"host={running.folder} port={running.port} user=mail dbname=postgres") as root:
            root.execute(_SETUP)
            rows = [(key, f"hit {number}") for number, key in enumerate(HOSTILE_KEYS)]
            with root.cursor() as cursor:
                cursor.executemany("INSERT INTO alias VALUES (%s, %s, 0)", rows)
        root.close()
        yield running


class Described:
    """Writes the file of a table."""

    def __init__(self, path: Path, server: DatabaseServer) -> None:
        self._path, self._server = path, server

    def __call__(self, query: str = "SELECT goto FROM alias WHERE address = '%s'", **settings: str) -> str:
        base = {"hosts": f"127.0.0.1:{self._server.port}", "user": "asks", "password": "s3cret", "dbname": "postgres"}
        lines = {**base, "query": query, **settings}
        file = self._path / "pgsql.cf"
        file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return f"pgsql:{file}"


@pytest.fixture
def table(tmp_path: Path, server: DatabaseServer) -> Described:
    return Described(tmp_path, server)


def test_found_not_found_and_several_rows(table: Described) -> None:
    assert look(table(), "a@example", "A@EXAMPLE", "none@example", "nothing@example", "üser@example") == [
        "b@example,c@example", "b@example,c@example", None, None, "ü@example",
    ]  # fmt: skip
    assert look(table("SELECT uid, goto FROM alias WHERE address = '%s' AND uid = 42"), "a@example") == ["42,b@example"]


def test_formats_and_limits(table: Described) -> None:
    word = table(result_format="[%u]%1", domain="example")
    assert look(word, "a@example", "a@elsewhere", "a") == ["[b]example,[c]example", None, None]
    assert "expansion_limit = 1" in trouble(table(expansion_limit="1"), "a@example")


def test_the_ways_to_name_a_server(table: Described, server: DatabaseServer) -> None:
    for hosts in (
        f"unix:{server.socket}",
        f"inet:127.0.0.1:{server.port}",
        f"postgresql://asks:s3cret@127.0.0.1:{server.port}/postgres?sslmode=disable",
        f"127.0.0.1:{free_port()} 127.0.0.1:{server.port}",
    ):
        assert look(table(hosts=hosts), "a@example") == ["b@example,c@example"]
    said = trouble(table(hosts=f"postgresql://asks:wr0ng@127.0.0.1:{server.port}/postgres"), "a@example")
    assert "password authentication failed" in said
    assert "wr0ng" not in said


def test_the_parameters_that_came_before_query(table: Described) -> None:
    word = table("", select_field="goto", table="alias", where_field="address", additional_conditions="AND uid = 43")
    assert look(word, "a@example") == ["c@example"]
    assert look(table("", select_function="find"), "a@example") == ["b@example,c@example"]


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_hostile_keys_are_only_compared(table: Described, server: DatabaseServer, conforming: str) -> None:
    setting = f"-c standard_conforming_strings={conforming}".replace(" ", "%20").replace("=", "%3D")
    hosts = f"postgresql://asks:s3cret@127.0.0.1:{server.port}/postgres?options={setting}"
    word = table(hosts=hosts)
    assert look(word, *HOSTILE_KEYS) == [f"hit {number}" for number in range(len(HOSTILE_KEYS))]
    assert look(word, *IMPOSSIBLE_KEYS) == [None] * len(IMPOSSIBLE_KEYS)
    assert look(word, *(f"{key}x" for key in HOSTILE_KEYS)) == [None] * len(HOSTILE_KEYS)


def test_a_query_that_two_servers_read_differently_is_not_sent(table: Described, server: DatabaseServer) -> None:
    query = r"SELECT '\', goto FROM alias WHERE address = '%s'"
    hosts = f"postgresql://asks:s3cret@127.0.0.1:{server.port}/postgres?options=-c%20standard_conforming_strings%3Doff"
    assert "standard_conforming_strings" in trouble(table(query, hosts=hosts), "a@example")
    assert look(table(query), "a@example") == ["\\,b@example,\\,c@example"]


def test_an_encoding_that_lacks_the_key_has_no_such_key(table: Described) -> None:
    word = table("SELECT 'it is there' WHERE '%s' <> ''", encoding="LATIN1")
    assert look(word, "ü@example", "縗@example") == ["it is there", None]


def test_what_the_server_says_is_told(table: Described) -> None:
    assert "nowhere" in trouble(table("SELECT goto FROM nowhere WHERE address = '%s'"), "a@example")
    assert "no set of results" in trouble(table("DO $$ BEGIN END $$; SET x.y = '%s'"), "a@example")


def test_a_server_that_is_down_is_trouble_and_found_again(table: Described, server: DatabaseServer) -> None:
    async def main() -> None:
        asked = open_table(table(retry_interval="0"))
        assert await asked.lookup("a@example") == "b@example,c@example"
        await asyncio.to_thread(server.stop)
        with pytest.raises(TableTrouble):
            await asked.lookup("a@example")
        await asyncio.to_thread(server.start)
        assert await asked.lookup("a@example") == "b@example,c@example"
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert await asked.lookup("a@example") == "b@example,c@example"
        await asked.close()

    asyncio.run(main())


def test_a_slow_server_is_trouble_in_time(table: Described, server: DatabaseServer) -> None:
    began = time.monotonic()
    assert "does not answer" in trouble(table("SELECT pg_sleep(30) WHERE '%s' <> ''", timeout="1"), "a@example")
    with server.frozen():
        assert trouble(table(timeout="1"), "a@example")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("settings", "line", "says"),
    [
        ({"encoding": "SJIS"}, 6, "must be one of UTF8"),
        ({"query": "SELECT goto FROM alias WHERE address = E'%s'"}, 5, "plain quotes"),
        ({"query": "SELECT goto FROM alias WHERE address = $$%s$$"}, 5, "not in \\$\\$ quotes"),
        ({"query": 'SELECT "%s" FROM alias'}, 5, "quoted name"),
        ({"dbname": ""}, 0, "dbname is not set"),
        ({"idle_interval": "soon"}, 6, "must be a time"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(table: Described, settings: dict[str, str], line: int, says: str) -> None:
    word = table(**settings)
    with pytest.raises(ConfigError, match=says) as told:
        open_table(word)
    assert (told.value.file, told.value.line) == (word.removeprefix("pgsql:"), line)
