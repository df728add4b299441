"""cleanup.virtual_alias: recursion ends, loops are found, each address comes once."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.cleanup.virtual_alias import AliasLoop, VirtualAliases
from ekiden.message.address import Address
from ekiden.message.envelope import Recipient


def address(text: str) -> Address:
    local, _, domain = text.partition("@")
    return Address(local, domain)


def expand(table: dict[str, list[str]], recipient: str, *, limit: int = 100) -> list[str]:
    async def lookup(key: Address) -> tuple[Address, ...] | None:
        found = table.get(str(key))
        return None if found is None else tuple(address(text) for text in found)

    aliases = VirtualAliases(lookup, expansion_limit=limit, recursion_limit=limit)
    found = asyncio.run(aliases.expand(Recipient(address(recipient))))
    return [str(each.address) for each in found]


def test_no_alias() -> None:
    assert expand({}, "a@x") == ["a@x"]


def test_several_targets_and_recursion() -> None:
    table = {"all@x": ["a@x", "team@x"], "team@x": ["b@x", "c@x"]}
    assert expand(table, "all@x") == ["a@x", "b@x", "c@x"]


def test_each_address_once() -> None:
    table = {"all@x": ["a@x", "team@x"], "team@x": ["a@x", "b@x"]}
    assert expand(table, "all@x") == ["a@x", "b@x"]


def test_an_address_among_its_own_targets_is_final_there() -> None:
    assert expand({"a@x": ["a@x", "copy@y"]}, "a@x") == ["a@x", "copy@y"]


@pytest.mark.parametrize("length", [1, 2, 5, 50])
def test_a_cycle_ends(length: int) -> None:
    table = {f"a{at}@x": [f"a{(at + 1) % length}@x"] for at in range(length)}
    assert expand(table, "a0@x") == ["a0@x"]


def test_a_chain_that_is_too_long_is_a_loop() -> None:
    with pytest.raises(AliasLoop):
        expand({f"a{at}@x": [f"a{at + 1}@x"] for at in range(1000)}, "a0@x", limit=100)


def test_too_many_targets_are_a_loop() -> None:
    with pytest.raises(AliasLoop):
        expand({"a@x": [f"b{at}@x" for at in range(101)]}, "a@x", limit=100)


def test_the_original_address_is_kept() -> None:
    async def lookup(key: Address) -> tuple[Address, ...] | None:
        return (Address("b", "y"),) if key.local == "a" else None

    aliases = VirtualAliases(lookup, expansion_limit=10, recursion_limit=10)
    (recipient,) = asyncio.run(aliases.expand(Recipient(Address("a", "x"))))
    assert recipient.original == Address("a", "x")
