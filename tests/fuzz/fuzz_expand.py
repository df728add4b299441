"""Any text expands to a text or is refused, the same each time, and no reference costs more than its bound.

The text is split at lines: the first is the value, the others are ``name=text``.
"""

from __future__ import annotations

from ekiden.config.expand import LENGTH_LIMIT, ExpansionError, expand, references

SEEDS: list[bytes] = [
    b"${{$a} == {b} ? {yes} : {no}}\na=b\nb=$a",
    b"${a?{x}:{y}} ${b?x:y} ${c:z} $$ $(a)\na=1\nb=${c:q}",
    b"${{3.6} <level {$a}} ${{10} >= {9}} ${{aa} <length {b}}\na=3.10",
    b"$a\na=$b$b\nb=$c$c\nc=$d$d\nd=x",
    b"${domain_to_ascii{b\xc3\xbccher.example}} ${domain_to_utf8{xn--a}}",
    b"$(a?{)} ${a?)} ${ a } ${a ? {b} : {c} }\na=",
]


def one_input(data: bytes) -> None:
    first, *others = data.decode("utf-8", "surrogateescape").split("\n")
    names = {name: text for name, _, text in (line.partition("=") for line in others)}
    outcomes = []
    for _ in range(2):
        asked: list[str] = []

        def lookup(name: str, asked: list[str] = asked) -> str | None:
            asked.append(name)
            return names.get(name)

        try:
            outcomes.append(expand(first, lookup))
        except ExpansionError as error:
            outcomes.append(f"error: {error}")
        # Whatever is asked for stands somewhere as a reference.
        assert set(asked) <= {name for text in (first, *others) for name in references(text)}, asked
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) <= LENGTH_LIMIT + len(first)
    if "$" not in first:
        assert outcomes[0] == first
