"""``texthash:/path``: a file in the format of postmap(5), read into memory. Keys ignore case.

A changed file is read again without a reload (tables.files has the rule).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ekiden.tables.files import Watched, absolute, findings, warn_of
from ekiden.tables.source import Source, place_of, read_source
from ekiden.tables.table import Finding, Opening, Table, TableTrouble, folded


class TexthashTable(Table):
    def __init__(self, path: str, opening: Opening) -> None:
        self.name = f"texthash:{path}"
        self._path, self._opening = path, opening
        self._source = Watched(self.name, [Path(path)], self._read_and_warn, opening)

    async def lookup(self, key: str) -> str | None:
        return self._source.get().entries.get(folded(key, self._opening.fold))

    def items(self) -> Iterator[tuple[str, str]]:
        """All entries, in the order of the file. Raises TableTrouble."""
        yield from self._source.get().entries.items()

    def place(self, key: str) -> str:
        return place_of(self._path, key, aliases=self._opening.aliases, fold=self._opening.fold)

    def check(self) -> list[Finding]:
        try:
            return findings(self._path, self._read().problems)
        except OSError as error:
            raise TableTrouble(f"{self.name}: {error.strerror or error}") from error

    def _read_and_warn(self) -> Source:
        source = self._read()
        warn_of("", self._path, source.problems)
        return source

    def _read(self) -> Source:
        return read_text_source(self._path, self._opening)


def read_text_source(path: str, opening: Opening) -> Source:
    """The text file, as the opening wants it read. Raises OSError."""
    text = Path(path).read_text("utf-8", "surrogateescape")
    return read_source(text, aliases=opening.aliases, fold=opening.fold, files=opening.files)


def open_type(text: str, opening: Opening) -> TexthashTable:
    return TexthashTable(absolute("texthash", text), opening)
