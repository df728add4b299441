"""Mail addresses as values (RFC 5321 §4.1.2); the grammar that reads them is protocol.smtp.path."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from msgspec import Struct

# RFC 5321 §4.1.2   Dot-string = Atom *("." Atom);  atext: RFC 5322 §3.2.3;  RFC 6531 §3.3 adds non-ASCII.
_DOT_STRING = re.compile(
    r"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z\x80-\U0010ffff]+(?:\.[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z\x80-\U0010ffff]+)*"
)


class Address(Struct, frozen=True, cache_hash=True):
    """A mailbox: the local part as it is meant (quotes removed, case kept) and the domain as written.

    The null sender ``<>`` is ``Address("", "")``. An empty domain with a local part is a name of this
    host (``<postmaster>``, RFC 5321 §4.1.1.3). An address literal is kept in its brackets.
    """

    local: str
    domain: str = ""

    @property
    def is_null(self) -> bool:
        return not self.local and not self.domain

    @lru_cache(maxsize=1024)  # noqa: B019 - written several times for a message; most addresses come again
    def __str__(self) -> str:
        """The address on the wire and in the log, without angle brackets; the local part quoted where needed."""
        if not self.local:
            return f'""@{self.domain}' if self.domain else ""
        local = self.local if _DOT_STRING.fullmatch(self.local) is not None else quote_local(self.local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def key(self) -> str:
        """The form to compare: domain in lower case, local part as it is (RFC 5321 §2.4).

        Beyond ASCII it is composed (NFC, RFC 5198 §3): the same letters in other code points are the same name.
        """
        key = str(self) if not self.domain else str(Address(self.local, self.domain.lower()))
        return composed(key)


NULL_SENDER = Address("", "")


def composed(text: str) -> str:
    """``text`` with its letters composed (NFC, RFC 5198 §3), as names are compared; they travel as they came."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def quote_local(local: str) -> str:
    """``local`` as a quoted string (RFC 5321 §4.1.2)."""
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
