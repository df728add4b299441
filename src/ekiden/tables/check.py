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
from ekiden.config.snapshot import Parameters
from ekiden.tables.match import ClientList, DomainList
from ekiden.tables.open import FILE_TYPES, is_table, open_table
from ekiden.tables.table import Table, TableTrouble

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Lists whose members are domains, and those whose members are networks. What ends in _maps holds tables.
_DOMAIN_LISTS = ("mydestination", "relay_domains", "virtual_alias_domains", "virtual_mailbox_domains")
_NETWORK_LISTS = ("mynetworks", "smtpd_client_event_limit_exceptions", "smtpd_forbid_bare_newline_exclusions")
# Words that such a list may hold beside tables.
# The users of this host, in local_recipient_maps.
_PASSWORD_WORDS = ("unix:passwd.byname", "proxy:unix:passwd.byname")

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
    opener = partial(open_table, parameters=parameters)
    for name, place in places.items():
        if name not in declared:
            continue
        words = getattr(parameters, name)
        if name in _NETWORK_LISTS:
            found = _networks(name, words)
        elif name in _DOMAIN_LISTS:
            found = _domains(name, words, opener)
        elif name == "alias_maps":
            found = _aliases(words, partial(opener, aliases=True))
        elif name.endswith("_maps"):
            found = _maps([word for word in words if word not in (*_PASSWORD_WORDS, *parameters.alias_maps)], opener)
        else:
            continue
        yield from (Problem(*(own or place), level, f"{name}: {text}") for level, text, own in found)


Opener = Callable[[str], Table]
Finding = tuple[Level, str, tuple[str, int] | None]


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
    for word in words:
        if not is_table(word):
            continue
        yield from _table(word, opener)
        if word.startswith("static:"):
            what = "OPEN RELAY: this host would relay mail of anybody to anybody" if name == "relay_domains" else ""
            what = what or "every domain of the world would be taken for one of this host"
            yield Level.ERROR, f"{word} holds every domain: {what}", None


def _networks(name: str, words: Sequence[str]) -> Iterator[Finding]:
    try:
        networks = ClientList(words).networks()
    except ConfigError as error:
        yield Level.ERROR, error.text, None
        return
    if name != "mynetworks":
        return
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
