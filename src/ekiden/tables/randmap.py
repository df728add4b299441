"""``randmap:{ value, value ... }``: one of the values for any key, each as likely as the others."""

from __future__ import annotations

import random

from ekiden.tables.composed import members
from ekiden.tables.table import Opening, Table


class RandomTable(Table):
    whole_keys = True

    def __init__(self, text: str) -> None:
        """Raises ConfigError."""
        self.name = f"randmap:{text}"
        self._values = members("randmap", text, "value")

    async def lookup(self, key: str) -> str | None:
        return random.choice(self._values)


def open_type(text: str, opening: Opening) -> RandomTable:
    return RandomTable(text)
