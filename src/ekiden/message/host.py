"""A host to connect to: what a next hop comes down to once names are resolved."""

from __future__ import annotations

from msgspec import Struct


class Host(Struct, frozen=True):
    """One address of one host. ``address`` is an IP address as text, IPv6 without brackets."""

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        """``name[address]:port``, as the mail log's ``relay=`` writes it."""
        return f"{self.name}[{self.address}]:{self.port}"
