"""local_header_rewrite_clients: the SMTP clients whose headers this host completes as its own.

What a submission server adds to a message that lacks it (RFC 6409 §8) is what these get. dkim_signing_clients, whose
mail is signed, is a list of the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ekiden.config.errors import ConfigError
from ekiden.message.envelope import Client
from ekiden.tables.match import ClientList
from ekiden.tables.open import is_table
from ekiden.tables.table import Table

_LOGIN, _KNOWN_CERTIFICATE, _CERTIFICATE = (
    *("permit_sasl_authenticated", "permit_tls_clientcerts", "permit_tls_all_clientcerts"),
)


class RewriteClients:
    """Raises ConfigError for a word that is none of the list's."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        own_addresses: frozenset[str],
        networks: ClientList,
        open_table: Callable[[str], Table],
        certificates: Sequence[str] = (),
        parameter: str = "local_header_rewrite_clients",
    ) -> None:
        """``certificates`` are the tables of relay_clientcerts; ``parameter``: whose words these are, for errors."""
        self._shown = frozenset(words) & {_LOGIN, _KNOWN_CERTIFICATE, _CERTIFICATE}
        self._certificates = [open_table(word) for word in certificates] if _KNOWN_CERTIFICATE in words else []
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
            elif word not in self._shown and word != "check_address_map":
                raise ConfigError(f"{parameter}: {word!r} is neither a permit_ word nor a table")

    async def include(self, client: Client) -> bool:
        """Whether the client is local. Raises TableTrouble."""
        address = client.address
        if self._shown and await self._has_shown(client):
            return True
        if address in self._own_addresses:
            return True
        if self._networks is not None and await self._networks.matches(address):
            return True
        for table in self._tables:
            if await table.lookup(address) is not None:
                return True
        return False

    async def _has_shown(self, client: Client) -> bool:
        """A login or a certificate that is enough."""
        if client.login and _LOGIN in self._shown:
            return True
        if client.tls is None or not client.tls.fingerprint:
            return False
        if client.tls.trusted and _CERTIFICATE in self._shown:
            return True
        for fingerprint in (client.tls.fingerprint, client.tls.key_fingerprint):
            for table in self._certificates:
                if fingerprint and await table.lookup(fingerprint) is not None:
                    return True
        return False
