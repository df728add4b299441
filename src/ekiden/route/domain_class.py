"""The class of a recipient's domain (ADDRESS_CLASS_README): what this host is to that domain."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import lru_cache

from ekiden.config.snapshot import Parameters
from ekiden.dns.name import dns_name
from ekiden.route.next_hop import ip_address
from ekiden.tables.match import DomainList, Subdomains
from ekiden.tables.open import is_table, open_table
from ekiden.tables.table import Table

# Domains whose class is remembered; when there are more, all are forgotten at once.
_REMEMBERED = 10_000


class DomainClass(enum.StrEnum):
    LOCAL = "local"  # mydestination: users of this host
    VIRTUAL_ALIAS = "virtual alias"  # every address is an alias of others
    VIRTUAL_MAILBOX = "virtual mailbox"  # mailboxes without system users
    RELAY = "relay"  # we take its mail from anybody and pass it on
    DEFAULT = "default"  # everybody else's


class DomainClasses:
    """Classifies domains. A domain in two lists has the class that comes first above, as in Postfix."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        own_addresses: frozenset[str] = frozenset(),
        open_table: Callable[[str], Table] = open_table,
    ) -> None:
        parents = set(parameters.parent_domain_matches_subdomains)
        self._own_addresses = own_addresses
        self._lists = tuple(
            (DomainList(a_labels(words), subdomains=subdomains, opener=open_table), klass)
            for words, subdomains, klass in (
                (parameters.mydestination, Subdomains.NEVER, DomainClass.LOCAL),
                (parameters.virtual_alias_domains, Subdomains.NEVER, DomainClass.VIRTUAL_ALIAS),
                (parameters.virtual_mailbox_domains, Subdomains.NEVER, DomainClass.VIRTUAL_MAILBOX),
                (
                    parameters.relay_domains,
                    Subdomains.ALWAYS if "relay_domains" in parents else Subdomains.DOTTED,
                    DomainClass.RELAY,
                ),
            )
            if words
        )

        # Lists without tables that change say the same for as long as the parameters live.
        self._is_fixed = not any(_may_change(word) for words in _words_of(parameters) for word in words)
        self.known: dict[str, DomainClass] = {}  # may be forgotten at any time; of() finds it again

    async def of(self, domain: str) -> DomainClass:
        """The class of ``domain`` (as domain_key gives it; "" is this host). Raises TableTrouble."""
        known = self.known.get(domain)
        if known is not None:
            return known
        klass = await self._find(domain)
        if self._is_fixed:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[domain] = klass
        return klass

    async def _find(self, domain: str) -> DomainClass:
        if not domain or (domain[0] == "[" and self._is_own_literal(domain)):
            return DomainClass.LOCAL
        for domains, klass in self._lists:
            if await domains.matches(domain):
                return klass
        return DomainClass.DEFAULT

    def _is_own_literal(self, domain: str) -> bool:
        """RFC 5321 §4.1.3: ``[192.0.2.1]`` is this host when it has that address."""
        return domain.endswith("]") and ip_address(domain[1:-1]) in self._own_addresses


def _may_change(word: str) -> bool:
    """A table may, unless it is written out in the parameter; and a file may name one."""
    bare = word.lstrip("!")
    return bare.startswith("/") or (is_table(bare) and not bare.startswith(("inline:", "static:")))


def _words_of(parameters: Parameters) -> tuple[tuple[str, ...], ...]:
    return (
        parameters.mydestination,
        parameters.virtual_alias_domains,
        parameters.virtual_mailbox_domains,
        parameters.relay_domains,
    )


@lru_cache(maxsize=8192)
def domain_key(domain: str) -> str:
    """The form in which domains are compared: A-labels, lower case, no trailing dot; what is no name stays as it is."""
    if domain.isascii():
        return domain.lower().removesuffix(".")
    return dns_name(domain) or domain.lower()


def a_labels(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a list with domains in U-labels (``bücher.example``) turned into what they are looked up by."""
    return tuple(word if word.isascii() or ":" in word or "/" in word else _converted(word) for word in words)


def _converted(word: str) -> str:
    bare = word.lstrip("!.")
    return word[: len(word) - len(bare)] + domain_key(bare)
