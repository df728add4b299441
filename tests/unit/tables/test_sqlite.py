"""sqlite: tables (sqlite_table(5))."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.tables.open import open_table
from support.table_lookups import HOSTILE_KEYS, IMPOSSIBLE_KEYS, look, trouble


def make(path: Path, *rows: tuple[object, ...]) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alias (address TEXT, goto)")
    connection.executemany("INSERT INTO alias VALUES (?, ?)", rows)
    connection.commit()
    connection.close()


def table(folder: Path, query: str = "SELECT goto FROM alias WHERE address = '%s'", **settings: str) -> str:
    file = folder / "sqlite.cf"
    lines = {"dbpath": str(folder / "mail.db"), "query": query, **settings}
    file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    return f"sqlite:{file}"


def test_found_not_found_and_several_rows(tmp_path: Path) -> None:
    make(tmp_path / "mail.db", ("a@x", "b@y"), ("a@x", 3), ("a@x", None), ("a@x", b"raw"), ("ü@x", "ö"), ("n@x", None))
    assert look(table(tmp_path), "a@x", "A@X", "none@x", "ü@x", "n@x") == ["b@y,3,raw", "b@y,3,raw", None, "ö", None]
    assert look(table(tmp_path, result_format="%s/%U", domain="x"), "ü@x", "ü@y", "a") == ["ö/ü", None, None]
    assert "expansion_limit = 2" in trouble(table(tmp_path, expansion_limit="2"), "a@x")
    old = {"select_field": "goto", "table": "alias", "where_field": "address", "additional_conditions": "AND goto = 3"}
    assert look(table(tmp_path, "", **old), "a@x") == ["3"]


def test_hostile_keys_are_only_compared(tmp_path: Path) -> None:
    make(tmp_path / "mail.db", *((key, f"hit {number}") for number, key in enumerate(HOSTILE_KEYS)))
    assert look(table(tmp_path), *HOSTILE_KEYS) == [f"hit {number}" for number in range(len(HOSTILE_KEYS))]
    assert look(table(tmp_path), *IMPOSSIBLE_KEYS) == [None] * len(IMPOSSIBLE_KEYS)
    assert look(table(tmp_path), *(f"{key}x" for key in HOSTILE_KEYS)) == [None] * len(HOSTILE_KEYS)


def test_nothing_can_be_written(tmp_path: Path) -> None:
    make(tmp_path / "mail.db", ("a", "b"))
    assert trouble(table(tmp_path, "DELETE FROM alias WHERE address = '%s'"), "a")
    assert look(table(tmp_path), "a") == ["b"]


def test_a_file_that_comes_goes_and_is_replaced(tmp_path: Path) -> None:
    async def main() -> list[str | None]:
        asked = open_table(table(tmp_path))
        found: list[str | None] = []
        for value in ("one", "two"):
            make(tmp_path / "new.db", ("a", value))
            os.replace(tmp_path / "new.db", tmp_path / "mail.db")
            found.append(await asked.lookup("a"))
        await asked.close()
        return found

    assert "there is no such file" in trouble(table(tmp_path), "a")
    assert asyncio.run(main()) == ["one", "two"]


def test_a_slow_query_is_interrupted(tmp_path: Path) -> None:
    make(tmp_path / "mail.db", ("a", "b"))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE '%s' <> ''"
    began = time.monotonic()
    assert "does not answer" in trouble(table(tmp_path, endless, timeout="1"), "a")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("settings", "line", "says"),
    [
        ({"dbpath": "mail.db"}, 1, "full path"),
        ({"dbpath": ""}, 0, "dbpath is not set"),
        ({"query": 'SELECT goto FROM alias WHERE address = "%s"'}, 2, "quoted name"),
        ({"query": "", "table": "alias"}, 3, "select_field and where_field must be set too"),
        ({"domain": "nonsense:x"}, 0, "no table type"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, settings: dict[str, str], line: int, says: str) -> None:
    word = table(tmp_path, **settings)
    with pytest.raises(ConfigError, match=says) as told:
        open_table(word)
    if line:
        assert (told.value.file, told.value.line) == (word.removeprefix("sqlite:"), line)


def test_what_no_parameter_is_called_is_found(tmp_path: Path) -> None:
    word = table(tmp_path, user="x")
    assert [finding.text for finding in open_table(word).check()] == ["user is no parameter of sqlite tables"]
