"""What a server offers: its answer to EHLO or LHLO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from ekiden.message.reply import Reply


class Limits(Struct, frozen=True):
    """LIMITS (RFC 9422 §4); 0: the server names none."""

    recipients: int = 0  # RCPTMAX: RCPT commands of one transaction
    transactions: int = 0  # MAILMAX: MAIL commands of one session
    domains: int = 0  # RCPTDOMAINMAX: different domains of recipients in one session


class Extensions(Struct, frozen=True):
    """``keywords`` holds everything offered: keyword in upper case to its parameters as written."""

    name: str = ""  # as the server calls itself
    keywords: Mapping[str, str] = {}
    pipelining: bool = False  # RFC 2920
    eight_bit_mime: bool = False  # RFC 6152
    smtputf8: bool = False  # RFC 6531
    size: bool = False  # RFC 1870
    size_limit: int = 0  # the largest message that the server takes; 0: it names none
    starttls: bool = False  # RFC 3207
    mechanisms: tuple[str, ...] = ()  # of AUTH (RFC 4954 §3), in upper case, as the server orders them
    chunking: bool = False  # RFC 3030 §2
    binary_mime: bool = False  # RFC 3030 §3, of use with CHUNKING only
    dsn: bool = False  # RFC 3461
    deliver_by: bool = False  # RFC 2852
    least_by_s: int = 0  # the shortest time that DELIVERBY takes in mode R; 0: any
    mt_priority: bool = False  # RFC 6710
    require_tls: bool = False  # RFC 8689
    limits: Limits = Limits()


_MAX_SIZE_DIGITS = 20  # RFC 1870 §4
_NO_LIMITS = Limits()


def extensions_of(reply: Reply, discard: Collection[str] = ()) -> Extensions:
    """``discard`` are keywords in upper case that are not to be used."""
    keywords: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):  # as servers wrote it before there was an RFC
            keyword, parameters = "AUTH", f"{keyword.removeprefix('AUTH=')} {parameters}"
        if keyword == "AUTH" and keyword in keywords:
            parameters = f"{keywords[keyword]} {parameters}"
        if keyword and keyword not in discard:
            keywords[keyword] = parameters.strip()
    return Extensions(
        name=server_name(reply),
        keywords=keywords,
        pipelining="PIPELINING" in keywords,
        eight_bit_mime="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        size="SIZE" in keywords,
        starttls="STARTTLS" in keywords,
        mechanisms=tuple(dict.fromkeys(keywords["AUTH"].upper().split())) if "AUTH" in keywords else (),
        size_limit=_number(keywords.get("SIZE", "")),
        chunking="CHUNKING" in keywords,
        binary_mime="BINARYMIME" in keywords and "CHUNKING" in keywords,
        dsn="DSN" in keywords,
        deliver_by="DELIVERBY" in keywords,
        least_by_s=_number(keywords.get("DELIVERBY", "")),
        mt_priority="MT-PRIORITY" in keywords,
        require_tls="REQUIRETLS" in keywords,
        limits=_limits(keywords["LIMITS"]) if "LIMITS" in keywords else _NO_LIMITS,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_SIZE_DIGITS else 0


def _limits(text: str) -> Limits:
    """``RCPTMAX=20 MAILMAX=5``; names that are not known, and values that are no numbers, say nothing (RFC 9422 §4)."""
    found = dict(word.upper().partition("=")[::2] for word in text.split())
    return Limits(
        _number(found.get("RCPTMAX", "")), _number(found.get("MAILMAX", "")), _number(found.get("RCPTDOMAINMAX", ""))
    )


def server_name(reply: Reply) -> str:
    """The name at the start of a greeting or of the answer to EHLO."""
    return reply.lines[0].strip().partition(" ")[0]
