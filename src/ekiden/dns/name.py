"""Domain names as text: which can be asked for, which may be the name of a host (RFC 1035 §2.3.1, RFC 5891).

In:   a name as mail or DNS wrote it, in U-labels (``bücher.example``) or A-labels, with or without a trailing dot.
Out:  the name in A-labels and lower case, without a trailing dot; or None.
Never: raises for a hostile name.
"""

from __future__ import annotations

import re
from functools import lru_cache

NAME_OCTETS_LIMIT = 253  # RFC 1035 §3.1: 255 on the wire, which is 253 as text
LABEL_OCTETS_LIMIT = 63

# Names of policies and keys hold "_"; names that SPF macros make hold almost anything. A backslash would
# begin an escape in the resolver library's text form, and blanks and controls have no business in mail.
_ASKABLE = re.compile(r"[!-\[\]-~]+")
# RFC 1123 §2.1 letters, digits and hyphen; "_" is wrong in host names and alive on the Internet.
_HOST = re.compile(r"[0-9a-z_](?:[0-9a-z_-]{0,61}[0-9a-z_])?(?:\.[0-9a-z_](?:[0-9a-z_-]{0,61}[0-9a-z_])?)*")


@lru_cache(maxsize=8192)
def dns_name(name: str) -> str | None:
    """The form in which ``name`` is asked for, or None when no such name can exist. "" is the root."""
    # Nothing near this long becomes valid; IDNA work must not grow with what a peer sends.
    if len(name) > 4 * NAME_OCTETS_LIMIT:
        return None
    if name.isascii():
        ascii_name = name.removesuffix(".").lower()
    else:
        converted = _to_a_labels(name)
        if converted is None:
            return None
        ascii_name = converted
    if not ascii_name:
        return "" if name == "." else None
    if len(ascii_name) > NAME_OCTETS_LIMIT or _ASKABLE.fullmatch(ascii_name) is None:
        return None
    if any(not label or len(label) > LABEL_OCTETS_LIMIT for label in ascii_name.split(".")):
        return None
    return ascii_name


@lru_cache(maxsize=8192)
def spellings(domain: str) -> tuple[str, ...]:
    """``domain`` as it is written and, if it is internationalized, in A-labels and in U-labels (RFC 5890 §2.3.2).

    Tables and lists may have it in either form.
    """
    if domain.isascii() and "xn--" not in domain.lower():
        return (domain,)
    a_labels = dns_name(domain)
    if not a_labels:
        return (domain,)
    return tuple(dict.fromkeys((domain, a_labels, _to_u_labels(a_labels))))


def host_name(name: str) -> str | None:
    """The form of ``name`` as a host's name, or None when it is none: odd characters, or an IP address."""
    ascii_name = dns_name(name)
    if not ascii_name or _HOST.fullmatch(ascii_name) is None:
        return None
    # A last label of digits only is an address in disguise, such as an MX record "192.0.2.1" (RFC 3696 §2).
    return None if ascii_name.rpartition(".")[2].isdigit() else ascii_name


def _to_a_labels(name: str) -> str | None:
    """RFC 5891 §4 with the mapping of UTS #46, so that ``BÜCHER.example`` is understood too."""
    import idna  # a few milliseconds of tables, for mail that has such names only

    try:
        return idna.encode(name.removesuffix("."), uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None


def _to_u_labels(name: str) -> str:
    """``name`` as people write it; as it is where it cannot be (RFC 5891 §5)."""
    import idna

    try:
        return idna.decode(name)
    except (idna.IDNAError, UnicodeError):
        return name
