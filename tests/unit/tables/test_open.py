"""Lookup tables of each type, and how they are opened."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.tables.open import Maps, is_table, open_table, open_tables
from ekiden.tables.table import Table, TableTrouble

_ROOT = ":".join(Path("/etc/passwd").read_text().splitlines()[0].split(":"))


def look(word: str, *keys: str) -> list[str | None]:
    async def main() -> list[str | None]:
        table = open_table(word)
        return [await table.lookup(key) for key in keys]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("word", "keys", "values"),
    [
        ("static:yes", ("a", ""), ["yes", "yes"]),
        ("static:{ two words }", ("a",), ["two words"]),
        ("inline:{a=b}", ("a", "A", "b"), ["b", "b", None]),
        ("inline:{ a=b, c=d e=f }", ("a", "c", "e"), ["b", "d", "f"]),
        ("inline:{ a = b, c = d }", ("a", "c"), ["b", "d"]),
        ("inline:{ {a = b c = d}, {@X=}}", ("a", "@x"), ["b c = d", ""]),
        ("inline:{}", ("a",), [None]),
        (
            "unionmap:{static:one,inline:{a=two},inline:{b=x},static:{th ree}}",
            ("A", "b"),
            ["one,two,th ree", "one,x,th ree"],
        ),
        ("unionmap:{inline:{a=two}}", ("b",), [None]),
        ("pipemap:{inline:{a=b},inline:{b=c}}", ("a", "b"), ["c", None]),
        ("randmap:{x}", ("a", ""), ["x", "x"]),
        ("proxy:inline:{a=b}", ("a",), ["b"]),
        ("cidr:{{10.0.0.0/8 a}, {!10.0.0.0/7 b}}", ("10.1.2.3", "11.0.0.1", "1.1.1.1", "::1"), ["a", None, "b", None]),
        ("unix:passwd.byname", ("root", "ROOT", "no such user", ""), [_ROOT, _ROOT, None, None]),
        ("unix:group.byname", ("root", "no such group", "a\0b"), ["root:x:0:", None, None]),
    ],
)
def test_tables_in_the_configuration(word: str, keys: tuple[str, ...], values: list[str | None]) -> None:
    assert look(word, *keys) == values


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("nothing", "write type:name"),
        ("nonsense:/x", "the types are btree, "),
        ("hash:etc/virtual", "full path"),
        ("regexp:virtual", "full path"),
        ("static:", "write type:name"),
        ("proxy:nothing", "write type:name"),
        ("unionmap:{}", "type:name..."),
        ("pipemap:static:a", "type:name..."),
        ("randmap:a", "value..."),
        ("unix:shadow.byname", "unix:passwd.byname or unix:group.byname"),
        ("inline:a=b", "braces"),
        ("inline:{a}", "not key=value"),
        ("inline:{=b}", "not key=value"),
        ("inline:{a=1 A=2}", "twice"),
        ("texthash:relative", "full path"),
    ],
)
def test_what_cannot_be_opened_says_what_would_be_right(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_table(word)


def test_the_first_table_that_has_the_key_answers() -> None:
    maps = open_tables(["inline:{a=1}", "inline:{a=2 b=3}"])
    assert asyncio.run(maps.lookup("a")) == "1"
    assert asyncio.run(maps.lookup("b")) == "3"
    assert asyncio.run(maps.lookup("c")) is None
    assert maps
    assert not open_tables([])


def test_what_is_a_table() -> None:
    assert is_table("texthash:/x")
    assert is_table("static:a")
    for word in ("[::1]", "[2001:db8::]/32", "/file", "a.example", "", ":x", "x:"):
        assert not is_table(word)


class Times:
    """Clocks of a test: ``wall`` is far from the times of fresh files unless a test moves it there."""

    def __init__(self) -> None:
        self.now, self.today = 0.0, 4e9

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.today


def test_texthash_reads_the_format_of_postmap(tmp_path: Path) -> None:
    path = tmp_path / "virtual"
    path.write_bytes(b"# comment\nInfo@Example.com\tme,\n  you\n\n   # more\nbare\n@x \xff\ninfo@example.com late\n")
    assert look(f"texthash:{path}", "info@example.COM", "bare", "@x") == ["me,  you", None, "\udcff"]


def test_texthash_is_read_again_when_it_changes_and_looked_at_once_a_second(tmp_path: Path) -> None:
    path, times = tmp_path / "map", Times()
    path.write_text("a 1\n")

    async def main() -> None:
        table = open_table(f"texthash:{path}", monotonic=times.monotonic, wall=times.wall)
        assert await table.lookup("a") == "1"
        path.write_text("a 22\n")
        assert await table.lookup("a") == "1"
        times.now = 1.0
        assert await table.lookup("a") == "22"
        fresh = tmp_path / "fresh"
        fresh.write_text("a 33\n")
        fresh.rename(path)
        times.now = 2.0
        assert await table.lookup("a") == "33"

    asyncio.run(main())


def test_texthash_that_is_being_written_stays_as_it_was(tmp_path: Path) -> None:
    path, times = tmp_path / "map", Times()
    path.write_text("a 1\nb 2\n")
    os.utime(path, (1000, 1000))

    async def main() -> None:
        table = open_table(f"texthash:{path}", monotonic=times.monotonic, wall=times.wall)
        assert await table.lookup("b") == "2"
        path.write_text("a 1\n")  # half written
        os.utime(path, (2000, 2000))
        times.now, times.today = 1.0, 2000.5
        assert await table.lookup("b") == "2"
        times.now, times.today = 2.0, 2001.5
        assert await table.lookup("b") is None

    asyncio.run(main())


def test_texthash_that_is_not_there_is_trouble_and_not_an_absent_key(tmp_path: Path) -> None:
    path, times = tmp_path / "map", Times()

    async def main() -> None:
        table = open_table(f"texthash:{path}", monotonic=times.monotonic, wall=times.wall)
        for _ in range(2):
            with pytest.raises(TableTrouble, match="No such file"):
                await table.lookup("a")
        path.write_text("a 1\n")
        assert await table.lookup("a") == "1"
        path.unlink()
        times.now = 1.0
        with pytest.raises(TableTrouble):
            await table.lookup("a")

    asyncio.run(main())


def test_keys_with_blanks_stand_in_quotes_which_belong_to_them(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text('"A b"@x one\n"q\\" r" two\n"open three\na"b c"d four\n"a b"@x late\n')
    keys = ('"a b"@x', '"q\\" r"', "a b", '"open', 'A"b C"d')
    assert look(f"texthash:{path}", *keys) == ["one", "two", None, None, "four"]


def test_a_file_of_aliases_gives_right_hand_sides_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text('Root:  bob,\n\t"|cmd a"\n"odd: name" : \\tom\nno alias\nnothing:\n# c\n')

    async def main() -> list[str | None]:
        table = open_table(f"texthash:{path}", aliases=True)
        return [await table.lookup(key) for key in ("ROOT", "odd: name", "no", "nothing")]

    assert asyncio.run(main()) == ['bob,\t"|cmd a"', "\\tom", None, None]


def test_pattern_tables_are_not_asked_for_parts() -> None:
    class Pattern(Table):
        name, whole_keys = "pattern:", True

        async def lookup(self, key: str) -> str | None:
            return f"<{key}>"

    maps = Maps([Pattern(), open_table("inline:{@x.example=fixed, *=any}")])
    assert asyncio.run(maps.lookup("@x.example")) == "<@x.example>"
    assert asyncio.run(maps.lookup("@x.example", partial=True)) == "fixed"
    assert asyncio.run(maps.lookup("@y.example", partial=True)) is None
    assert asyncio.run(Pattern().lookup_many(["a", "b"])) == ["<a>", "<b>"]


def test_an_environ_table_knows_variables_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ekiden_test", "yes")
    assert look("environ:x", "EKIDEN_TEST", "ekiden_none", "a=b", "") == ["yes", None, None, None]


def test_trouble_of_one_table_is_trouble_of_what_is_made_of_it() -> None:
    for word in ("fail:x", "unionmap:{static:a,fail:x}", "pipemap:{fail:x,static:a}", "proxy:fail:x"):
        with pytest.raises(TableTrouble):
            look(word, "a")
    assert look("pipemap:{inline:{b=c},fail:x}", "a") == [None]


def test_every_value_of_a_randmap_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(look("randmap:{x, {y z}}", *("k" * number for number in range(200)))) == {"x", "y z"}
