"""``inline:{ key=value, { key = text with blanks } }``: a table that is written where it is used. Keys ignore case."""

from __future__ import annotations

from collections.abc import Iterator

from ekiden.config.errors import ConfigError
from ekiden.config.registry import split_words
from ekiden.tables.table import Opening, Table, folded

_SHOULD = "write inline:{ key=value, { key = text with blanks } }"


class InlineTable(Table):
    """Raises ConfigError for a text that is no such list."""

    def __init__(self, text: str, *, fold: bool = True) -> None:
        self.name = f"inline:{text}"
        if not (text.startswith("{") and text.endswith("}")):
            raise ConfigError(f"{self.name}: the entries must stand in braces: {_SHOULD}")
        self._values: dict[str, str] = {}
        self._fold = fold
        for entry in _entries(text[1:-1]):
            inner = entry[1:-1] if entry.startswith("{") and entry.endswith("}") else entry
            key, equals, value = inner.partition("=")
            key = folded(key.strip(), fold)
            if not equals or not key:
                raise ConfigError(f"{self.name}: {entry!r} is not key=value: {_SHOULD}")
            if key in self._values:
                raise ConfigError(f"{self.name}: the key {key!r} stands there twice")
            self._values[key] = value.strip()

    async def lookup(self, key: str) -> str | None:
        return self._values.get(folded(key, self._fold))

    def items(self) -> Iterator[tuple[str, str]]:
        """All entries."""
        yield from self._values.items()


def _entries(text: str) -> list[str]:
    """The entries, where ``key = value`` with blanks and without braces is one, too."""
    entries: list[str] = []
    for word in split_words(text):
        # A lone "=", or one that is left open at the end of a word, holds its neighbours together.
        joins = word.startswith("=") or (entries and entries[-1].endswith("=") and "=" not in word)
        if joins and entries and not entries[-1].startswith("{"):
            entries[-1] += word
        else:
            entries.append(word)
    return entries


def open_type(text: str, opening: Opening) -> InlineTable:
    return InlineTable(text, fold=opening.fold)
