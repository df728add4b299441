"""Domain names and senders as SPF takes them: what can be asked for, in which form, and how reasons show them."""

from __future__ import annotations

import re
from functools import lru_cache

from ekiden.dns.name import LABEL_OCTETS_LIMIT, NAME_OCTETS_LIMIT, dns_name

_SHOWN_CHARACTERS = 200
_LABEL = f"[^.]{{1,{LABEL_OCTETS_LIMIT}}}"
_LABELS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_UNSHOWN = re.compile(r"[^ -~]")


# The same names come again and again: of a host's many clients, of a client's HELO and sender.
_REMEMBERED = 1024


@lru_cache(_REMEMBERED)
def a_labels(name: str) -> str:
    """``name`` in A-labels and lower case, without a trailing dot (RFC 7208 §4.3); as it is where it has none."""
    if not name.isascii():
        name = dns_name(name) or name
    return name.lower().removesuffix(".")


@lru_cache(_REMEMBERED)
def query_name(name: str) -> str | None:
    """The name to ask for; None where no such name can exist (RFC 7208 §4.3).

    Blanks and the like, which macros bring, are for the resolver to judge. A local part beyond ASCII matches no name
    (RFC 8616 §4).
    """
    name = name.removesuffix(".")
    if not name.isascii() or len(name) > NAME_OCTETS_LIMIT or _LABELS.fullmatch(name) is None:
        return None
    return name.lower()


def splits(sender: str) -> tuple[str, str]:
    """Local part and domain; without "@" it is a name of this host (``<postmaster>``, RFC 5321 §4.1.1.3)."""
    local, at, domain = sender.rpartition("@")
    return (local, domain) if at else (sender, "")


def shown(text: str) -> str:
    """What a stranger wrote, for a reason: printable ASCII, of bounded length."""
    if len(text) > _SHOWN_CHARACTERS:
        text = text[:_SHOWN_CHARACTERS] + "..."
    return _UNSHOWN.sub("?", text)
