"""The orders of look-up, watched by a table that notes what it is asked."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.message.address import Address
from ekiden.tables.address import Match, domain_keys, find_alias, find_transport, split_extension
from ekiden.tables.open import Maps, open_tables
from ekiden.tables.table import Table


class Asked(Table):
    name = "asked:"

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def lookup(self, key: str) -> str | None:
        self.keys.append(key)
        return None


async def is_local(domain: str) -> bool:
    return domain == "here.example"


@pytest.mark.parametrize(
    ("address", "delimiter", "keys"),
    [
        (Address("U", "Far.Example"), "", ["U@Far.Example", "@Far.Example"]),
        (Address("u+e", "far.example"), "+", ["u+e@far.example", "u@far.example", "@far.example"]),
        (
            Address("u+e", "here.example"),
            "+",
            ["u+e@here.example", "u@here.example", "u+e", "u", "@here.example"],
        ),
        (Address("u", "here.example"), "+", ["u@here.example", "u", "@here.example"]),
        (Address("u+e"), "+", ["u+e", "u"]),
        (Address("a b", "far.example"), "", ['"a b"@far.example', "@far.example"]),
    ],
)
def test_order_of_virtual(address: Address, delimiter: str, keys: list[str]) -> None:
    asked = Asked()
    assert asyncio.run(find_alias(Maps([asked]), address, delimiter=delimiter, is_local=is_local)) is None
    assert asked.keys == keys


def test_the_answer_says_which_key_and_which_extension_was_left() -> None:
    maps = open_tables(["inline:{u@x=1 @x=2}"])
    assert asyncio.run(find_alias(maps, Address("u+e", "X"), delimiter="+")) == Match("1", "u@X", "+e")
    assert asyncio.run(find_alias(maps, Address("v+e", "X"), delimiter="+")) == Match("2", "@X")


@pytest.mark.parametrize(
    ("address", "parent_matches", "keys"),
    [
        (
            Address("u+e", "A.b.example"),
            False,
            ["u+e@A.b.example", "u@A.b.example", "A.b.example", ".b.example", ".example", "*"],
        ),
        (Address("u", "a.b.example"), True, ["u@a.b.example", "a.b.example", "b.example", "example", "*"]),
        (Address("u", "[1.2.3.4]"), False, ["u@[1.2.3.4]", "[1.2.3.4]", "*"]),
    ],
)
def test_order_of_transport(address: Address, parent_matches: bool, keys: list[str]) -> None:
    asked = Asked()
    found = asyncio.run(find_transport(Maps([asked]), address, delimiter="+", parent_matches=parent_matches))
    assert found is None
    assert asked.keys == keys


def test_a_table_with_a_star_has_everything() -> None:
    found = asyncio.run(find_transport(open_tables(["inline:{*=smtp:[relay]}"]), Address("a", "b.c")))
    assert found == Match("smtp:[relay]", "*")


@pytest.mark.parametrize(
    ("local", "delimiter", "parts"),
    [
        ("u+e", "+", ("u", "+e")),
        ("u-e+f", "+-", ("u", "-e+f")),
        ("u+e", "", ("u+e", "")),
        ("u", "+", ("u", "")),
        ("+e", "+", ("+e", "")),
        ("owner-list", "-", ("owner-list", "")),
        ("list-request", "-", ("list-request", "")),
        ("mailer-daemon", "-", ("mailer-daemon", "")),
        ("u+", "+", ("u", "+")),
    ],
)
def test_extensions(local: str, delimiter: str, parts: tuple[str, str]) -> None:
    assert split_extension(local, delimiter) == parts


def test_domain_keys_of_odd_domains() -> None:
    assert domain_keys("", dotted=True) == []
    assert domain_keys("com", dotted=True) == ["com"]
    assert domain_keys("a.", dotted=True) == ["a."]
    assert domain_keys(".a.b", dotted=False) == [".a.b", "b"]


def test_pattern_tables_see_the_whole_address_as_it_is_written() -> None:
    patterns = "pcre:{ {/^(.*)@(.*)$/i $1 at $2}, {/^/ never} }"
    found = asyncio.run(find_alias(open_tables([patterns]), Address("Bob+X", "Example.COM"), delimiter="+"))
    assert found == Match("Bob+X at Example.COM", "Bob+X@Example.COM")
    parts = "pcre:{ {/^@|^bob$|^example/ part}, {/^[*]/ any} }"
    for ask in (find_alias, find_transport):
        assert asyncio.run(ask(open_tables([parts]), Address("bob+x", "example.com"), delimiter="+")) is None
    mixed = [parts, "inline:{@example.com=fixed, example.com=smtp:}"]
    assert asyncio.run(find_alias(open_tables(mixed), Address("a", "Example.com"))) == Match("fixed", "@Example.com")
    assert asyncio.run(find_transport(open_tables(mixed), Address("a", "Example.com"))) == Match("smtp:", "Example.com")


@pytest.mark.parametrize(
    "table",
    [
        "jürgen@bücher.example",
        "jürgen@xn--bcher-kva.example",
        "@bücher.example",
        "@xn--bcher-kva.example",
    ],
)
@pytest.mark.parametrize("local", ["jürgen", "ju\u0308rgen"])
@pytest.mark.parametrize(
    "domain", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example"]
)
def test_an_address_beyond_ascii_is_found_in_each_of_its_spellings(table: str, local: str, domain: str) -> None:
    """RFC 6531 §3.3, RFC 5198 §3: domains in A-labels and U-labels, local parts composed or not."""
    maps = open_tables([f"inline:{{ {{{table} = yes}} }}"])
    found = asyncio.run(find_alias(maps, Address(f"{local}+x", domain), delimiter="+"))
    assert found is not None
    assert found.value == "yes"
    assert found.extension == ("+x" if table.startswith("j") else "")


def test_the_nearest_place_counts_more_than_the_spelling() -> None:
    maps = open_tables(["inline:{ {@bücher.example = all} {u@xn--bcher-kva.example = one} }"])
    found = asyncio.run(find_alias(maps, Address("u", "bücher.example")))
    assert found is not None
    assert found.value == "one"


@pytest.mark.parametrize("key", ["bücher.example", "xn--bcher-kva.example", ".bücher.example", "ü@www.bücher.example"])
@pytest.mark.parametrize("domain", ["www.bücher.example", "www.xn--bcher-kva.example"])
def test_transports_know_both_forms_of_domains(key: str, domain: str) -> None:
    maps = open_tables([f"inline:{{ {{{key} = yes}} }}"])
    found = asyncio.run(find_transport(maps, Address("ü", domain), parent_matches=not key.startswith(".")))
    assert found is not None


def test_names_that_are_none_are_looked_up_as_they_are() -> None:
    for domain in ("xn--\u00fc.example", "xn--a-\u0308", "\u00fc" * 300, "-\u00fc-..example", "xn--0.example"):
        asked = Asked()
        asyncio.run(find_alias(Maps([asked]), Address("u", domain)))
        assert asked.keys[0] == f"u@{domain}"
