"""``static:value``: every key has the same value; ``static:{ text with blanks }``."""

from __future__ import annotations

from ekiden.tables.table import Opening, Table


class StaticTable(Table):
    def __init__(self, text: str) -> None:
        self.name = f"static:{text}"
        self._value = text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text

    async def lookup(self, key: str) -> str | None:
        return self._value


def open_type(text: str, opening: Opening) -> StaticTable:
    return StaticTable(text)
