"""A query of a SQL table, in which the parts of a key stand inside quotes and can do nothing but be compared.

mysql_table(5), pgsql_table(5), sqlite_table(5), parameter ``query``. What expands must stand inside a string of the
SQL, as in all examples of the manuals: there one rule of quoting holds, and whoever chooses the addresses that are
looked up cannot add to the query. Other places (bare, names, comments, strings with escapes of their own) are refused.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.tables.client_settings import ClientSettings
from ekiden.tables.key_format import Format, KeyParts

_EXPANSION = "\0"  # stands for an expansion while the text of a query is scanned
_DOLLAR = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$")
_LEGACY = ("select_field", "table", "where_field")


class Dialect(enum.Enum):
    MYSQL = "mysql"
    PGSQL = "pgsql"
    SQLITE = "sqlite"


class SqlQuery(Struct, frozen=True):
    """``quotes``: for each expansion the quote of the string that it stands in."""

    form: Format
    quotes: tuple[str, ...]
    escapes: bool  # the text was read as one in which a backslash inside a string is an escape
    has_backslash: bool

    def fits(self, escapes: bool) -> bool:
        """Whether the text means the same to a server for which a backslash is an escape, or is none."""
        return escapes == self.escapes or not self.has_backslash

    def of_key(self, key: KeyParts, *, escapes: bool) -> str | None:
        """The query for ``key``; None when the key lacks something. ``escapes``: as the server reads strings."""
        quotes = iter(self.quotes)

        def quote(text: str) -> str:
            delimiter = next(quotes)
            if escapes:
                text = text.replace("\\", "\\\\")
            return text.replace(delimiter, 2 * delimiter)

        return self.form.of_key(key, quote)


def read_query(settings: ClientSettings, dialect: Dialect) -> SqlQuery:
    """The query of a table, also from the parameters that came before ``query``. Raises ConfigError."""
    name = "query"
    text = settings.text("query")
    function = settings.text("select_function") if dialect is Dialect.PGSQL else ""
    legacy = {part: settings.text(part) for part in _LEGACY}
    conditions = settings.text("additional_conditions")
    if not text and function:
        name, text = "select_function", f"SELECT {function}('%s')"
    elif not text and any(legacy.values()):
        name = next(part for part in _LEGACY if legacy[part])
        missing = [part for part in _LEGACY if not legacy[part]]
        if missing:
            raise settings.wrong(name, f"without query, {' and '.join(missing)} must be set too")
        select, table, where = legacy.values()  # written by the administrator, like a whole query
        text = f"SELECT {select} FROM {table} WHERE {where} = '%s'"  # noqa: S608
        text += f" {conditions}" if conditions else ""
    if not text:
        settings.needed("query", "SELECT goto FROM alias WHERE address = '%s'")
    try:
        return parse_query(text, dialect)
    except ConfigError as error:
        raise settings.wrong(name, error.text) from error


def parse_query(text: str, dialect: Dialect) -> SqlQuery:
    """Raises ConfigError."""
    if "\0" in text:
        raise ConfigError("there is a NUL in it")
    form = Format(text)
    marked = "".join(literal + (_EXPANSION if code else "") for literal, code in form.pieces)
    escapes = dialect is Dialect.MYSQL
    quotes = tuple(_quotes(marked, dialect, escapes))
    return SqlQuery(form, quotes, escapes, "\\" in marked)


def _quotes(text: str, dialect: Dialect, escapes: bool) -> Iterator[str]:
    """The quote of the string around each expansion. Raises ConfigError."""
    mysql, pgsql = dialect is Dialect.MYSQL, dialect is Dialect.PGSQL
    at = 0
    while at < len(text):
        char = text[at]
        if char == _EXPANSION:
            raise ConfigError("what expands must stand inside quotes, such as WHERE address = '%s'")
        if char == "'" or (char == '"' and mysql):
            prefix = text[:at].upper()
            special = pgsql and (_is_prefix(prefix, "E") or prefix.endswith("U&"))
            end, inside = _string(text, at, escapes or special)
            if inside and special:
                raise ConfigError("what expands must stand inside plain quotes: write '%s', not E'%s' or U&'%s'")
            yield from char * inside
            at = end
            continue
        if (char == '"' and not mysql) or (char == "`" and not pgsql):
            end = text.find(char, at + 1)
            what = "a quoted name"
        elif char == "[" and dialect is Dialect.SQLITE:
            end, what = text.find("]", at), "a quoted name"
        elif text.startswith("--", at) or (char == "#" and mysql):
            end, what = text.find("\n", at), "a comment"
            end = len(text) - 1 if end < 0 else end
        elif text.startswith("/*", at):
            end, what = text.find("*/", at + 2) + 1, "a comment"
            end = end or -1
        elif pgsql and (found := _DOLLAR.match(text, at)) and not (at and _is_word(text[at - 1])):
            end, what = text.find(found[0], found.end()), "$$ quotes"
            end = end + len(found[0]) - 1 if end >= 0 else end
        else:
            at += 1
            continue
        if end < 0:
            raise ConfigError(f"{what} that begins with {text[at : at + 10]!r} has no end")
        if _EXPANSION in text[at : end + 1]:
            raise ConfigError(f"what expands must stand inside '', not in {what}")
        at = end + 1


def _string(text: str, start: int, escapes: bool) -> tuple[int, int]:
    """Where the string that begins at ``start`` has ended, and how many expansions are in it. Raises ConfigError."""
    delimiter = text[start]
    at, inside = start + 1, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and escapes:
            if text[at + 1 : at + 2] == _EXPANSION:
                raise ConfigError("a backslash must not stand before what expands")
            at += 2
        elif char == delimiter:
            if text[at + 1 : at + 2] != delimiter:
                return at + 1, inside
            at += 2
        else:
            inside += char == _EXPANSION
            at += 1
    raise ConfigError(f"the string that begins with {text[start : start + 10].replace(_EXPANSION, '%')!r} has no end")


def _is_prefix(before: str, letter: str) -> bool:
    """Whether the letter stands there for itself rather than at the end of a word."""
    return before.endswith(letter) and not (len(before) > 1 and _is_word(before[-2]))


def _is_word(char: str) -> bool:
    return char.isalnum() or char in "_$" or ord(char) > 127
