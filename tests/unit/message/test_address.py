from __future__ import annotations

import pytest

from ekiden.message.address import Address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("", ""), ""),
        (Address("a", "b.example"), "a@b.example"),
        (Address("a b", "b.example"), '"a b"@b.example'),
        (Address('a"\\', "b.example"), '"a\\"\\\\"@b.example'),
        (Address("a..b", "b.example"), '"a..b"@b.example'),
        (Address("", "b.example"), '""@b.example'),
        (Address("postmaster"), "postmaster"),
        (Address("a", "[192.0.2.1]"), "a@[192.0.2.1]"),
    ],
)
def test_on_the_wire(address: Address, text: str) -> None:
    assert str(address) == text


def test_the_key_folds_the_domain_only() -> None:
    assert Address("User", "EXAMPLE.Com").key == "User@example.com"
