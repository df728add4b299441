"""The address grammar, with the cases of two independent test suites."""

from __future__ import annotations

import json
import time

import pytest

from ekiden.message.address import NULL_SENDER, Address
from ekiden.protocol.smtp.limits import RFC_PATH_LIMITS, PathLimits
from ekiden.protocol.smtp.path import PathProblem, parse_mailbox, parse_path
from support.requirements import require_conformance


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        (b"<a@b.example>", Address("a", "b.example"), b""),
        (b"<a@b.example> SIZE=1", Address("a", "b.example"), b" SIZE=1"),
        (b"<>", NULL_SENDER, b""),
        (b"<> X", NULL_SENDER, b" X"),
        (b"<postmaster>", Address("postmaster"), b""),
        (b"<@x.example,@y.example:a@b.example>", Address("a", "b.example"), b""),
        (b'<"a b"@c.example>', Address("a b", "c.example"), b""),
        (b'<"a\\"\\\\b"@c.example>', Address('a"\\b', "c.example"), b""),
        (b'<"\\a"@c.example>', Address("a", "c.example"), b""),
        (b'<""@c.example>', Address("", "c.example"), b""),
        (b"<a@[192.0.2.1]>", Address("a", "[192.0.2.1]"), b""),
        (b"<a@[IPv6:2001:db8::1]>", Address("a", "[IPv6:2001:db8::1]"), b""),
        (b"<a@under_score.example>", Address("a", "under_score.example"), b""),
        (b"<a@B.Example>", Address("a", "B.Example"), b""),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_paths(text: bytes, address: Address, rest: bytes, lenient: bool) -> None:
    assert parse_path(text, lenient=lenient) == (address, rest)


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        (b" test@example.com", Address("test", "example.com"), b""),
        (b"test@example.com SIZE=1", Address("test", "example.com"), b" SIZE=1"),
        (b" < a@b.example > X", Address("a", "b.example"), b" X"),
        (b"<user>", Address("user"), b""),
        (b"<.a..b.@docomo.example>", Address(".a..b.", "docomo.example"), b""),
        (b"<a@b.example.>", Address("a", "b.example"), b""),
    ],
)
def test_lenient_paths(text: bytes, address: Address, rest: bytes) -> None:
    assert parse_path(text, lenient=True) == (address, rest)
    assert parse_path(text, lenient=False) is PathProblem.SYNTAX


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"<",
        b"<<a@b>>",
        b"<a@b",
        b"<a b@c>",
        b"<a@>",
        b"<@b>",
        b"<@b:>",
        b'<""  >',
        b'<"">',
        b'<"a@b>',
        b'<"a"b@c>',
        b"<a@b@c>",
        b"<a@-b>",
        b"<a@b->",
        b"<a@b..c>",
        b"<a@.b>",
        b"<a@[1.2.3]>",
        b"<a@[1.2.3.4>",
        b"<a@[IPv6:1::2::3]>",
        b"<a@[IPv6:fe80::1%eth0]>",
        b"<a@[tag:x]>",
        b"<a(c)@b>",
        b"<a\x00@b>",
        b"<a\r@b>",
        b"<a\n@b>",
        b'<"a\r\n"@b>',
        b'<"a\\\n"@b>',
        b'<"a\x00"@b>',
        b"<a@b\x00>",
        b"<a@[1.2.3.4\n]>",
        b"<a\t@b>",
        b"<a\x7f@b>",
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_what_is_no_path(text: bytes, lenient: bool) -> None:
    assert parse_path(text, lenient=lenient) is PathProblem.SYNTAX


def test_non_ascii_is_told_apart() -> None:
    assert parse_path("<jürgen@b.example>".encode(), lenient=True) is PathProblem.NOT_ASCII
    assert parse_path("<a@bücher.example>".encode(), lenient=True) is PathProblem.NOT_ASCII


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (b"<" + b"a" * 64 + b"@b.example>", True),
        (b"<" + b"a" * 65 + b"@b.example>", False),
        (b"<a@" + b"b" * 63 + b".example>", True),
        (b"<a@" + b"b" * 64 + b".example>", False),
        (b"<a@" + b"b." * 125 + b"c>", True),
        (b"<" + b"a" * 64 + b"@" + b"b." * 127 + b"c>", False),
        (b"<a@" + b"b." * 127 + b"cc>", False),
    ],
)
def test_the_limits_of_the_rfc(text: bytes, fits: bool) -> None:
    found = parse_path(text, lenient=False, limits=RFC_PATH_LIMITS)
    assert (found is PathProblem.TOO_LONG) is not fits
    assert isinstance(found, tuple) is fits


def test_the_default_takes_longer_local_parts_and_has_an_end_too() -> None:
    assert isinstance(parse_path(b"<" + b"a" * 256 + b"@b.example>", lenient=True), tuple)
    assert parse_path(b"<" + b"a" * 257 + b"@b.example>", lenient=True) is PathProblem.TOO_LONG


@pytest.mark.parametrize(
    "text",
    [
        b"<" + b"a." * 50_000,
        b'<"' + b"\\a" * 50_000,
        b"<" + b"@b," * 30_000,
        b"<@" + b"b-" * 50_000 + b"@",
        b"<a@" + b"b-" * 50_000 + b"!",
        b"<" + b" " * 100_000,
        b"<a@[" + b":" * 100_000,
    ],
)
def test_hostile_lengths_take_linear_time(text: bytes) -> None:
    """100 kB that a backtracking parser would take years for; the bound is generous, the property is not."""
    began = time.process_time()
    assert isinstance(parse_path(text, lenient=True, limits=PathLimits(10**6, 10**6, 10**6)), PathProblem)
    assert time.process_time() - began < 5


# isemail's categories that are valid in SMTP; the others are RFC 5322 forms or errors.
VALID = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_RFC5321", "ISEMAIL_DNSWARN"}
# RFC 5321 §4.1.3 does not let "::" stand for a single group; RFC 5952 only advises against it, and it has one meaning.
DEVIATIONS = {"ISEMAIL_RFC5321_IPV6DEPRECATED"}


def test_the_cases_of_isemail() -> None:
    cases = json.loads(require_conformance("addresses", "isemail.json").read_text("utf-8"))["cases"]
    wrong = [
        (case["address"], case["diagnosis"])
        for case in cases
        if case["diagnosis"] not in DEVIATIONS
        and (parse_strictly(case["address"]) is not None) is not (case["category"] in VALID)
    ]
    assert len(cases) > 100
    assert wrong == []


def parse_strictly(text: str) -> Address | None:
    """As RFC 5321 has it, through both doors."""
    mailbox = parse_mailbox(text, lenient=False, limits=RFC_PATH_LIMITS)
    path = parse_path(b"<" + text.encode() + b">", lenient=False, limits=RFC_PATH_LIMITS)
    if isinstance(path, PathProblem) or path[0].is_null or not path[0].domain:
        return None
    assert path[0] == mailbox
    return mailbox


def test_the_cases_of_mox() -> None:
    cases = json.loads(require_conformance("addresses", "mox-smtp-address.json").read_text("utf-8"))
    for case in cases["TestParseAddress"]:
        assert (parse_strictly(case["input"]) is not None) is case["valid"], case
    for case in cases["TestParseLocalpart"]:
        assert (parse_strictly(case["input"] + "@example.com") is not None) is case["valid"], case


@pytest.mark.parametrize("local", ["a", "a b", 'q"uo\\te', "", "<>", "a@b", ".a", "$(id)|;'`"])
def test_what_is_written_is_read_again(local: str) -> None:
    address = Address(local, "b.example")
    assert parse_mailbox(str(address)) == address
