from __future__ import annotations

import pytest

from ekiden.dns.name import dns_name, host_name
from ekiden.dns.reverse import reverse_name

LABEL63 = "a" * 63


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        (".", ""),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # an ideographic full stop parts labels too
        (f"{LABEL63}.example", f"{LABEL63}.example"),
        (".".join([LABEL63] * 3) + "." + "a" * 61, ".".join([LABEL63] * 3) + "." + "a" * 61),  # 253 octets
    ],
)
def test_names_that_can_be_asked_for(name: str, asked: str) -> None:
    assert dns_name(name) == asked


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "a..b",
        ".a",
        "a b.example",
        "a\x00b.example",
        "a\nb.example",
        "a\\b.example",
        "\x7f.example",
        f"{LABEL63}a.example",
        ".".join([LABEL63] * 3) + "." + "a" * 62,  # 254 octets
        "a." * 127 + "aa",
        "ü" * 64 + ".example",
        "\u2028.example",
        "xn--\u00fc.example",
        "ü" * 100_000,
        "a" * 100_000,
        "a\ud800.example",
    ],
)
def test_names_that_cannot_exist(name: str) -> None:
    assert dns_name(name) is None


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("MX.example.com.", "mx.example.com"),
        ("a_b.example", "a_b.example"),
        ("localhost", "localhost"),
        ("1.2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa"),
        ("192.0.2.1", None),
        ("1", None),
        ("2001:db8::1", None),
        ("-a.example", None),
        ("a-.example", None),
        ("<script>.example", None),
        ("a@b.example", None),
        ("*.example", None),
        (".", None),
        ("", None),
    ],
)
def test_names_of_hosts(name: str, host: str | None) -> None:
    assert host_name(name) == host


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"),
        ("unknown", None),
        ("192.0.2", None),
        ("::1\x00", None),
    ],
)
def test_reverse_names(address: str, name: str | None) -> None:
    assert reverse_name(address) == name
