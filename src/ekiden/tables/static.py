"""``static:value``: every key has the same value; ``static:{ text with blanks }``."""

from __future__ import annotations


class StaticTable:
    def __init__(self, text: str) -> None:
        self.name = f"static:{text}"
        self._value = text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text

    async def lookup(self, key: str) -> str | None:
        return self._value
