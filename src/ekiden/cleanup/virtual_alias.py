"""virtual_alias_maps: recipients replaced by others, again and again until nothing changes (virtual(5))."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ekiden.message.address import Address
from ekiden.message.envelope import Recipient
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.tables.address import find_alias
from ekiden.tables.open import Maps
from ekiden.tables.table import TableTrouble

Lookup = Callable[[Address], Awaitable[tuple[Address, ...] | None]]


class AliasLoop(Exception):
    """Aliases nest deeper, or give more addresses, than the limits allow: wrong configuration, temporary for mail."""


class VirtualAliases:
    """``lookup`` gives the addresses that stand for one address, or None; it raises TableTrouble."""

    def __init__(self, lookup: Lookup, *, expansion_limit: int, recursion_limit: int) -> None:
        self._lookup = lookup
        self._expansion_limit = expansion_limit
        self._recursion_limit = recursion_limit

    async def expand(self, recipients: tuple[Recipient, ...]) -> tuple[Recipient, ...]:
        """All recipients after aliasing, each address once, in order.

        Raises AliasLoop, and TableTrouble when a table does not answer.
        """
        found: dict[str, Recipient] = {}
        for recipient in recipients:
            await self._follow(recipient, found)
        return tuple(found.values())

    async def _follow(self, recipient: Recipient, found: dict[str, Recipient]) -> None:
        """Depth first, with a stack of our own: aliases may nest deeper than Python's calls."""
        original = recipient.original or recipient.address
        # What an address on the way became is no alias of itself again (virtual(5)): ``inside`` is that way.
        stack: list[tuple[Address, frozenset[str], int]] = [(recipient.address, frozenset(), 0)]
        looked_up = 0
        while stack:
            address, inside, depth = stack.pop()
            targets = None if address.key in inside else await self._lookup(address)
            if targets is None:
                kept = original if original != address else recipient.original
                found.setdefault(address.key, Recipient(address, kept, recipient.notify))
                continue
            if depth >= self._recursion_limit:
                raise AliasLoop(f"{recipient.address}: aliases nested more than {self._recursion_limit} deep")
            looked_up += len(targets)
            if looked_up > self._expansion_limit + depth:
                raise AliasLoop(f"{recipient.address}: more than {self._expansion_limit} addresses")
            way = inside | {address.key}
            stack.extend((target, way, depth + 1) for target in reversed(targets))


def table_lookup(maps: Maps, *, delimiter: str, is_local: Callable[[str], Awaitable[bool]], myorigin: str) -> Lookup:
    """A Lookup in the order of virtual(5). A right-hand side that is no address list raises TableTrouble."""

    async def lookup(address: Address) -> tuple[Address, ...] | None:
        found = await find_alias(maps, address, delimiter=delimiter, is_local=is_local)
        if found is None:
            return None
        targets: list[Address] = []
        for text in found.value.split(","):
            word = text.strip()
            # "@other.example" keeps the local part (virtual(5)).
            target = Address(address.local, word[1:]) if word.startswith("@") else parse_mailbox(word, lenient=True)
            if target is None:
                raise TableTrouble(f"{found.key}: {word!r} is not an address")
            if found.extension and not word.startswith("@"):
                target = Address(target.local + found.extension, target.domain)
            targets.append(target if target.domain else Address(target.local, myorigin))
        return tuple(targets)

    return lookup
