"""The orders in which a mail address is looked up in tables (virtual(5), transport(5)), and address extensions.

Keys are as the address is written: tables of fixed keys fold them, pattern tables see them as they are. Pattern tables
are asked for the whole address only. An address beyond ASCII (RFC 6531) is looked up in each of its spellings, place by
place: the domain in A-labels and in U-labels, the local part as it came and composed (NFC, RFC 5198 §3).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from ekiden.dns.name import spellings
from ekiden.message.address import Address, composed
from ekiden.tables.open import Maps

# postconf(5) recipient_delimiter: these names are never split.
_WHOLE = frozenset({"mailer-daemon", "postmaster", "double-bounce"})


class Match(Struct, frozen=True):
    """An answer, the key that had it, and the extension (with its delimiter) that the key did without."""

    value: str
    key: str
    extension: str = ""


def split_extension(local: str, delimiter: str, *, owner_special: bool = True) -> tuple[str, str]:
    """``user+ext`` as ``("user", "+ext")``, split at the first character of ``delimiter``; else ``("user", "")``.

    ``owner_special``: owner-LIST and LIST-request are not split at a dash (owner_request_special).
    """
    if not delimiter or local.lower() in _WHOLE:
        return local, ""
    at = min((found for char in delimiter if (found := local.find(char)) >= 0), default=0)
    if at == 0:
        return local, ""
    if (
        owner_special
        and local[at] == "-"
        and (local.lower().startswith("owner-") or local.lower().endswith("-request"))
    ):
        return local, ""  # the names of a mailing list's keepers are not extensions of owner@ and list@
    return local[:at], local[at:]


async def find_alias(
    maps: Maps,
    address: Address,
    *,
    delimiter: str = "",
    is_local: Callable[[str], Awaitable[bool]] | None = None,
) -> Match | None:
    """The order of virtual(5): user+ext@domain, user@domain, user+ext, user (local domains only), @domain.

    ``is_local`` tells whether a domain is $myorigin or in $mydestination; it is asked only when needed.
    Raises TableTrouble.
    """
    if not maps:
        return None
    domain = address.domain
    user, extension = split_extension(address.local, delimiter)
    spelled = variants(address)
    if len(spelled) > 1:
        local = is_local is not None and await is_local(domain.lower())
        return await _first(maps, [_alias_keys(each, delimiter, local) for each in spelled])
    whole = str(Address(address.local))
    bare = str(Address(user)) if extension else whole
    at_domain = f"@{domain}" if domain else ""
    if (value := await maps.lookup(whole + at_domain)) is not None:
        return Match(value, whole + at_domain)
    if extension and (value := await maps.lookup(bare + at_domain, partial=True)) is not None:
        return Match(value, bare + at_domain, extension)
    if not domain:
        return None
    if is_local is not None and await is_local(domain.lower()):
        if (value := await maps.lookup(whole, partial=True)) is not None:
            return Match(value, whole)
        if extension and (value := await maps.lookup(bare, partial=True)) is not None:
            return Match(value, bare, extension)
    value = await maps.lookup(at_domain, partial=True)
    return None if value is None else Match(value, at_domain)


def variants(address: Address) -> list[Address]:
    """The spellings of an address, as it is written first; nearly always there is just one."""
    if address.local.isascii() and address.domain.isascii() and "xn--" not in address.domain.lower():
        return [address]
    locals_ = dict.fromkeys((address.local, composed(address.local)))
    return [Address(local, domain) for domain in spellings(address.domain) for local in locals_]


# A key, whether it is only a part of the address, and the extension that it does without.
_Key = tuple[str, bool, str]


def _alias_keys(address: Address, delimiter: str, is_local: bool) -> list[_Key]:
    """What find_alias looks up for one spelling."""
    user, extension = split_extension(address.local, delimiter)
    at_domain = f"@{address.domain}" if address.domain else ""
    names: list[_Key] = [(str(Address(address.local)), False, "")]
    if extension:
        names.append((str(Address(user)), True, extension))
    keys = [(name + at_domain, partial, left) for name, partial, left in names]
    if at_domain:
        keys += [(name, True, left) for name, _, left in names] if is_local else []
        keys.append((at_domain, True, ""))
    return keys


async def _first(maps: Maps, spelled: Sequence[Sequence[_Key]]) -> Match | None:
    """The first answer, place by place, and at each place spelling by spelling."""
    for place in zip(*spelled, strict=True):
        for key, partial, extension in dict.fromkeys(place):
            if (value := await maps.lookup(key, partial=partial)) is not None:
                return Match(value, key, extension)
    return None


async def find_transport(
    maps: Maps, address: Address, *, delimiter: str = "", parent_matches: bool = False
) -> Match | None:
    """The order of transport(5): user+ext@domain, user@domain, domain, its parents, ``*``.

    Parents are looked up as ``.example.com``, with ``parent_matches`` (transport_maps is in
    parent_domain_matches_subdomains) as ``example.com``. Raises TableTrouble.
    """
    if not maps:
        return None
    domain = address.domain
    user, extension = split_extension(address.local, delimiter)
    spelled = variants(address)
    if len(spelled) > 1:
        keys = [_transport_keys(each, delimiter, dotted=not parent_matches) for each in spelled]
        return await _first(maps, keys)
    whole = f"{Address(address.local)}@{domain}"
    if (value := await maps.lookup(whole)) is not None:
        return Match(value, whole)
    if extension:
        bare = f"{Address(user)}@{domain}"
        if (value := await maps.lookup(bare, partial=True)) is not None:
            return Match(value, bare, extension)
    for key in domain_keys(domain, dotted=not parent_matches):
        if (value := await maps.lookup(key, partial=True)) is not None:
            return Match(value, key)
    value = await maps.lookup("*", partial=True)
    return None if value is None else Match(value, "*")


def _transport_keys(address: Address, delimiter: str, *, dotted: bool) -> list[_Key]:
    """What find_transport looks up for one spelling."""
    user, extension = split_extension(address.local, delimiter)
    keys: list[_Key] = [(f"{Address(address.local)}@{address.domain}", False, "")]
    if extension:
        keys.append((f"{Address(user)}@{address.domain}", True, extension))
    return [*keys, *((key, True, "") for key in domain_keys(address.domain, dotted=dotted)), ("*", True, "")]


def domain_keys(domain: str, *, dotted: bool) -> list[str]:
    """A domain and its parents, nearest first; the parents with a dot in front if ``dotted``."""
    keys = [domain] if domain else []
    if domain.startswith("["):  # an address literal has no parents
        return keys
    at = domain.find(".", 1)
    while 0 <= at < len(domain) - 1:
        keys.append(domain[at:] if dotted else domain[at + 1 :])
        at = domain.find(".", at + 1)
    return keys
