"""The addresses that this host receives mail on (inet_interfaces, proxy_interfaces), to know its own MX records.

Linux tells its addresses in /proc; elsewhere only what is written in the parameters and the loopback is known.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ekiden.route.next_hop import ip_address

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_LOCAL_IPV4 = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


def own_addresses(
    inet_interfaces: Sequence[str], proxy_interfaces: Sequence[str] = (), *, proc: Path = Path("/proc/net")
) -> frozenset[str]:
    """Addresses as text in their usual form. Names in the parameters are looked up as the system does (may block)."""
    found: set[str] = set()
    for word in inet_interfaces:
        if word == "all":
            found |= _LOOPBACK | set(_ipv4_addresses(proc)) | set(_ipv6_addresses(proc))
        elif word == "loopback-only":
            found |= _LOOPBACK
        else:
            found |= _addresses_of(word)
    for word in proxy_interfaces:
        found |= _addresses_of(word)
    return frozenset(found)


def _addresses_of(word: str, resolve: Callable[..., Iterable[tuple[object, ...]]] = socket.getaddrinfo) -> set[str]:
    literal = ip_address(word.strip("[]"))
    if literal is not None:
        return {literal}
    try:
        return {str(info[4][0]) for info in resolve(word, None, type=socket.SOCK_STREAM)}  # type: ignore[index]
    except (OSError, UnicodeError):
        return set()


def _ipv4_addresses(proc: Path) -> list[str]:
    """/proc/net/fib_trie: every ``/32 host LOCAL`` leaf is an address of this host."""
    return _LOCAL_IPV4.findall(_read(proc / "fib_trie"))


def _ipv6_addresses(proc: Path) -> list[str]:
    """/proc/net/if_inet6: 32 hexadecimal digits begin each line."""
    found = []
    for line in _read(proc / "if_inet6").splitlines():
        try:
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line[:32])))
        except (OSError, ValueError):
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
