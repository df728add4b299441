"""Addresses without a domain get the one of this host (``append_at_myorigin``, trivial-rewrite(8))."""

from __future__ import annotations

from ekiden.message.address import Address


def qualify(address: Address, myorigin: str) -> Address:
    """The address with a domain; the null sender stays as it is."""
    if address.is_null or address.domain:
        return address
    return Address(address.local, myorigin)
