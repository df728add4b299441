"""What a look-up found is remembered, with the line that has it, for every kind of text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.tables.open import Maps, open_table
from ekiden.tables.recorder import Hit, Recorder

TEXT = "# comment\na@b.example  c@d.example\n\nkey2\n  continued\n"
RULES = "# comment\n/^x/  first\nif /y/\n/^y(.)/  $1\nendif\n"
NETWORKS = "# comment\n192.0.2.0/24  OK\n"


@pytest.mark.parametrize(
    ("kind", "text", "key", "value", "line"),
    [
        ("texthash", TEXT, "A@B.example", "c@d.example", 2),
        ("hash", TEXT, "key2", "continued", 4),
        ("regexp", RULES, "xyz", "first", 2),
        ("pcre", RULES, "yz", "z", 4),
        ("cidr", NETWORKS, "192.0.2.7", "OK", 2),
    ],
)
def test_a_hit_has_its_line(kind: str, text: str, key: str, value: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text(text)
    recorder = Recorder(open_table)
    maps = Maps([recorder.open(f"{kind}:{path}")])

    async def look_up() -> None:
        assert await maps.lookup("nothing of the kind") is None
        assert await maps.lookup(key) == value
        assert await maps.lookup(key) == value

    asyncio.run(look_up())
    assert recorder.taken() == [Hit(f"{kind}:{path}", key, value, f"{path}:{line}")]
    assert recorder.taken() == []


def test_a_table_that_is_written_out_is_its_own_place(tmp_path: Path) -> None:
    recorder = Recorder(open_table)
    asyncio.run(recorder.open("inline:{ a=b }").lookup("a"))
    assert recorder.taken() == [Hit("inline:{ a=b }", "a", "b", "")]
