"""Reading Authentication-Results: white space, comments, quoted strings, and what is refused (RFC 8601 §2.2)."""

from __future__ import annotations

import time

import pytest

from ekiden.auth.results.read import MethodResult, Property, ResultsError, parse


def test_white_space_and_comments_stand_anywhere() -> None:
    value = (
        b" (a (nested \\) one)) example.com (b) 1 (c)\r\n\t; (d) dkim (e) / (f) 1 (g) = (h) pass (i)"
        b' reason (j) = (k) "a \\"good\\" \r\n one" (l)'
        b" header (m) . (n) d (o) = (p) example.net (q) header.i=@example.net (r) ; spf=none (s)\r\n"
    )
    read = parse(value)
    assert read.authserv_id == "example.com"
    assert read.results == (
        MethodResult(
            *("dkim", "pass", 1, 'a "good"  one'),
            (Property("header", "d", "example.net"), Property("header", "i", "@example.net")),
        ),
        MethodResult("spf", "none"),
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"user@example.net", "user@example.net"),
        (b'"a b"@example.net', '"a b"@example.net'),
        (b'"a;b"', "a;b"),
        (b'"\\\\\\""', '\\"'),
        (b"2001:db8::1", "2001:db8::1"),
        (b"Zk9/+yI=", "Zk9/+yI="),
        ("m\u00fcller@b\u00fccher.example".encode(), "m\u00fcller@b\u00fccher.example"),
    ],
)
def test_values(written: bytes, value: str) -> None:
    assert parse(b"x.test; m=pass smtp.mailfrom=" + written + b" header.d=a;").results[0].properties == (
        Property("smtp", "mailfrom", value),
        Property("header", "d", "a"),
    )


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"example.com", b"example.com;", b"example.com; none; spf=pass", b"example.com x; none", b"; none"),
        *(b"example.com; spf", b"example.com; spf=", b"example.com; spf=pass smtp", b"example.com; spf=pass smtp.x"),
        *(b"example.com; spf=pass smtp.x=", b'example.com; spf=pass smtp.x="', b"example.com (; none"),
        *(b"example.com; spf=pass (", b"example.com; spf=pass (\\", b"example.com;; spf=pass", b"spf=pass"),
        *(b"example.com; spf=pass reason=a reason=b", b'example.com; spf=pass smtp.x="a\rb"', b"example.com 1 2; none"),
        *(b"example.com; spf=pass" + b"; spf=pass" * 200, b"example.com; spf=pass" + b" a.b=c" * 1001),
    ],
)
def test_what_is_refused(value: bytes) -> None:
    with pytest.raises(ResultsError):
        parse(value)


@pytest.mark.parametrize("unit", [b"(", b"()", b"\\", b'"', b"a", b"a.", b" ", b"; a=b", b"a=", b'"\\', b"(\\(", b"a-"])
def test_reading_is_linear(unit: bytes) -> None:
    def seconds(size: int) -> float:
        value = b"x.test; a=b c.d=" + unit * (size // len(unit))
        began = time.process_time()
        try:
            parse(value)
        except ResultsError:
            pass
        return time.process_time() - began

    assert seconds(400_000) < 100 * seconds(40_000) + 0.5
