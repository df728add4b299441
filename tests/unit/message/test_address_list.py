"""message.address_list: every address in its place, as Postfix's own parser finds them."""

from __future__ import annotations

import re
import time

import pytest

from ekiden.message.address_list import parse_addresses
from ekiden.message.header_fields import fields
from support.requirements import require_conformance


def found(value: bytes) -> list[str]:
    return [
        mailbox.local + ("@" if mailbox.has_domain else "") + mailbox.domain
        for mailbox in parse_addresses(value).mailboxes
    ]


_CASE = re.compile(rb">>>(.*?)<<<\n\nParse tree:\n(.*?)\n\nInternalized:\n", re.DOTALL)


def test_the_vectors_of_postfix() -> None:
    reference = require_conformance("postfix", "vectors", "global", "tok822_parse.ref").read_bytes()
    cases = _CASE.findall(reference)
    assert len(cases) >= 18
    for value, tree in cases:
        wanted: list[list[str]] = []
        for line in tree.decode().split("\n"):
            if line == " address":
                wanted.append([])
            elif line.startswith("   "):
                kind, text = line.strip().partition(' "')[0], line[line.index('"') + 1 : -1]
                wanted[-1].append(f"[{text}]" if kind == "domain literal" else text)
        addresses = [text for words in wanted if (text := "".join(words))]
        assert found(value) == addresses, value


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        (b"", []),
        (b"a@b.test", ["a@b.test"]),
        (b" a @ b . test ", ["a@b.test"]),
        (b"A B <a@b.test>, c@d.test (x, y)", ["a@b.test", "c@d.test"]),
        (b'"x, <y>" <a@b.test>', ["a@b.test"]),
        (b"g: a, b;, c", ["a", "b", "c"]),
        (b"<@x,@y:a@b.test>", ["a@b.test"]),
        (b"a b", ["a", "b"]),
        (b'"a\\"b"@c.test', ['a"b@c.test']),
        (b'"a\r\n b"@c.test', ["a b@c.test"]),
        (b"a\\", ["a"]),
        (b"<>", []),
        (b"(a(b)c", []),
        (b"a@[IPv6:::1]", ["a@[IPv6:::1]"]),
        (b"\xff@\xfe.test", ["\udcff@\udcfe.test"]),
    ],
)
def test_addresses(value: bytes, addresses: list[str]) -> None:
    assert found(value) == addresses


def test_the_place_of_an_address_is_without_its_brackets() -> None:
    value = b"One <a@b> (c), @r:two"
    places = [value[mailbox.start : mailbox.end] for mailbox in parse_addresses(value).mailboxes]
    assert places == [b"a@b", b"@r:two"]


def test_only_so_many_words_are_read() -> None:
    value = b"a, b, c, d"
    listed = parse_addresses(value, token_limit=4)
    assert [mailbox.local for mailbox in listed.mailboxes] == ["a", "b"]
    assert value[: listed.read] == b"a, b,"


@pytest.mark.parametrize(
    "unit",
    [
        b"(",
        b"()",
        b'"',
        b'""',
        b"<",
        b">",
        b"<>",
        b":",
        b";",
        b"a:",
        b":;",
        b",",
        b"\\",
        b"[",
        b"a ",
        b"@",
        b".",
        b"a(",
        b"<a",
    ],
)
def test_hostile_values_take_linear_time(unit: bytes) -> None:
    started = time.process_time()
    parse_addresses(unit * (100_000 // len(unit)), token_limit=1_000_000)
    assert time.process_time() - started < 5


def test_fields_cover_a_header() -> None:
    header = b"A: b\r\n c\r\nTo : d\r\nTo:e\r\n"
    listed = list(fields(header))
    assert [field.name for field in listed] == [b"a", b"to", b"to"]
    assert b"".join(header[field.start : field.end] for field in listed) == header
    assert [header[field.value : field.end] for field in listed] == [b" b\r\n c\r\n", b" d\r\n", b"e\r\n"]
