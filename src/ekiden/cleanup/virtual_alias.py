"""virtual_alias_maps: recipients replaced by others, again and again until nothing changes (virtual(5))."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import structs

from ekiden.message.address import Address
from ekiden.message.envelope import Recipient

# The addresses that stand for one address, or None. Raises TableTrouble.
Lookup = Callable[[Address], Awaitable[tuple[Address, ...] | None]]


class AliasLoop(Exception):
    """Aliases nest deeper, or give more or longer addresses, than the limits allow: wrong configuration, temporary."""


class VirtualAliases:
    """``address_limit`` counts the characters of one address."""

    def __init__(
        self, lookup: Lookup, *, expansion_limit: int, recursion_limit: int, address_limit: int = 1000
    ) -> None:
        self._lookup = lookup
        self._expansion_limit = expansion_limit
        self._recursion_limit = recursion_limit
        self._address_limit = address_limit

    async def expand(self, recipient: Recipient) -> list[Recipient]:
        """All that stand for ``recipient``, in order; it itself where there is no alias.

        Depth first, with a stack of our own: aliases may nest deeper than Python's calls. Raises AliasLoop, and
        TableTrouble when a table does not answer.
        """
        found: list[Recipient] = []
        original = recipient.original or recipient.address
        # What an address on the way became is no alias of itself again (virtual(5)): ``inside`` is that way.
        stack: list[tuple[Address, frozenset[str], int]] = [(recipient.address, frozenset(), 0)]
        looked_up = 0
        known: set[str] = set()
        while stack:
            address, inside, depth = stack.pop()
            targets = None if address.key in inside else await self._lookup(address)
            if targets is None:
                kept = original if original != address else recipient.original
                if address.key not in known:
                    known.add(address.key)
                    found.append(structs.replace(recipient, address=address, original=kept))
                continue
            if depth >= self._recursion_limit:
                raise AliasLoop(f"{recipient.address}: aliases nested more than {self._recursion_limit} deep")
            looked_up += len(targets)
            if looked_up > self._expansion_limit + depth:
                raise AliasLoop(f"{recipient.address}: more than {self._expansion_limit} addresses")
            if any(len(str(target)) > self._address_limit for target in targets):
                raise AliasLoop(f"{recipient.address}: an address of more than {self._address_limit} characters")
            way = inside | {address.key}
            stack.extend((target, way, depth + 1) for target in reversed(targets))
        return found
