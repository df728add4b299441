"""``texthash:/path``: a file in the format of postmap(5), read into memory. Keys ignore case.

A changed file is read again without a reload (tables.files has the rule).
"""

from __future__ import annotations

from pathlib import Path

from ekiden.config.errors import ConfigError
from ekiden.tables.files import Watched
from ekiden.tables.source import Source, read_source
from ekiden.tables.table import Opening, Table, folded


class TexthashTable(Table):
    def __init__(self, path: str, opening: Opening) -> None:
        self.name = f"texthash:{path}"
        self._fold = opening.fold

        def read(file: Path) -> Source:
            text = file.read_text("utf-8", "surrogateescape")
            return read_source(text, aliases=opening.aliases, fold=opening.fold)

        self._source = Watched(self.name, Path(path), read, opening)

    async def lookup(self, key: str) -> str | None:
        return self._source.get().entries.get(folded(key, self._fold))


def open_type(text: str, opening: Opening) -> TexthashTable:
    if not text.startswith("/"):
        raise ConfigError(f"texthash:{text}: the file must be given with its full path, such as /etc/ekiden/virtual")
    return TexthashTable(text, opening)
