"""aliases(5): the grammar, files that change or are missing, and expansion with its loops."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.deliver.aliases import (
    AliasFileSource,
    AliasLoop,
    Expansion,
    ExpansionRules,
    MailTo,
    NotYet,
    Target,
    expand,
    open_aliases,
    parse_aliases,
)
from ekiden.message.address import Address
from ekiden.tables.table import TableTrouble

RULES = ExpansionRules(delimiter="+", myorigin="mx.example", recursion_limit=100, expansion_limit=1000)


def test_grammar() -> None:
    found = parse_aliases(
        '# comment\n\nRoot: admin@x.example,\n\tbob, "c d"\n"odd name" : eve\nlist: "|/bin/list -x, y", /var/log/mail\n'
        'more: :include:/etc/list, "|a\\"b"\n  # a comment inside\n  , \\tom, Name@y.example\nquoted: "a b"@x.example\n'
    )
    assert found.problems == ()
    assert found.entries == {
        "root": (MailTo(Address("admin", "x.example")), MailTo(Address("bob")), MailTo(Address("c d"))),
        "odd name": (MailTo(Address("eve")),),
        "list": (NotYet("|/bin/list -x, y"), NotYet("/var/log/mail")),
        "more": (
            NotYet(":include:/etc/list"),
            NotYet('|a"b'),
            MailTo(Address("tom"), final=True),
            MailTo(Address("Name", "y.example")),
        ),
        "quoted": (MailTo(Address("a b", "x.example")),),
    }


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("no colon here\n", 1, None),
        ("  orphan: a\n", 1, None),
        (": a\n", 1, None),
        ('"open: a\n', 1, None),
        ("ok: a\nempty:\n", 2, "empty"),
        ('open: "quote\n', 1, "open"),
        ("two: a b\n", 1, "two"),
        ("bad: @x.example\n", 1, "bad"),
    ],
)
def test_a_bad_entry_is_told_and_its_mail_waits(tmp_path: Path, text: str, line: int, name: str | None) -> None:
    found = parse_aliases(text)
    assert [problem[0] for problem in found.problems] == [line]
    if name is not None:
        (tmp_path / "aliases").write_text(text)
        source = AliasFileSource(str(tmp_path / "aliases"))
        with pytest.raises(TableTrouble, match=name):
            asyncio.run(source.lookup(name))


def test_first_of_two_entries_holds() -> None:
    found = parse_aliases("a: b\nA: c\n")
    assert found.entries == {"a": (MailTo(Address("b")),)}
    assert found.problems[0][0] == 2


def test_a_changed_file_is_read_again_and_a_missing_one_is_trouble(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    now = 0.0
    source = AliasFileSource(str(path), monotonic=lambda: now, wall=lambda: 2_000_000_000.0)
    with pytest.raises(TableTrouble, match="No such file"):
        asyncio.run(source.lookup("a"))
    path.write_text("a: b\n")
    assert asyncio.run(source.lookup("A")) == (MailTo(Address("b")),)
    path.write_text("a: longer\n")
    assert asyncio.run(source.lookup("a")) == (MailTo(Address("b")),)  # looked at once a second
    now = 1.0
    assert asyncio.run(source.lookup("a")) == (MailTo(Address("longer")),)
    path.unlink()
    now = 2.0
    with pytest.raises(TableTrouble):
        asyncio.run(source.lookup("a"))


def test_a_file_in_the_midst_of_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("a: b\n")
    os.utime(path, (1000.0, 1000.0))
    monotonic, wall = 0.0, 2000.0
    source = AliasFileSource(str(path), monotonic=lambda: monotonic, wall=lambda: wall)
    asyncio.run(source.lookup("a"))
    path.write_text("")
    os.utime(path, (2001.0, 2001.0))
    monotonic, wall = 1.0, 2001.5
    assert asyncio.run(source.lookup("a")) is not None
    monotonic, wall = 2.0, 2003.0
    assert asyncio.run(source.lookup("a")) is None


def test_tables_of_other_types() -> None:
    aliases = open_aliases(["inline:{root=bob}"])
    assert asyncio.run(aliases.lookup("root")) == (MailTo(Address("bob")),)
    with pytest.raises(ConfigError):
        open_aliases(["hash:relative"])
    with pytest.raises(ConfigError):
        open_aliases(["/etc/aliases"])


class Book:
    def __init__(self, text: str) -> None:
        self._entries = parse_aliases(text).entries

    async def lookup(self, name: str) -> tuple[Target, ...] | None:
        return self._entries.get(name.lower())


async def is_local(domain: str) -> bool:
    return domain in ("mx.example", "here.example")


def expanded(name: str, text: str, rules: ExpansionRules = RULES) -> Expansion:
    return asyncio.run(expand(name, Book(text), is_local, rules))


@pytest.mark.parametrize(
    ("name", "text", "mailboxes", "addresses"),
    [
        ("Bob", "", ["Bob"], []),
        ("bob+x", "", ["bob+x"], []),
        ("team", "team: bob, eve@here.example, d@out.example, BOB, d@OUT.example", ["bob", "eve"], ["d@out.example"]),
        ("bob", "bob: bob, copy@out.example", ["bob"], ["copy@out.example"]),
        ("bob+x", "bob: bob", ["bob"], []),
        ("bob+x", "bob: nobody\nbob+x: carol", ["carol"], []),
        ("a", "a: \\a, b\nb: c", ["a", "c"], []),
        ("a", "a: b, c\nb: d\nc: d", ["d"], []),
        ("postmaster", "postmaster: bob", ["bob"], []),
        ("Postmaster", "root: bob", ["bob"], []),
        ("MAILER-DAEMON", "postmaster: bob", ["bob"], []),
        ("MAILER-DAEMON", "root: carol", ["carol"], []),
        ("postmaster", "", ["postmaster"], []),
        ("postmaster", "postmaster: root", ["root"], []),
    ],
)  # fmt: skip
def test_expansion(name: str, text: str, mailboxes: list[str], addresses: list[str]) -> None:
    found = expanded(name, text)
    assert list(found.mailboxes) == mailboxes
    assert [str(address) for address in found.addresses] == addresses


def test_bare_names_go_where_myorigin_is() -> None:
    rules = ExpansionRules(delimiter="", myorigin="hub.example", recursion_limit=100, expansion_limit=1000)
    assert expanded("a", "a: b", rules) == Expansion((), (Address("b", "hub.example"),), ())


@pytest.mark.parametrize("length", [2, 3, 99, 100, 101, 1000])
def test_cycles_end(length: int) -> None:
    text = "".join(f"n{at}: n{(at + 1) % length}\n" for at in range(length))
    with pytest.raises(AliasLoop, match="alias database loop for n0"):
        expanded("n0", text)


def test_depth_and_width_are_limited() -> None:
    chain = "".join(f"n{at}: n{at + 1}\n" for at in range(100))
    assert expanded("n0", chain).mailboxes == ("n100",)
    with pytest.raises(AliasLoop):
        expanded("n0", chain + "n100: n101\n")
    with pytest.raises(AliasLoop, match="more than 1000"):
        expanded("a", "a: " + ", ".join(f"u{at}" for at in range(1001)))
    # Each alias is followed once, however many ways lead to it: 2**50 paths end at once.
    bushy = "".join(f"n{at}: n{at + 1}, m{at}\nm{at}: n{at + 1}\n" for at in range(50))
    assert expanded("n0", bushy).mailboxes == ("n50",)
