"""Following the aliases of a local name to their ends (local(8)).

In:   a name; the aliases; what tells the domains of this host.
Out:  users of this host, messages to be forwarded (each with its sender), aliases that name commands or files.
Never: visits an alias twice; goes deeper or wider than the rules say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.deliver.aliases import AliasSource
from ekiden.deliver.targets import MailTo, Special, Target
from ekiden.message.address import Address
from ekiden.tables.address import split_extension
from ekiden.tables.table import TableTrouble


class AliasLoop(Exception):
    """Aliases lead back to themselves, or too far."""


class User(Struct, frozen=True):
    """A name that no alias replaces. ``final``: its mailbox, without a look at .forward."""

    name: str
    final: bool = False
    owner: Address | None = None  # the sender of the list that it was found in


class SpecialAlias(Struct, frozen=True):
    """An alias with commands, files or :include: among its targets: the deliverer finds and serves them."""

    name: str
    came_as: str  # the name that led to it, with its extension
    owner: Address | None


class Group(Struct, frozen=True):
    """Addresses that get one new message. ``sender`` None: the sender of the mail."""

    sender: Address | None
    addresses: tuple[Address, ...]


class Expansion(Struct, frozen=True):
    users: tuple[User, ...]
    groups: tuple[Group, ...]
    specials: tuple[SpecialAlias, ...]


class ExpansionRules(Struct, frozen=True):
    delimiter: str  # recipient_delimiter
    myorigin: str  # the domain of a target without one
    recursion_limit: int
    expansion_limit: int
    owner_special: bool = True  # owner_request_special
    expand_owner: bool = False  # expand_owner_alias
    reset_owner: bool = False  # reset_owner_alias
    propagate: bool = False  # what an alias did without is added to its targets (propagate_unmatched_extensions)


# Without an alias of their own, the mail of these goes where that of the next goes.
_FALLBACK = {"mailer-daemon": "postmaster", "postmaster": "root"}

IsLocal = Callable[[str], Awaitable[bool]]


def expansion_rules(parameters: Parameters) -> ExpansionRules:
    return ExpansionRules(
        delimiter=parameters.recipient_delimiter,
        myorigin=parameters.myorigin,
        recursion_limit=parameters.local_alias_recursion_limit,
        expansion_limit=parameters.local_alias_expansion_limit,
        owner_special=parameters.owner_request_special,
        expand_owner=parameters.expand_owner_alias,
        reset_owner=parameters.reset_owner_alias,
        propagate="alias" in parameters.propagate_unmatched_extensions,
    )


class _Waiting(Struct, frozen=True):
    """A name still to be looked up, the aliases that led to it, and the owner of the list it stands in."""

    name: str
    chain: tuple[str, ...]
    owner: Address | None


async def expand(name: str, aliases: AliasSource, is_local: IsLocal, rules: ExpansionRules) -> Expansion:
    """Follow the aliases of a local name to their ends, each end once. Raises AliasLoop, TableTrouble."""
    users: dict[str, User] = {}
    groups: dict[Address | None, dict[str, Address]] = {}
    specials: dict[str, SpecialAlias] = {}
    seen: set[str] = set()
    waiting: list[_Waiting] = [_Waiting(name, (), None)]
    count = 0
    while waiting:
        current = waiting.pop()
        alias, targets = await _find(current.name, aliases, rules)
        names_itself = bool(current.chain) and current.chain[-1] == alias
        if targets is None and current.owner is not None and not names_itself:
            # Members of a list with an owner get mail of their own, from that owner, wherever they are.
            full = Address(current.name, rules.myorigin)
            groups.setdefault(current.owner, {}).setdefault(full.key, full)
            continue
        if targets is None or names_itself:  # an alias that names itself means the user
            users.setdefault(current.name.lower(), User(current.name, owner=current.owner))
            continue
        if alias in current.chain or len(current.chain) >= rules.recursion_limit:
            raise AliasLoop(f"alias database loop for {name}")
        if alias in seen:
            continue
        seen.add(alias)
        extension = current.name[len(alias) :] if rules.propagate and current.name.lower().startswith(alias) else ""
        own = await _owner_of(alias, aliases, rules)
        owner = own or (None if rules.reset_owner else current.owner)
        inner: list[_Waiting] = []
        for target in targets:
            if isinstance(target, Special):
                specials.setdefault(alias, SpecialAlias(alias, current.name, owner))
                continue
            full = target.address if target.address.domain else Address(target.address.local, rules.myorigin)
            if extension:
                full = Address(full.local + extension, full.domain)
            if not await is_local(full.domain):
                groups.setdefault(owner, {}).setdefault(full.key, full)
            elif target.final:
                users.setdefault(full.local.lower(), User(full.local, True, owner))
            else:
                inner.append(_Waiting(full.local, (*current.chain, alias), owner))
            count += 1
        waiting.extend(reversed(inner))
        if count > rules.expansion_limit:
            raise AliasLoop(f"the alias {name} stands for more than {rules.expansion_limit} addresses")
    return Expansion(
        tuple(users.values()),
        tuple(Group(sender, tuple(addresses.values())) for sender, addresses in groups.items()),
        tuple(specials.values()),
    )


async def _find(name: str, aliases: AliasSource, rules: ExpansionRules) -> tuple[str, tuple[Target, ...] | None]:
    """The alias that stands for ``name`` and its targets: the whole name first, then without its extension."""
    key = name.lower()
    if (targets := await aliases.lookup(key)) is not None:
        return key, targets
    user, extension = split_extension(key, rules.delimiter, owner_special=rules.owner_special)
    if extension and (targets := await aliases.lookup(user, partial=True)) is not None:
        return user, targets
    while user in _FALLBACK:
        user = _FALLBACK[user]
        if (targets := await aliases.lookup(user)) is not None:
            return user, targets
    return key, None


async def _owner_of(alias: str, aliases: AliasSource, rules: ExpansionRules) -> Address | None:
    """Who sends the mail of a list: owner-LIST if there is such an alias. Raises TableTrouble."""
    if not rules.owner_special:
        return None
    name = f"owner-{alias}"
    targets = await aliases.lookup(name)
    if targets is None:
        return None
    if not rules.expand_owner:
        return Address(name, rules.myorigin)
    if len(targets) != 1 or not isinstance(targets[0], MailTo):
        raise TableTrouble(f"expand_owner_alias: {name} must stand for one address")
    address = targets[0].address
    return address if address.domain else Address(address.local, rules.myorigin)
