"""masquerade_domains: hosts of a domain hide behind the domain's name (postconf(5))."""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.message.address import Address
from ekiden.tables.match import DomainList


class Masquerade:
    """Raises ConfigError when the exceptions cannot be used."""

    __slots__ = ("_domains", "_exceptions")

    def __init__(self, domains: Sequence[str], exceptions: Sequence[str]) -> None:
        self._domains = [(word.lstrip("!").lower(), not word.startswith("!")) for word in domains]
        self._exceptions = DomainList(exceptions)  # names are matched as domains are, without regard to case

    def __bool__(self) -> bool:
        return bool(self._domains)

    async def apply(self, address: Address) -> Address:
        """The first domain that fits decides; ``!domain`` leaves what is below it alone. Raises TableTrouble."""
        own = address.domain.lower()
        for domain, strips in self._domains:
            if own == domain:
                return address
            if own.endswith("." + domain):
                if not strips or await self._exceptions.matches(address.local):
                    return address
                return Address(address.local, domain)
        return address
