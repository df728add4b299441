from __future__ import annotations

import pytest

from ekiden.route.next_hop import NextHop, parse_next_hop


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("Example.com", NextHop("example.com", 25)),
        ("example.com.", NextHop("example.com", 25)),
        ("example.com:2525", NextHop("example.com", 2525)),
        ("example.com:submission", NextHop("example.com", 587)),
        ("bücher.example", NextHop("xn--bcher-kva.example", 25)),
        ("[mail.example]", NextHop("mail.example", 25, use_mx=False)),
        ("[mail.example]:587", NextHop("mail.example", 587, use_mx=False)),
        ("[192.0.2.1]:25", NextHop("192.0.2.1", 25, is_address=True, use_mx=False)),
        ("[IPv6:2001:DB8::1]", NextHop("2001:db8::1", 25, is_address=True, use_mx=False)),
        ("[2001:db8:0:0::1]:2525", NextHop("2001:db8::1", 2525, is_address=True, use_mx=False)),
    ],
)
def test_forms_of_a_next_hop(text: str, hop: NextHop) -> None:
    assert parse_next_hop(text) == hop


@pytest.mark.parametrize(
    "text",
    ["", ":25", "example.com:", "example.com:0", "example.com:65536", "example.com:²", "[a", "[a]25", "[a]:", "[]",
     "a b", "192.0.2.1", "2001:db8::1", "[IPv6:192.0.2.1]", "a..b", "x\r\n.example", "a" * 64 + ".example"],
)  # fmt: skip
def test_what_is_no_next_hop(text: str) -> None:
    assert parse_next_hop(text) is None


def test_the_default_port() -> None:
    assert parse_next_hop("[h]", 24) == NextHop("h", 24, use_mx=False)
