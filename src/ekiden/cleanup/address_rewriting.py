"""The standard form of an address, ``user@fully.qualified.domain`` (trivial-rewrite(8), the request "rewrite").

Envelope addresses are always completed with the names of this host, header addresses with those of the client's
context: this host's for local clients, ``remote_header_rewrite_domain`` for others.
"""

from __future__ import annotations

import re

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.address_list import Mailbox

# What can stand behind an @ without being taken for something else.
_HOST = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"\[\]]+")


class AddressRewriting:
    """``origin`` completes an address without a domain, ``domain`` a domain without a dot; either may be empty."""

    __slots__ = ("_append_dot", "_domain", "_origin", "_percent", "_swap")

    def __init__(self, parameters: Parameters, *, origin: str, domain: str) -> None:
        self._swap = parameters.swap_bangpath
        self._percent = parameters.allow_percent_hack
        self._origin = origin if parameters.append_at_myorigin else ""
        self._domain = domain
        self._append_dot = parameters.append_dot_mydomain and bool(domain)

    @property
    def wants_dots(self) -> bool:
        """Whether a domain without a dot is incomplete."""
        return self._append_dot

    def address(self, address: Address) -> Address:
        """An address of the envelope in its standard form; the null address stays what it is."""
        domain = address.domain
        if domain and domain[-1] != "." and (not self._append_dot or "." in domain or domain[0] == "["):
            return address
        local = address.local
        if not domain and not local:
            return address
        # What needs quotes is one name, whatever it looks like (RFC 5321 §4.1.2).
        plain = not domain and str(Address(local)) == local
        return self._complete(
            local, domain, bool(domain), local.find("!") if plain else -1, local.rfind("%") if plain else -1
        )

    def mailbox(self, mailbox: Mailbox) -> Address | None:
        """An address of a header in its standard form; None if it is as it should be, or beyond understanding."""
        if mailbox.odd or (mailbox.has_domain and not mailbox.domain):
            return None
        done = self._complete(mailbox.local, mailbox.domain, mailbox.has_domain, mailbox.bang, mailbox.percent)
        return done if mailbox.route or done.domain != mailbox.domain or done.local != mailbox.local else None

    def _complete(self, local: str, domain: str, has_domain: bool, bang: int, percent: int) -> Address:
        """The steps of trivial-rewrite(8), in its order."""
        if (
            not has_domain and self._swap and bang > 0 and _HOST.fullmatch(local, 0, bang)
        ):  # host!user, as UUCP wrote it
            local, domain, has_domain, percent = local[bang + 1 :], local[:bang], True, -1
        if not has_domain and self._percent and percent >= 0 and _HOST.fullmatch(local, percent + 1):  # an old route
            local, domain, has_domain = local[:percent], local[percent + 1 :], True
        if not has_domain:
            domain = self._origin
        if self._append_dot and domain and "." not in domain and "[" not in domain:
            domain = f"{domain}.{self._domain}"
        if domain.endswith(".") and not domain.endswith("..") and domain != ".":
            domain = domain[:-1]
        return Address(local, domain)


def local_rewriting(parameters: Parameters) -> AddressRewriting:
    """For envelopes, and for the headers of local clients."""
    return AddressRewriting(parameters, origin=parameters.myorigin, domain=parameters.mydomain)


def remote_rewriting(parameters: Parameters) -> AddressRewriting | None:
    """For the headers of remote clients; None: they stay as they are (``remote_header_rewrite_domain`` is empty)."""
    domain = parameters.remote_header_rewrite_domain
    return AddressRewriting(parameters, origin=domain, domain=domain) if domain else None
