"""Addresses in a message's header replaced in their places; all that is not an address stays as it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ekiden.message.address import Address
from ekiden.message.address_list import Mailbox, parse_addresses
from ekiden.message.header_fields import ADDRESS_FIELDS, SENDER_FIELDS, fields

# What an address of a header becomes, None for as it is; told whether its field names senders. Raises TableTrouble.
Rewrite = Callable[[Mailbox, bool], Awaitable[Address | None]]

_FIELDS_AT_ONCE = 100


async def rewrite_header(header: bytes, rewrite: Rewrite, *, token_limit: int) -> bytes:
    """The header with its addresses rewritten. Raises TableTrouble.

    Of a field with more than ``token_limit`` tokens that is rewritten, the rest is cut off, as in Postfix.
    """
    parts: list[bytes] = []
    done = seen = 0
    for field in fields(header):
        if field.name not in ADDRESS_FIELDS:
            continue
        seen += 1
        if seen % _FIELDS_AT_ONCE == 0:  # nobody writes so many; other sessions get their turn
            await asyncio.sleep(0)
        # The line end is no part of the value: a quoted string that is not closed must not swallow it.
        end = field.end - 2 if header.endswith(b"\r\n", field.value, field.end) else field.end
        value = header[field.value : end]
        rewritten = await _rewrite_value(value, rewrite, field.name in SENDER_FIELDS, token_limit)
        if rewritten is not value:
            parts += (header[done : field.value], rewritten)
            done = end
    return b"".join((*parts, header[done:])) if parts else header


async def _rewrite_value(value: bytes, rewrite: Rewrite, of_sender: bool, token_limit: int) -> bytes:
    listed = parse_addresses(value, token_limit=token_limit)
    renewed = [await rewrite(mailbox, of_sender) for mailbox in listed.mailboxes]
    if not any(address is not None for address in renewed):
        return value
    parts: list[bytes] = []
    done = 0
    for mailbox, address in zip(listed.mailboxes, renewed, strict=True):
        between = value[done : mailbox.start]
        if mailbox.follows_word:  # the words got domains: without a comma they would not be two addresses any more
            between = b"," + between
        parts.append(between)
        if address is None:
            parts.append(value[mailbox.start : mailbox.end])
        else:
            parts.append(str(address).encode("utf-8", "surrogateescape"))
            if mailbox.comments:
                parts.append(b" " + mailbox.comments)
        done = mailbox.end
    rest = value[done : listed.read]
    return b"".join(parts) + (rest if listed.read == len(value) else rest.rstrip(b" \t\r\n,"))
