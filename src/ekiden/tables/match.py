"""Match lists (postconf(5)): domains and clients, with ``!`` to exclude, files and tables as members.

The first member that fits decides. Members are already expanded and split words.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from ekiden.config.errors import ConfigError
from ekiden.config.lines import logical_lines
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.dns.name import spellings
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


def subdomains_of(name: str, parents: Collection[str]) -> Subdomains:
    """What the list ``name`` has it as, by parent_domain_matches_subdomains."""
    return Subdomains.ALWAYS if name in parents else Subdomains.DOTTED


class DomainList:
    """Domains, compared without regard to case and to the form of their labels (A or U).

    Raises ConfigError for a member that cannot be used.
    """

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
            bare = word.lstrip(".")
            names.update(word[: len(word) - len(bare)] + spelling.lower() for spelling in spellings(bare))

    def __bool__(self) -> bool:
        return bool(self._steps)

    async def matches(self, domain: str) -> bool:
        """Whether the list holds ``domain`` (without a dot at its end). Raises TableTrouble."""
        domain = domain.lower()
        wholes = spellings(domain)
        keys: Sequence[str] | None = None
        for included, step in self._steps:
            if isinstance(step, set) and domain in step:
                return included
            if self._subdomains is Subdomains.NEVER:
                keys = wholes
            elif keys is None:
                keys = [key for whole in wholes for key in domain_keys(whole, dotted=self._dotted)]
            if isinstance(step, set):
                if not step.isdisjoint(keys):
                    return included
                continue
            if await _in_table(step, wholes, keys):
                return included
        return False


async def _in_table(table: Table, wholes: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether the table has one of the keys, of which pattern tables see the whole ones only. Raises TableTrouble."""
    for key in wholes if table.whole_keys else keys:
        if await table.lookup(key) is not None:
            return True
    return False


class ClientList:
    """Clients by address and by name: mynetworks and the like. Raises ConfigError for a member that is neither.

    Members are networks and addresses, host names (as in DomainList), and tables, which are asked for the name and its
    parents and for the address (not for the networks that it is in; a cidr: table has those).
    """

    __slots__ = ("_dotted", "_known", "_members", "_steps", "_subdomains")

    def __init__(
        self,
        words: Sequence[str],
        *,
        subdomains: Subdomains = Subdomains.DOTTED,
        opener: Callable[[str], Table] = open_table,
    ) -> None:
        self._subdomains = subdomains
        self._dotted = subdomains is Subdomains.DOTTED
        self._members: list[tuple[bool, Network]] = []
        self._steps: list[tuple[bool, _Range | str | Table]] = []
        for included, word in _members(words):
            member = _client_member(word, opener)
            if isinstance(member, ipaddress.IPv4Network | ipaddress.IPv6Network):
                self._members.append((included, member))
                self._steps.append((included, (member.version, int(member.network_address), int(member.netmask))))
            else:
                self._steps.append((included, member))
        # Answers by address and name, as long as no table is among the members, which may change.
        self._known: dict[tuple[str, str], bool] | None = {}
        if any(isinstance(step, Table) for _, step in self._steps):
            self._known = None

    def __bool__(self) -> bool:
        return bool(self._steps)

    @property
    def is_fixed(self) -> bool:
        """Whether a client that is in it, or is not, stays so: no table is among the members."""
        return self._known is not None

    async def matches(self, address: str, name: str = "unknown") -> bool:
        """Whether a client is in the list: its address (as text, IPv6 without brackets), its verified name.

        A client without a name is "unknown". Raises TableTrouble.
        """
        if not self._steps:
            return False
        if self._known is None:
            return await self._search(address, name)
        found = self._known.get((address, name))
        if found is None:
            found = await self._search(address, name)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address, name] = found
        return found

    async def _search(self, address: str, name: str) -> bool:
        name = name.lower()
        version, number, shown = _parsed_address(address)
        if self._subdomains is Subdomains.NEVER:
            names: Sequence[str] = (name,)
        else:
            names = domain_keys(name, dotted=self._dotted)
        for included, step in self._steps:
            if isinstance(step, tuple):
                if step[0] == version and number & step[2] == step[1]:
                    return included
            elif isinstance(step, str):
                if step in names:
                    return included
            elif await _in_table(step, names[:1], names) or await step.lookup(shown) is not None:
                return included
        return False

    def networks(self) -> list[tuple[bool, Network]]:
        """The networks and addresses in their order, with whether they include."""
        return list(self._members)


def client_list(parameters: Parameters, name: str) -> ClientList:
    """The list that a parameter is (mynetworks and its like). Raises ConfigError."""
    subdomains = subdomains_of(name, parameters.parent_domain_matches_subdomains)
    words: Sequence[str] = getattr(parameters, name)
    return ClientList(words, subdomains=subdomains, opener=partial(open_table, parameters=parameters))


# IP version, first address and mask as numbers.
_Range = tuple[int, int, int]


def _parsed_address(address: str) -> tuple[int, int, str]:
    """Version, number and text of an address; version 0 for what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return 0, 0, address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.version, int(parsed), str(parsed)


_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_\u0080-\U0010ffff](?:[A-Za-z0-9_.\-\u0080-\U0010ffff]*)")


def _client_member(word: str, opener: Callable[[str], Table]) -> Network | str | Table:
    """Raises ConfigError."""
    if is_table(word) and not word.startswith("["):
        try:
            return ipaddress.ip_network(word)  # IPv6 without brackets looks like a table
        except ValueError:
            return opener(word)
    if _HOST_NAME.fullmatch(word) and not word.replace(".", "").isdigit():
        return word.lower()
    return parse_network(word)


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
