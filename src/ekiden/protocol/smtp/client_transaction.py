"""One mail transaction as the client sees it: what it asks for, and how it ended for each recipient."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from ekiden.message.address import Address
from ekiden.message.reply import Reply


class Stage(enum.IntEnum):
    """What the client waits for: the reply to this. An IntEnum, because tables are indexed by it for every reply."""

    IDLE = 0  # nothing: ready for a transaction, or the session is over
    GREETING = 1
    EHLO = 2
    HELO = 3
    LHLO = 4
    RSET = 5
    MAIL = 6
    RCPT = 7
    DATA = 8
    CONTENT = 9  # it is the caller's turn to send the content
    END_OF_DATA = 10
    QUIT = 11
    STARTTLS = 12
    TLS = 13  # a handshake is under way: nothing that comes is SMTP
    AUTH = 14
    XFORWARD = 15


class Outcome(Struct, frozen=True):
    """The reply that decided a recipient, and what it answered."""

    stage: Stage
    reply: Reply


# Control characters anywhere, and in a domain also what would end the path, could smuggle a parameter or a command.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")
_FORBIDDEN_IN_DOMAIN = re.compile(r"[\x00-\x20\x7f<>]")


# What may stand unquoted where quoting is switched off: nothing that ends a path or begins another word.
_BARE_LOCAL = re.compile(r'[^\x00-\x20\x7f<>"\\@]+')


@lru_cache(maxsize=4096)
def wire_path(address: Address, *, quotes: bool = True) -> bytes | None:
    """``<address>`` (RFC 5321 §4.1.2), or None for an address that no command line can hold.

    Without ``quotes`` a local part stays bare although it must be quoted, as ``a..b``, if it holds neither blanks nor
    characters that quoting itself is made of. As with Address itself, most of those that are written come again.
    """
    if _FORBIDDEN_IN_DOMAIN.search(address.domain) is not None or _FORBIDDEN.search(address.local) is not None:
        return None
    if not quotes and address.domain and _BARE_LOCAL.fullmatch(address.local) is not None:
        return f"<{address.local}@{address.domain}>".encode("utf-8", "surrogateescape")
    return f"<{address}>".encode("utf-8", "surrogateescape")


class Transaction:
    """``outcomes`` has one place a recipient; None is a recipient that no reply has decided.

    ``sender`` and ``recipients`` are paths of wire_path(), each with its parameters behind it (client_parameters), but
    for those that the core adds: SIZE, BODY, SMTPUTF8. ``size`` is the content's in bytes, before dot-stuffing.
    ``smtputf8``: the message needs it for more than its paths. ``chunked``: the content goes by BDAT, which the server
    must offer; ``binary`` content goes as it is, and in no other way. ``content`` is all of it, where it is in memory:
    the core sends it when DATA is accepted, without a word to the caller. With ``early`` it is so small that it may be
    sent before the server has said whether it wants it: chunked, it goes with the first burst where that is allowed.
    ``preface`` are XFORWARD commands to say before MAIL; what the server says to them decides nothing.
    """

    __slots__ = (
        "accepted", "binary", "chunked", "content", "early", "eight_bit", "next", "outcomes", "preface", "prefaced",
        "recipients", "refused", "sender", "size", "smtputf8",
    )  # fmt: skip

    def __init__(
        self, sender: bytes, recipients: Sequence[bytes], *, size: int, eight_bit: bool = False, smtputf8: bool = False,
        chunked: bool = False, binary: bool = False, content: bytes | None = None, early: bool = False,
        preface: tuple[bytes, ...] = (),
    ) -> None:  # fmt: skip
        self.sender = sender
        self.recipients = recipients
        self.size = size
        self.eight_bit = eight_bit
        self.chunked = chunked
        self.binary = binary
        self.preface = preface
        self.prefaced = 0  # how many of it have their answer
        self.content = content
        self.early = early and chunked and content is not None
        self.smtputf8 = smtputf8
        self.outcomes: list[Outcome | None] = [None] * len(recipients)
        self.accepted: list[int] = []  # recipients with a 2xx reply to RCPT that still wait for the end of data
        self.next = 0  # the recipient whose reply comes next
        self.refused = False  # MAIL was refused: what the server says to the rest of the burst decides nothing

    @property
    def needs_utf8(self) -> bool:
        """Its paths or its content need SMTPUTF8."""
        return self.smtputf8 or not self.sender.isascii() or not all(map(bytes.isascii, self.recipients))

    def decide_open(self, stage: Stage, reply: Reply) -> None:
        """One reply for all recipients that nothing has decided."""
        outcome = Outcome(stage, reply)
        self.outcomes[:] = [outcome if known is None else known for known in self.outcomes]
