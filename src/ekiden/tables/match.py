"""Match lists (postconf(5)): domains and networks, with ``!`` to exclude, files and tables as members.

The first member that fits decides. Members are already expanded and split words.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ekiden.config.errors import ConfigError
from ekiden.config.lines import logical_lines
from ekiden.config.registry import split_words
from ekiden.tables.address import domain_keys
from ekiden.tables.open import is_table, open_table
from ekiden.tables.table import Table

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A list may name a file that names a file; deeper than this it names itself.
_FILE_DEPTH = 10
# Clients whose answer is remembered; when there are more, all are forgotten at once.
_REMEMBERED = 10_000


class Subdomains(enum.Enum):
    """Which members stand for the domains below them."""

    NEVER = "none do"  # mydestination, virtual_alias_domains, virtual_mailbox_domains
    DOTTED = ".example.com does"
    ALWAYS = "example.com does"  # a list that is in parent_domain_matches_subdomains: relay_domains


class DomainList:
    """Domains, compared without regard to case. Raises ConfigError for a member that cannot be used."""

    __slots__ = ("_dotted", "_steps", "_subdomains")

    def __init__(
        self,
        words: Sequence[str],
        *,
        subdomains: Subdomains = Subdomains.NEVER,
        opener: Callable[[str], Table] = open_table,
    ) -> None:
        self._subdomains = subdomains
        self._dotted = subdomains is Subdomains.DOTTED
        self._steps: list[tuple[bool, set[str] | Table]] = []
        for included, word in _members(words):
            if is_table(word):
                self._steps.append((included, opener(word)))
                continue
            if not self._steps or self._steps[-1][0] is not included or not isinstance(self._steps[-1][1], set):
                self._steps.append((included, set()))
            names = self._steps[-1][1]
            assert isinstance(names, set)
            names.add(word.lower())

    def __bool__(self) -> bool:
        return bool(self._steps)

    async def matches(self, domain: str) -> bool:
        """Whether the list holds ``domain`` (without a dot at its end). Raises TableTrouble."""
        domain = domain.lower()
        keys: Sequence[str] | None = None
        for included, step in self._steps:
            if isinstance(step, set) and domain in step:
                return included
            if self._subdomains is Subdomains.NEVER:
                keys = (domain,)
            elif keys is None:
                keys = domain_keys(domain, dotted=self._dotted)
            if isinstance(step, set):
                if not step.isdisjoint(keys):
                    return included
                continue
            for key in keys:
                if await step.lookup(key) is not None:
                    return included
        return False


class NetworkList:
    """Networks and addresses (mynetworks). Raises ConfigError for a member that is neither."""

    __slots__ = ("_known", "_members", "_networks")

    def __init__(self, words: Sequence[str]) -> None:
        self._members = [(included, _network(word)) for included, word in _members(words)]
        self._networks = [
            (included, network.version, int(network.network_address), int(network.netmask))
            for included, network in self._members
        ]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def contains(self, address: str) -> bool:
        """Whether a client's address (as text, IPv6 without brackets) is in the list; False for what is no address."""
        known = self._known.get(address)
        if known is None:
            known = self._search(address)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address] = known
        return known

    def _search(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        number = int(parsed)
        for included, version, first, mask in self._networks:
            if version == parsed.version and number & mask == first:
                return included
        return False

    def networks(self) -> list[tuple[bool, Network]]:
        """The members in their order, with whether they include."""
        return list(self._members)


def parse_network(word: str) -> Network:
    """``192.0.2.0/24``, ``192.0.2.1``, ``[2001:db8::]/32``, ``[::1]``. Raises ConfigError that says what is right."""
    address, slash, length = word.partition("/")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    text = f"{bare}/{length}" if slash else bare
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        try:
            wide = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ConfigError(f"{word!r} is not a network: write 192.0.2.0/24, 192.0.2.1 or [2001:db8::]/32") from error
        shown = f"[{wide.network_address}]" if wide.version == 6 else str(wide.network_address)
        raise ConfigError(f"{word!r} has bits behind its mask: write {shown}/{wide.prefixlen}") from error


def _network(word: str) -> Network:
    if is_table(word) and not word.startswith("["):
        try:
            return ipaddress.ip_network(word)  # IPv6 without brackets looks like a table
        except ValueError:
            raise ConfigError(f"{word!r}: a list of networks cannot name tables yet; /path names a file") from None
    return parse_network(word)


def _members(words: Sequence[str], depth: int = 0) -> Iterator[tuple[bool, str]]:
    """The members with whether they include; files are replaced by what they hold."""
    for word in words:
        included = True
        while word.startswith("!"):
            included, word = not included, word[1:]
        if not word:
            raise ConfigError("a list has a ! with nothing behind it")
        if not word.startswith("/"):
            yield included, word
            continue
        if depth >= _FILE_DEPTH:
            raise ConfigError(f"{word}: files of match lists name each other more than {_FILE_DEPTH} deep")
        try:
            text = Path(word).read_text("utf-8", "surrogateescape")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{word}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        inner = [member for line in logical_lines(text) for member in split_words(line.text)]
        for inner_included, member in _members(inner, depth + 1):
            yield inner_included is included, member
