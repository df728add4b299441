"""What a table warns of stands in the mail log while somebody serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ekiden.observe.events import Event, Note
from ekiden.observe.table_warnings import table_warnings
from ekiden.tables.open import open_table


class Heard:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_a_bad_line_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text("a 1\nbad\n")
    heard = Heard()
    with table_warnings(heard):
        assert asyncio.run(open_table(f"texthash:{path}").lookup("a")) == "1"
    told = [Note("tables", f"{path}, line 2: expected format: key whitespace value", "warning")]
    assert heard.events == told
    asyncio.run(open_table(f"texthash:{path}").lookup("a"))
    assert heard.events == told
