"""Where a query of a SQL table may expand, and how keys are quoted there."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.config.errors import ConfigError
from ekiden.tables.key_format import KeyParts
from ekiden.tables.sql_query import Dialect, parse_query

MYSQL, PGSQL, SQLITE = Dialect.MYSQL, Dialect.PGSQL, Dialect.SQLITE


@pytest.mark.parametrize(
    ("dialect", "query", "expected"),
    [
        (PGSQL, "SELECT x FROM t WHERE a = '%s'", "SELECT x FROM t WHERE a = 'o''b\\@d'"),
        (MYSQL, "SELECT x FROM t WHERE a = '%s'", "SELECT x FROM t WHERE a = 'o''b\\\\@d'"),
        (MYSQL, 'SELECT x FROM t WHERE a = "%s"', 'SELECT x FROM t WHERE a = "o\'b\\\\@d"'),
        (SQLITE, "SELECT '%u', '%d' FROM [a'b] WHERE `c'` = '%s'",
         "SELECT 'o''b\\', 'd' FROM [a'b] WHERE `c'` = 'o''b\\@d'"),
        (PGSQL, "SELECT 'it''s %s'", "SELECT 'it''s o''b\\@d'"),
        (PGSQL, "SELECT '%s' -- it's", "SELECT 'o''b\\@d' -- it's"),
        (PGSQL, "SELECT /* ' */ '%s'", "SELECT /* ' */ 'o''b\\@d'"),
        (PGSQL, "SELECT $a$ ' $a$, E'\\'', '%s'", "SELECT $a$ ' $a$, E'\\'', 'o''b\\@d'"),
        (PGSQL, 'SELECT "it\'s", \'%s\'', "SELECT \"it's\", 'o''b\\@d'"),
        (MYSQL, "SELECT '\\'', '%s' # '", "SELECT '\\'', 'o''b\\\\@d' # '"),
        (PGSQL, "SELECT pre'%s'", "SELECT pre'o''b\\@d'"),
        (PGSQL, "SELECT 'like %%%s%%'", "SELECT 'like %o''b\\@d%'"),
    ],
)  # fmt: skip
def test_keys_are_quoted_where_they_stand(dialect: Dialect, query: str, expected: str) -> None:
    parsed = parse_query(query, dialect)
    assert parsed.of_key(KeyParts.of("o'b\\@d"), escapes=parsed.escapes) == expected


def test_the_mode_of_the_server_decides_about_backslashes() -> None:
    parsed = parse_query("SELECT '%s'", PGSQL)
    assert parsed.of_key(KeyParts.of("\\'"), escapes=True) == "SELECT '\\\\'''"
    assert parsed.fits(True)
    assert not parse_query("SELECT '\\', '%s'", PGSQL).fits(True)
    assert parse_query("SELECT '\\', '%s'", PGSQL).fits(False)
    assert not parse_query("SELECT '\\'', '%s'", MYSQL).fits(False)


@pytest.mark.parametrize(
    ("dialect", "query", "says"),
    [
        (MYSQL, "SELECT x FROM t WHERE id = %s", "must stand inside quotes"),
        (MYSQL, "SELECT x FROM t WHERE a = ''%s''", "must stand inside quotes"),
        (MYSQL, "SELECT x FROM `%u`", "not in a quoted name"),
        (PGSQL, 'SELECT x FROM t WHERE a = "%s"', "not in a quoted name"),
        (SQLITE, 'SELECT x FROM t WHERE a = "%s"', "not in a quoted name"),
        (SQLITE, "SELECT x FROM [%s]", "not in a quoted name"),
        (PGSQL, "SELECT E'%s'", "plain quotes"),
        (PGSQL, "SELECT e'%s'", "plain quotes"),
        (PGSQL, "SELECT U&'%s'", "plain quotes"),
        (PGSQL, "SELECT $$%s$$", r"not in \$\$ quotes"),
        (PGSQL, "SELECT $a$%s$a$", r"not in \$\$ quotes"),
        (PGSQL, "SELECT 1 /* %s */", "not in a comment"),
        (PGSQL, "SELECT 1 -- %s", "not in a comment"),
        (MYSQL, "SELECT 1 # %s", "not in a comment"),
        (MYSQL, "SELECT '\\%s'", "backslash must not stand before"),
        (MYSQL, "SELECT '%s", "has no end"),
        (MYSQL, "SELECT '\\' WHERE a = '%s'", "inside quotes"),
        (PGSQL, "SELECT $$ '%s'", "has no end"),
        (PGSQL, "SELECT '%s' /* ", "has no end"),
        (MYSQL, "SELECT '%z'", "has no meaning"),
    ],
)
def test_other_places_are_refused(dialect: Dialect, query: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_query(query, dialect)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_whatever_the_key_the_query_gives_it_back(key: str) -> None:
    query = parse_query("SELECT '%s', '<%s>'", SQLITE).of_key(KeyParts.of(key), escapes=False)
    assert query is not None
    connection = sqlite3.connect(":memory:")
    try:
        assert connection.execute(query).fetchall() == [(key, f"<{key}>")]
    finally:
        connection.close()
