"""mysql: tables and a real MariaDB (mysql_table(5))."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from ekiden.config.errors import ConfigError
from ekiden.tables.open import open_table
from ekiden.tables.table import TableTrouble
from support.databases import DatabaseServer, free_port, running_mariadb
from support.table_lookups import HOSTILE_KEYS, IMPOSSIBLE_KEYS, look, trouble

_SETUP = [
    "CREATE DATABASE mail CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE USER 'asks'@'%' IDENTIFIED BY 's3cret'",
    "GRANT SELECT, EXECUTE ON mail.* TO 'asks'@'%'",
    "USE mail",
    "CREATE TABLE alias (address VARCHAR(4000), goto VARCHAR(100), uid INT, spare VARBINARY(10))",
    "INSERT INTO alias VALUES ('a@example', 'b@example', 42, 'raw'), ('a@example', 'c@example', 43, NULL)",
    "INSERT INTO alias VALUES ('üser@example', 'ü@example', 1, NULL), ('nothing@example', NULL, 0, NULL)",
    "CREATE PROCEDURE find(IN wanted VARCHAR(100)) SELECT goto FROM alias WHERE address = wanted",
    "CREATE PROCEDURE silent(IN wanted VARCHAR(100)) SET @x = 1",
    "CREATE PROCEDURE twice(IN wanted VARCHAR(100)) BEGIN SELECT 1; SELECT 2; END",
]


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    with running_mariadb() as running:
        with pymysql.connect(unix_socket=running.socket, user="root", autocommit=True) as root, root.cursor() as cursor:
            for statement in _SETUP:
                cursor.execute(statement)
            rows = [(key, f"hit {number}") for number, key in enumerate(HOSTILE_KEYS)]
            cursor.executemany("INSERT INTO alias (address, goto) VALUES (%s, %s)", rows)
        yield running


class Described:
    """Writes the file of a table."""

    def __init__(self, path: Path, server: DatabaseServer) -> None:
        self._path, self._server = path, server

    def __call__(self, query: str = "SELECT goto FROM alias WHERE address = '%s'", **settings: str) -> str:
        base = {"hosts": f"127.0.0.1:{self._server.port}", "user": "asks", "password": "s3cret", "dbname": "mail"}
        lines = {**base, "query": query, **settings}
        file = self._path / "mysql.cf"
        file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items() if name))
        return f"mysql:{file}"


@pytest.fixture
def table(tmp_path: Path, server: DatabaseServer) -> Described:
    return Described(tmp_path, server)


def test_found_not_found_and_several_rows(table: Described) -> None:
    assert look(table(), "a@example", "A@EXAMPLE", "none@example", "nothing@example", "üser@example") == [
        "b@example,c@example", "b@example,c@example", None, None, "ü@example",
    ]  # fmt: skip


def test_values_that_are_no_text_and_several_columns(table: Described) -> None:
    word = table("SELECT uid, spare FROM alias WHERE address = '%u@%d' ORDER BY uid")
    assert look(word, "a@example") == ["42,raw,43"]


def test_formats_and_limits(table: Described) -> None:
    word = table(result_format="smtp:[%d] %S", expansion_limit="2", domain="example, other.example")
    assert look(word, "a@example", "a@elsewhere", "a", "@example") == [
        "smtp:[example] a@example,smtp:[example] a@example", None, None, None,
    ]  # fmt: skip
    assert "expansion_limit = 1" in trouble(table(expansion_limit="1"), "a@example")


def test_the_parameters_that_came_before_query(table: Described) -> None:
    word = table("", select_field="goto", table="alias", where_field="address", additional_conditions="AND uid = 42")
    assert look(word, "a@example") == ["b@example"]


def test_parameters_in_main_cf(server: DatabaseServer) -> None:
    settings = {
        "own_socket": f"unix:{server.socket}", "found_hosts": "$own_socket", "found_user": "asks",
        "found_password": "s3cret", "found_dbname": "mail", "found_query": "SELECT goto FROM alias WHERE address='%s'",
    }  # fmt: skip
    assert look("mysql:found", "a@example", settings=settings) == ["b@example,c@example"]


@pytest.mark.parametrize(
    ("mode", "quote"),
    [
        ("", "'"),
        ("", '"'),
        ("NO_BACKSLASH_ESCAPES", "'"),
        ("NO_BACKSLASH_ESCAPES", '"'),
        ("NO_BACKSLASH_ESCAPES,ANSI_QUOTES", "'"),  # there double quotes are for names
    ],
)
def test_hostile_keys_are_only_compared(table: Described, server: DatabaseServer, quote: str, mode: str) -> None:
    with pymysql.connect(unix_socket=server.socket, user="root") as root, root.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.sql_mode")
        before = cursor.fetchone()
        cursor.execute("SET GLOBAL sql_mode = %s", (mode,))
        try:
            word = table(f"SELECT goto FROM alias WHERE address = {quote}%s{quote}")
            expected = [f"hit {number}" for number in range(len(HOSTILE_KEYS))]
            assert look(word, *HOSTILE_KEYS) == expected
            assert look(word, *IMPOSSIBLE_KEYS) == [None] * len(IMPOSSIBLE_KEYS)
            assert look(word, *(f"{key}x" for key in HOSTILE_KEYS)) == [None] * len(HOSTILE_KEYS)
        finally:
            cursor.execute("SET GLOBAL sql_mode = %s", before)


def test_a_query_that_two_servers_read_differently_is_not_sent(table: Described, server: DatabaseServer) -> None:
    with pymysql.connect(unix_socket=server.socket, user="root") as root, root.cursor() as cursor:
        cursor.execute("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
        try:
            word = table(r"SELECT '\'', goto FROM alias WHERE address = '%s'")
            assert "NO_BACKSLASH_ESCAPES" in trouble(word, "a@example")
        finally:
            cursor.execute("SET GLOBAL sql_mode = ''")
    assert look(word, "a@example") == ["',b@example,',c@example"]


def test_a_character_set_that_lacks_the_key_has_no_such_key(table: Described) -> None:
    assert look(table(charset="latin1"), "üser@example", "縗@example") == ["ü@example", None]


def test_stored_procedures(table: Described) -> None:
    assert look(table("CALL find('%s')"), "a@example", "none@example") == ["b@example,c@example", None]
    assert "no set of results" in trouble(table("CALL silent('%s')"), "a@example")
    assert look(table("CALL silent('%s')", require_result_set="no"), "a@example") == [None]
    assert "more than one set" in trouble(table("CALL twice('%s')"), "a@example")


def test_several_statements_are_refused_by_the_server(table: Described) -> None:
    assert "syntax" in trouble(table("SELECT goto FROM alias WHERE address = '%s'; DELETE FROM alias"), "a@example")


def test_what_the_server_says_is_told_without_the_password(table: Described) -> None:
    assert "Access denied" in trouble(table(password="wr0ng"), "a@example")
    assert "wr0ng" not in trouble(table(password="wr0ng"), "a@example")
    assert "nowhere" in trouble(table("SELECT goto FROM nowhere WHERE address = '%s'"), "a@example")


def test_a_server_that_is_down_is_trouble_and_found_again(table: Described, server: DatabaseServer) -> None:
    async def main() -> None:
        asked = open_table(table(retry_interval="0"))
        assert await asked.lookup("a@example") == "b@example,c@example"
        await asyncio.to_thread(server.stop)
        with pytest.raises(TableTrouble):
            await asked.lookup("a@example")
        await asyncio.to_thread(server.start)
        assert await asked.lookup("a@example") == "b@example,c@example"
        await asyncio.to_thread(server.stop)  # the connection that is kept is of no more use: a new one is made
        await asyncio.to_thread(server.start)
        assert await asked.lookup("a@example") == "b@example,c@example"
        await asked.close()

    asyncio.run(main())


def test_another_host_takes_over(table: Described, server: DatabaseServer) -> None:
    hosts = f"127.0.0.1:{free_port()}, 127.0.0.1:{server.port}, unix:/nonexistent/socket"
    for _ in range(4):  # in random order
        assert look(table(hosts=hosts), "a@example") == ["b@example,c@example"]


def test_a_server_that_failed_is_left_alone_for_a_while(table: Described) -> None:
    async def main() -> None:
        port = free_port()
        asked = open_table(table(hosts=f"127.0.0.1:{port}", retry_interval="1h"))
        with pytest.raises(TableTrouble, match="refused"):
            await asked.lookup("a@example")
        connections = []
        listener = await asyncio.start_server(lambda r, w: connections.append(w), "127.0.0.1", port)
        with pytest.raises(TableTrouble, match="refused"):
            await asked.lookup("a@example")
        assert connections == []
        listener.close()

    asyncio.run(main())


def test_a_slow_server_is_trouble_in_time(table: Described, server: DatabaseServer) -> None:
    began = time.monotonic()
    assert trouble(table("SELECT SLEEP(30) FROM alias WHERE address = '%s'", timeout="1"), "a@example")
    with server.frozen():
        assert trouble(table(timeout="1"), "a@example")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("settings", "line", "says"),
    [
        ({"expansion_limit": "many"}, 6, "whole number"),
        ({"result_format": "%q"}, 6, "%q has no meaning"),
        ({"hosts": "a:b:c"}, 1, "is not a server"),
        ({"charset": "gbk"}, 6, "must be one of utf8mb4"),
        ({"query": "SELECT goto FROM alias WHERE id = %s"}, 5, "inside quotes"),
        ({"query": ""}, 0, "query is not set"),
        ({"require_result_set": "maybe"}, 6, "yes or no"),
        ({"tls_CAfile": "/nonexistent"}, 6, "cannot be used"),
        ({"option_file": "/nonexistent"}, 6, "cannot be read"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(table: Described, settings: dict[str, str], line: int, says: str) -> None:
    word = table(**settings)
    with pytest.raises(ConfigError, match=says) as told:
        open_table(word)
    assert (told.value.file, told.value.line) == (word.removeprefix("mysql:"), line)


def test_an_option_file_gives_what_the_table_does_not(table: Described, server: DatabaseServer, tmp_path: Path) -> None:
    options = tmp_path / "my.cnf"
    options.write_text("!includedir /etc\n[client]\nuser = asks\n[mail]\npassword = 's3cret'\n[mysqld]\nuser=x\n")
    file = tmp_path / "options.cf"
    file.write_text(
        f"hosts = 127.0.0.1:{server.port}\ndbname = mail\nquery = SELECT goto FROM alias WHERE address = '%s'\n"
        f"option_file = {options}\noption_group = mail\n"
    )
    assert look(f"mysql:{file}", "a@example") == ["b@example,c@example"]
