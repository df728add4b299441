"""The grammar of SPF records (RFC 7208 §12), and which TXT record is one (§4.5)."""

from __future__ import annotations

import time

import pytest

from ekiden.auth.spf.macros import Macro
from ekiden.auth.spf.record import (
    RECORD_LIMIT_BYTES,
    All,
    Exists,
    Hosts,
    Include,
    Network,
    Ptr,
    RecordError,
    parse_record,
    record_of,
)
from ekiden.auth.verdict import Result


def test_which_text_is_a_record() -> None:
    assert record_of([]) is None
    assert record_of([b"v=spf10", b"v=spf1\tall", b" v=spf1", b"spf2.0/pra", b"v=spf"]) is None
    assert record_of([b"other \xff", b"V=SPF1 -all"]) == b"V=SPF1 -all"
    assert record_of([b"v=spf1"]) == b"v=spf1"
    with pytest.raises(RecordError, match="more than one"):
        record_of([b"v=spf1", b"v=spf1"])


def test_terms_as_values() -> None:
    record = parse_record(
        b"v=spf1  ip4:192.0.2.0/24 -ip6:2001:db8::/32 ?A/24//64 ~mx:b.test PTR:c.test exists:%{l1r-+}.d.test"
        b" include:e.test  all redirect=%{d2}.f.test exp=g.test. x-y_z.1=%{i}! "
    )
    network4, network6, a, mx, ptr, exists, include, every = record.mechanisms
    assert network4 == Network("ip4:192.0.2.0/24", Result.PASS, 4, 0xC00002, 8)
    assert isinstance(network6, Network)
    assert (network6.result, network6.family, network6.bits, network6.shift) == (Result.FAIL, 6, 0x20010DB8, 96)
    assert a == Hosts("?A/24//64", Result.NEUTRAL, None, False, 24, 64)
    assert isinstance(mx, Hosts)
    assert mx.domain is not None
    assert (mx.result, mx.domain.parts, mx.of_mx, mx.prefix4, mx.prefix6) == (
        Result.SOFTFAIL,
        ("b.test",),
        True,
        32,
        128,
    )
    assert isinstance(ptr, Ptr)
    assert isinstance(exists, Exists)
    assert exists.domain.parts == (Macro("l", False, 1, True, "-+"), ".d.test")
    assert isinstance(include, Include)
    assert every == All("all", Result.PASS)
    assert record.redirect is not None
    assert record.redirect.letters == frozenset("d")
    assert record.explanation is not None
    assert record.explanation.text == "g.test."


@pytest.mark.parametrize(
    ("term", "problem"),
    [
        ("moo", "unknown mechanism: 'moo'"),
        ("ipv4:192.0.2.1", "unknown mechanism: 'ipv4:192.0.2.1'"),
        ("ip4:192.0.2.1,192.0.2.2", "'ip4:192.0.2.1,192.0.2.2': not an IPv4 address"),
        ("ip4:192.0.2", "not an IPv4 address"),
        ("ip4:192.0.02.1", "not an IPv4 address"),
        ("ip4:192.0.2.1/33", "not a prefix length"),
        ("ip4:192.0.2.1/", "not a prefix length"),
        ("ip4:192.0.2.1/08", "not a prefix length"),
        ("ip4/24", "not an IPv4 address"),
        ("ip6:192.0.2.1", "not an IPv6 address"),
        ("ip6:fe80::1%eth0", "not an IPv6 address"),
        ("ip6:::1/129", "not a prefix length"),
        ("all:a.test", "nothing may follow"),
        ("a/33", "not a prefix length"),
        ("a//129", "not a prefix length"),
        ("a/24/24", "not a prefix length"),
        ("a:b.test/24/24", "not a domain name"),
        ("a:b.test/024", "not a domain name"),
        ("a:", "not a domain name"),
        ("a:b", "not a domain name"),
        ("a:b.123", "not a domain name"),
        ("a:b.-c", "not a domain name"),
        ("a:b.c_d", "not a domain name"),
        ("a:%{d}b", "not a domain name"),
        ("a:%{d}.", "not a domain name"),
        ("a:caf\u00e9.test", "characters beyond ASCII"),
        ("a:x\x00.test", "not a macro"),
        ("include", "names no domain"),
        ("exists/24", "names no domain"),
        ("ptr/24", "ptr takes no prefix length"),
        ("exists:%{r}.b.test", "for explanations only"),
        ("exists:%{x}.b.test", "not a macro"),
        ("exists:%{d.b.test", "not a macro"),
        ("exists:%{dr2}.b.test", "not a macro"),
        ("exists:%{d0}.b.test", "keeps no part"),
        ("exists:b%.test", "not a macro"),
        ("+redirect=b.test", "not a term"),
        ("redirect=", "not a domain name"),
        ("exp=b", "not a domain name"),
        ("redirect=b.test ReDirect=b.test", "redirect= comes twice"),
        ("1x=y", "not a term"),
        ("x=%", "not a macro"),
    ],
)
def test_errors_are_told(term: str, problem: str) -> None:
    with pytest.raises(RecordError) as raised:
        parse_record(f"v=spf1 -all {term}".encode("latin-1"))
    assert problem in str(raised.value)


def test_top_level_labels_with_hyphens_and_digits() -> None:
    for name in ("b.xn--p1ai", "b.1-1", "b.c1", "foo:bar/baz.b.test", "_x.b.test."):
        assert parse_record(f"v=spf1 a:{name}".encode()).mechanisms


def test_the_length_is_limited_and_work_is_linear() -> None:
    with pytest.raises(RecordError, match="too long"):
        parse_record(b"v=spf1 " + b"a " * RECORD_LIMIT_BYTES)
    began = time.process_time()
    for filler in (b"/", b"//1", b"1", b"%{d}", b"a:a.a/1//1", b"%%", b".", b"-", b"a ", b"=", b":"):
        octets = b"v=spf1 a:" + filler * ((RECORD_LIMIT_BYTES - 16) // len(filler))
        try:
            parse_record(octets)
        except RecordError:
            pass
    assert time.process_time() - began < 1.0


def test_many_digits_of_a_macro_are_as_good_as_all_parts() -> None:
    (exists,) = parse_record(b"v=spf1 exists:%{d" + b"9" * 10_000 + b"}").mechanisms
    assert isinstance(exists, Exists)
    assert exists.domain.name({"d": "a.b.test"}) == "a.b.test"
