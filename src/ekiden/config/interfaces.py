"""The addresses of this host and their networks, as the kernel knows them (rtnetlink(7)), for mynetworks_style."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_REQUEST = struct.Struct("=IHHIIBBHI")  # nlmsghdr, ifaddrmsg
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_NEW_ADDRESS, _GET_ADDRESS, _DONE, _ERROR = 20, 22, 3, 2
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

LOOPBACK = ("127.0.0.0/8", "[::1]/128")


def own_interfaces() -> tuple[Interface, ...]:
    """Every address of this host. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.settimeout(5)
        kernel.send(_REQUEST.pack(_REQUEST.size, _GET_ADDRESS, _DUMP, 1, 0, socket.AF_UNSPEC, 0, 0, 0))
        found: list[Interface] = []
        while True:
            packet = kernel.recv(65536)
            found += parse_addresses(packet)
            if _is_last(packet):
                return tuple(found)


def parse_addresses(packet: bytes) -> Iterator[Interface]:
    """The addresses in one answer of the kernel."""
    for kind, body in _messages(packet):
        if kind != _NEW_ADDRESS or len(body) < _ADDRESS.size:
            continue
        family, length, _, _, _ = _ADDRESS.unpack_from(body)
        attributes = dict(_attributes(body[_ADDRESS.size :]))
        # On a link between two hosts IFA_ADDRESS is the other one's.
        address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
        if family == socket.AF_INET and address is not None and len(address) == 4:
            yield ipaddress.IPv4Interface((address, length))
        elif family == socket.AF_INET6 and address is not None and len(address) == 16:
            yield ipaddress.IPv6Interface((address, length))


def networks_of_style(style: str, interfaces: Iterable[Interface]) -> tuple[str, ...]:
    """mynetworks for a mynetworks_style (postconf(5)): this host alone, its subnets, or the classes of these."""
    networks = dict.fromkeys(LOOPBACK)
    for interface in interfaces:
        if not interface.ip.is_loopback:
            networks[_network(style, interface)] = None
    return tuple(networks)


def _network(style: str, interface: Interface) -> str:
    if style == "host":
        network = type(interface)((interface.ip, interface.max_prefixlen)).network
    elif style == "class" and isinstance(interface, ipaddress.IPv4Interface):
        first = interface.ip.packed[0]
        # Classes A, B and C (RFC 791 §3.2); nothing beyond them has hosts.
        length = 8 if first < 128 else 16 if first < 192 else 24 if first < 224 else 32
        network = ipaddress.IPv4Interface((interface.ip, length)).network
    else:
        network = interface.network
    address, _, bits = str(network).partition("/")
    return f"[{address}]/{bits}" if network.version == 6 else f"{address}/{bits}"


def _messages(packet: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(packet):
        length, kind, _, _, _ = _HEADER.unpack_from(packet, at)
        if length < _HEADER.size or at + length > len(packet):
            return
        yield kind, packet[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size or at + length > len(body):
            return
        yield kind, body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _is_last(packet: bytes) -> bool:
    """Whether the answer ends with this packet. Raises OSError for the kernel's refusal."""
    for kind, body in _messages(packet):
        if kind == _ERROR and len(body) >= 4:
            (number,) = struct.unpack_from("=i", body)
            raise OSError(-number, "the kernel does not list the addresses of this host")
        if kind == _DONE:
            return True
    return False
