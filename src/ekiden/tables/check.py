"""Looks over what a configuration lists: tables that do not open, lists that cannot be used, and relays open to all.

Part of ``ekiden check``, beside config.check, which cannot know tables.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.problem import Level, Problem
from ekiden.config.registry import AliasTables, Clients, Domains, Tables
from ekiden.config.snapshot import Parameters
from ekiden.tables.match import DomainList, client_list
from ekiden.tables.open import FILE_TYPES, is_table, open_table
from ekiden.tables.questions import RIGHTS, refuse_unauthenticated
from ekiden.tables.table import Table, TableTrouble

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Networks that no stranger has an address in (RFC 1918, RFC 6598, RFC 4193, loopback, link-local).
_PRIVATE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
# More addresses of the Internet than this, and mynetworks is hardly one's own networks: an IPv4 /8, an IPv6 /24.
_WIDE = {4: 2**24, 6: 2**104}


def check_tables(configuration: Configuration) -> list[Problem]:
    """Problems of tables, domain lists and network lists, in main.cf and in the -o options of master.cf."""
    found = list(_of_parameters(configuration.parameters, {n: configuration.place(n) for n in configuration.settings}))
    for service in configuration.services:
        if service.overrides:
            place = (configuration.master_cf, service.line)
            found += _of_parameters(configuration.parameters_of(service), dict.fromkeys(service.overrides, place))
    return found


def _of_parameters(parameters: Parameters, places: Mapping[str, tuple[str, int]]) -> Iterator[Problem]:
    """Problems of the lists among the names that are set; ``places`` has where each is."""
    declared = parameters.declared()
    for name, place in places.items():
        kind = declared.get(name)
        opener = partial(_open_trusted if name in RIGHTS else open_table, parameters=parameters)
        if isinstance(kind, Clients):
            found = _clients(name, parameters, opener)
        elif isinstance(kind, Domains):
            found = _domains(name, getattr(parameters, name), opener)
        elif isinstance(kind, AliasTables):
            found = _aliases(getattr(parameters, name), partial(opener, aliases=True))
        elif isinstance(kind, Tables):
            # local_recipient_maps names alias_maps, whose text has a form of its own.
            found = _maps([word for word in getattr(parameters, name) if word not in parameters.alias_maps], opener)
        else:
            continue
        yield from (Problem(*(own or place), level, f"{name}: {text}") for level, text, own in found)


Opener = Callable[[str], Table]
Finding = tuple[Level, str, tuple[str, int] | None]


def _open_trusted(word: str, *, parameters: Parameters, aliases: bool = False) -> Table:
    refuse_unauthenticated(word)
    return open_table(word, parameters=parameters, aliases=aliases)


def _maps(words: Iterable[str], opener: Opener) -> Iterator[Finding]:
    for word in words:
        yield from _table(word, opener)


def _aliases(words: Iterable[str], opener: Opener) -> Iterator[Finding]:
    """Every host has alias_maps by default, and not every host has the file: that it lacks is no error."""
    for word in words:
        kind, _, path = word.partition(":")
        if kind in FILE_TYPES and not os.path.exists(path):
            yield Level.WARNING, f"{word}: there is no such file", None
        else:
            yield from _table(word, opener)


def _table(word: str, opener: Opener) -> Iterator[Finding]:
    try:
        found = opener(word).check()
    except ConfigError as error:
        yield Level.ERROR, error.text, (error.file, error.line) if error.file else None
    except TableTrouble as trouble:
        yield Level.ERROR, str(trouble), None
    else:
        for finding in found:
            yield Level.WARNING, finding.text, (finding.file, finding.line)


def _domains(name: str, words: Sequence[str], opener: Opener) -> Iterator[Finding]:
    try:
        DomainList(words, opener=opener)
    except ConfigError as error:
        yield Level.ERROR, error.text, (error.file, error.line) if error.file else None
        return
    everything = "every domain of the world would be taken for one of this host"
    if name == "relay_domains":
        everything = "OPEN RELAY: this host would relay mail of anybody to anybody"
    yield from _member_tables(words, opener, everything)


def _member_tables(words: Sequence[str], opener: Opener, everything: str) -> Iterator[Finding]:
    """The tables among the members of a match list. ``everything``: what it means that a table has every key."""
    for word in words:
        bare = word.lstrip("!")
        if not is_table(bare) or _is_network(bare):
            continue
        yield from _table(bare, opener)
        if word.startswith("static:"):
            yield Level.ERROR, f"{word} holds everything: {everything}", None


def _is_network(word: str) -> bool:
    """IPv6 without brackets looks like a table."""
    try:
        ipaddress.ip_network(word)
    except ValueError:
        return False
    return True


def _clients(name: str, parameters: Parameters, opener: Opener) -> Iterator[Finding]:
    words: Sequence[str] = getattr(parameters, name)
    try:
        networks = client_list(parameters, name).networks()
    except ConfigError as error:
        yield Level.ERROR, error.text, (error.file, error.line) if error.file else None
        return
    if name != "mynetworks":
        yield from _member_tables([word for word in words if not word.startswith("static:")], opener, "")
        return
    yield from _member_tables(words, opener, "OPEN RELAY: this host would relay mail of anybody to anybody")
    included = [network for is_in, network in networks if is_in]
    for everything in (network for network in included if network.prefixlen == 0):
        text = f"OPEN RELAY: {everything} is the whole Internet, and all that is in mynetworks may send mail anywhere"
        yield Level.ERROR, f"{text}; write the networks of your own hosts", None
    if all(network.prefixlen for network in included):
        for version, limit in _WIDE.items():
            count = _public_addresses(network for network in included if network.version == version)
            if count >= limit:
                text = f"{count:,} addresses of the Internet (IPv{version}) may relay through this host"
                yield Level.WARNING, f"nearly an open relay: {text}; write the networks of your own hosts", None


def _public_addresses(networks: Iterable[Network]) -> int:
    """How many addresses the networks hold together, private ones left out."""
    public = [network for network in networks if not any(_inside(network, private) for private in _PRIVATE)]
    # All are of one version, which the type of collapse_addresses cannot say for a union.
    return sum(network.num_addresses for network in ipaddress.collapse_addresses(public))  # type: ignore[type-var,misc]


def _inside(network: Network, other: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and network.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and network.subnet_of(other)
