"""Whose name a message bears: the domains of its From fields (RFC 9989 §5.3.1, RFC 5322 §3.6.2).

In:   the header as received, lines ended by CRLF; one that was taken apart already serves as well.
Out:  each domain once, in A-labels and lower case, in the order in which they come; UNREAD at the end where there are
      more than anybody means.
Never: raises; takes more than linear time.

A message should have one From field with one mailbox. What has more of them is read to the end, for a reader may be
shown any of them: several fields, several mailboxes, groups, comments, addresses that lack a comma between them.
Display names are not addresses, whatever they look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.dns.name import host_name
from ekiden.message.address_list import parse_addresses

SPELLINGS_LIMIT = 50  # of domains that are looked at, right or wrong
TOKENS_LIMIT = 10_240  # words and signs of one field
UNREAD = ""  # in the place of a domain

_NO_FIELD = re.compile(rb"\n(?![ \t]).*", re.DOTALL)  # what follows the lines of a field up to the next
# What nearly all messages have: a name of plain words or in quotes, and one address. The general way finds the same.
_PLAIN = re.compile(
    rb'[ \t]*(?:(?:"[^"\\\r\n]*"|[A-Za-z0-9 =?_\-\']*)[ \t]*<[A-Za-z0-9+_=.\-]+@([A-Za-z0-9.\-]+)>'
    rb"|[A-Za-z0-9+_=.\-]+@([A-Za-z0-9.\-]+))[ \t]*\r?\n?"
)


# The same authors write again and again, each with the one field that a message should have.
_REMEMBERED = 1024
_REMEMBERED_OCTETS = 256


def author_domains(header: bytes | SignableHeader) -> tuple[str, ...]:
    """Empty: there is no From field, or no address with a domain in it."""
    if isinstance(header, bytes):
        header = SignableHeader(header)
    fields = header.named(b"from")
    if len(fields) == 1 and len(fields[0].value) <= _REMEMBERED_OCTETS:
        return _domains_of_one(fields[0].value)
    return _domains_of([field.value for field in fields])


def _domains_of(values: Iterable[bytes]) -> tuple[str, ...]:
    spellings: set[str] = set()
    found: dict[str, None] = {}
    for value in values:
        domains, all_read = _domains(value)
        for domain in domains:
            if domain in spellings:
                continue
            if len(spellings) == SPELLINGS_LIMIT:
                return (*found, UNREAD)
            spellings.add(domain)
            # An address literal or what is no name has no owner to ask (RFC 5321 §4.1.3).
            name = host_name(domain)
            if name is not None:
                found[name] = None
        if not all_read:
            return (*found, UNREAD)
    return tuple(found)


@lru_cache(_REMEMBERED)
def _domains_of_one(value: bytes) -> tuple[str, ...]:
    return _domains_of((value,))


def _domains(value: bytes) -> tuple[list[str], bool]:
    """As they are written, and whether the value was read to its end."""
    plain = _PLAIN.fullmatch(value)
    if plain is not None:
        return [(plain[1] or plain[2]).decode("ascii")], True
    value = _NO_FIELD.sub(b"", value)
    addresses = parse_addresses(value, token_limit=TOKENS_LIMIT)
    all_read = addresses.read == len(value)
    # Where reading ended, it may have ended within an address.
    mailboxes = addresses.mailboxes if all_read else addresses.mailboxes[:-1]
    return [mailbox.domain for mailbox in mailboxes if mailbox.has_domain], all_read
