"""Tables that routing asks by a mail address in the order of virtual(5): relocated(5), sender_dependent_*_maps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ekiden.message.address import Address
from ekiden.tables.address import find_alias
from ekiden.tables.open import Maps
from ekiden.tables.table import TableTrouble

IsLocal = Callable[[str], Awaitable[bool]]

# What a sender-dependent table says to end the search without an answer, in any case of letters.
_NO_ANSWER = "dunno"


class SenderMaps:
    """sender_dependent_relayhost_maps or sender_dependent_default_transport_maps.

    ``null_key`` stands for the null sender; ``is_local`` tells the domains whose senders are looked up by name too.
    """

    __slots__ = ("_delimiter", "_is_local", "_maps", "_null_key")

    def __init__(self, maps: Maps, *, null_key: str, delimiter: str, is_local: IsLocal) -> None:
        self._maps = maps
        self._null_key = null_key
        self._delimiter = delimiter
        self._is_local = is_local

    def __bool__(self) -> bool:
        return bool(self._maps)

    async def find(self, sender: Address) -> str | None:
        """The answer for ``sender``; None: as if there were no table. Raises TableTrouble."""
        if sender.is_null:
            value = await self._maps.lookup(self._null_key)
        else:
            found = await find_alias(
                self._maps, _lower_local(sender), delimiter=self._delimiter, is_local=self._is_local
            )
            value = found.value if found is not None else None
        if value is None or value.lower() == _NO_ANSWER:
            return None
        if not value.strip():
            raise TableTrouble(f"a sender-dependent table has an empty answer for <{sender}>: write DUNNO for none")
        return value.strip()


class Relocated:
    """relocated_maps: addresses whose mail is returned with the new one (RFC 3463 §3.2: X.1.6)."""

    __slots__ = ("_delimiter", "_is_local", "_maps", "_prefix")

    def __init__(self, maps: Maps, *, delimiter: str, is_local: IsLocal, prefix: bool) -> None:
        self._maps = maps
        self._delimiter = delimiter
        self._is_local = is_local
        self._prefix = "User has moved to " if prefix else ""

    def __bool__(self) -> bool:
        return bool(self._maps)

    async def find(self, address: Address) -> str | None:
        """The text for the sender, or None when nobody has moved. Raises TableTrouble."""
        found = await find_alias(self._maps, _lower_local(address), delimiter=self._delimiter, is_local=self._is_local)
        return None if found is None else f"{self._prefix}{found.value}"


def _lower_local(address: Address) -> Address:
    return Address(address.local.lower(), address.domain)
