"""``fail:name``: a table that cannot be asked, for trying out what happens then. The name is for the log."""

from __future__ import annotations

from ekiden.tables.table import Opening, Table, TableTrouble


class FailTable(Table):
    whole_keys = True

    def __init__(self, text: str) -> None:
        self.name = f"fail:{text}"

    async def lookup(self, key: str) -> str | None:
        raise TableTrouble(f"{self.name}: such a table always fails")


def open_type(text: str, opening: Opening) -> FailTable:
    return FailTable(text)
