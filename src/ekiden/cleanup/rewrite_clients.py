"""local_header_rewrite_clients: the SMTP clients whose headers this host completes as its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ekiden.config.errors import ConfigError
from ekiden.tables.match import ClientList
from ekiden.tables.open import is_table
from ekiden.tables.table import Table

# These tell a client by what it has shown (a login, a certificate), which no client can yet.
_NOBODY = frozenset({"permit_sasl_authenticated", "permit_tls_clientcerts", "permit_tls_all_clientcerts"})


class RewriteClients:
    """Raises ConfigError for a word that is none of the list's."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        own_addresses: frozenset[str],
        networks: ClientList,
        open_table: Callable[[str], Table],
    ) -> None:
        self._own_addresses: frozenset[str] = frozenset()
        self._networks: ClientList | None = None
        self._tables: list[Table] = []
        for word in words:
            if word == "permit_inet_interfaces":
                self._own_addresses = own_addresses
            elif word == "permit_mynetworks":
                self._networks = networks
            elif is_table(word):
                self._tables.append(open_table(word))
            elif word not in _NOBODY and word != "check_address_map":
                raise ConfigError(f"local_header_rewrite_clients: {word!r} is neither a permit_ word nor a table")

    async def include(self, address: str) -> bool:
        """Whether the client with this address is local. Raises TableTrouble."""
        if address in self._own_addresses:
            return True
        if self._networks is not None and await self._networks.matches(address):
            return True
        for table in self._tables:
            if await table.lookup(address) is not None:
                return True
        return False
