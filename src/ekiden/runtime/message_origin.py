"""Where a message came from, as its header tells: what a server knew of the client when it wrote its Received: field.

In:   the header of a message, as a file has it.
Out:  client, HELO name and sender, each with where it was read.
Never: is proof of anything: anybody can write such fields. It is for looking at one's own mail.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from ekiden.message.header_fields import fields

_FIELDS_READ = 20  # Received: fields, from the top
_VALUE_BYTES = 2000

_FOLD = re.compile(r"[ \t\r\n]+")
# RFC 5321 §4.4   From-domain = "FROM" FWS Extended-Domain: a word and a comment, as Postfix, sendmail, Exim, Exchange
# and the large services fill them.
_FROM = re.compile(r" ?from (\S+)(?: \(((?:[^()]|\([^()]*\))*)\))?", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f.:]+)\]", re.IGNORECASE)
_HELO = re.compile(r"\bhelo=(\S+)", re.IGNORECASE)
_PATH = re.compile(r"\s*<([^<>\s]*)>\s*")
# A host, and those that only its own network knows (RFC 1918, RFC 4193): a filter or a delivery agent, no stranger.
_INSIDE = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"),
    )
)


class HeaderOrigin(Struct, frozen=True):
    """What was found; "" is what was not. ``sender`` is None where no field tells it; "" is the null sender."""

    address: str = ""
    helo: str = ""
    received: int = 0  # which Received: field told, counted from the top; 0: none
    sender: str | None = None


def origin_of(header: bytes) -> HeaderOrigin:
    """The client of the topmost Received: field that names one from outside, or, without any, of the topmost at all."""
    outside = within = ("", "", 0)
    sender: str | None = None
    count = 0
    for field in fields(header):
        if field.name not in (b"return-path", b"received"):
            continue
        value = header[field.value : min(field.end, field.value + _VALUE_BYTES)].decode("utf-8", "replace")
        if field.name == b"return-path":
            path = _PATH.fullmatch(value)
            sender = path[1] if path is not None and sender is None else sender
        elif count < _FIELDS_READ and not outside[2]:
            count += 1
            address, helo = _client(_FOLD.sub(" ", value))
            if address and not _is_inside(address):
                outside = (address, helo, count)
            elif address and not within[2]:
                within = (address, helo, count)
    return HeaderOrigin(*(outside if outside[2] else within), sender)


def _is_inside(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in _INSIDE)


def _client(value: str) -> tuple[str, str]:
    """Address and HELO name; the address "" where the field names none."""
    found = _FROM.match(value)
    if found is None:
        return "", ""
    word, comment = found[1], found[2] or ""
    for text in (*_IN_BRACKETS.findall(comment), *_IN_BRACKETS.findall(word), comment.partition(" ")[0]):
        try:
            address = str(ipaddress.ip_address(text))
        except ValueError:
            continue
        named = _HELO.search(comment)  # Exim: what the client called itself, where that is not its name
        return address, named[1] if named is not None else word
    return "", ""
