"""Tables that replace addresses by addresses: canonical(5), virtual(5), generic(5). They read alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ekiden.cleanup.address_rewriting import AddressRewriting
from ekiden.message.address import Address
from ekiden.message.address_list import parse_addresses
from ekiden.tables.address import find_alias
from ekiden.tables.open import Maps
from ekiden.tables.table import TableTrouble

IsLocal = Callable[[str], Awaitable[bool]]

# cleanup(8): a mapping that leads to itself by a long way ends here.
_RECURSION_LIMIT = 1000


class AddressMaps:
    """``propagate``: an extension that the matching key did not have goes over to the result."""

    __slots__ = ("_delimiter", "_is_local", "_maps", "_propagate", "_rewriting")

    def __init__(
        self, maps: Maps, *, delimiter: str, is_local: IsLocal, rewriting: AddressRewriting, propagate: bool
    ) -> None:
        self._maps = maps
        self._delimiter = delimiter
        self._is_local = is_local
        self._rewriting = rewriting
        self._propagate = propagate

    def __bool__(self) -> bool:
        return bool(self._maps)

    async def find(self, address: Address) -> tuple[Address, ...] | None:
        """What stands for ``address``, in standard form; None when no table has it.

        Raises TableTrouble, also for a right-hand side that holds no address.
        """
        found = await find_alias(self._maps, address, delimiter=self._delimiter, is_local=self._is_local)
        if found is None:
            return None
        targets: list[Address] = []
        for mailbox in parse_addresses(found.value.encode("utf-8", "surrogateescape")).mailboxes:
            if mailbox.odd:
                raise TableTrouble(f"{found.key}: {found.value!r} is not a list of addresses")
            if mailbox.has_domain and not mailbox.local:  # "@other.example" keeps the local part
                target = Address(address.local, mailbox.domain)
            else:
                target = self._rewriting.mailbox(mailbox) or mailbox.address
                if self._propagate and found.extension:
                    target = Address(target.local + found.extension, target.domain)
            targets.append(target)
        if not targets:
            raise TableTrouble(f"{found.key}: {found.value!r} holds no address")
        return tuple(targets)

    async def follow(self, address: Address) -> Address:
        """The one address that ``address`` becomes, mapped again until nothing changes (canonical(5)).

        A cycle ends where it began. Raises TableTrouble.
        """
        seen = {address.key}
        current = address
        for _ in range(_RECURSION_LIMIT):
            found = await self.find(current)
            if found is None or found[0] == current:
                return current
            current = found[0]
            if current.key in seen:
                return current
            seen.add(current.key)
        raise TableTrouble(f"{address}: mapped more than {_RECURSION_LIMIT} times without an end")
