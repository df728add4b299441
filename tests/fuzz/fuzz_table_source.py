"""Any text is a table source: entries and told problems, each line once, linear work; asking it never fails."""

from __future__ import annotations

from ekiden.tables.source import read_entries, read_source

SEEDS = [
    b"# comment\na@x.example\tb, c\n  d\n@x.example e\n",
    b'"quoted \\"key\\""@x value\nbare\n "orphan" x\nopen"quote v\n',
    b'root: a, b\n"odd name": "|cmd \\"x\\""\n: nobody\nname:\n',
    b'a 1\na 2\nA 3\nb: 4\n\\" x\n',
    "ü ö\nß ẞ\n".encode(),
]


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for aliases in (False, True):
        lines = [entry.line for entry in read_entries(text, aliases=aliases)]
        assert lines == sorted(set(lines))
        source = read_source(text, aliases=aliases)
        assert all(1 <= line <= text.count("\n") + 1 for line, _ in source.problems)
        for key, value in source.entries.items():
            assert value
            assert key == key.casefold()
            assert "\n" not in key + value
