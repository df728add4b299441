"""What a server offers: its answer to EHLO or LHLO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from ekiden.message.reply import Reply


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


_MAX_SIZE_DIGITS = 20  # RFC 1870 §4


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
    limit = keywords.get("SIZE", "")
    return Extensions(
        name=server_name(reply),
        keywords=keywords,
        pipelining="PIPELINING" in keywords,
        eight_bit_mime="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        size="SIZE" in keywords,
        size_limit=int(limit) if limit.isascii() and limit.isdigit() and len(limit) <= _MAX_SIZE_DIGITS else 0,
        starttls="STARTTLS" in keywords,
        mechanisms=tuple(dict.fromkeys(keywords["AUTH"].upper().split())) if "AUTH" in keywords else (),
    )


def server_name(reply: Reply) -> str:
    """The name at the start of a greeting or of the answer to EHLO."""
    return reply.lines[0].strip().partition(" ")[0]
