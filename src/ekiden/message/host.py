"""A host to connect to: what a next hop comes down to once names are resolved."""

from __future__ import annotations

from msgspec import Struct


class Host(Struct, frozen=True):
    """One address of one host. ``address`` is an IP address as text, IPv6 without brackets.

    The rest is what DANE asks of how it was found (RFC 7672 §2.2).
    """

    name: str
    address: str
    port: int
    authentic: bool = False  # DNSSEC proves its addresses
    insecure_mx: bool = False  # MX (or SRV) records name it, and DNSSEC does not prove those
    canonical: str = ""  # whose the addresses are, where CNAMEs led away from ``name``

    def __str__(self) -> str:
        """``name[address]:port``, as the mail log's ``relay=`` writes it."""
        return f"{self.name}[{self.address}]:{self.port}"
