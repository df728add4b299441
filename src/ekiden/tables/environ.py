"""``environ:name``: the environment of the process. The name means nothing, but something must stand there.

Keys are folded to lower case as those of other tables, so that only variables in lower case can be found.
"""

from __future__ import annotations

import os

from ekiden.tables.table import Opening, Table, folded


class EnvironTable(Table):
    def __init__(self, text: str, *, fold: bool) -> None:
        self.name, self._fold = f"environ:{text}", fold

    async def lookup(self, key: str) -> str | None:
        name = folded(key, self._fold)
        return None if "\0" in name or not name else os.environ.get(name)


def open_type(text: str, opening: Opening) -> EnvironTable:
    return EnvironTable(text, fold=opening.fold)
