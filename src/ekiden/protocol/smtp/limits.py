"""How much a client may say: the limits of the SMTP server core (RFC 5321 §4.5.3.1)."""

from __future__ import annotations

from msgspec import Struct


class PathLimits(Struct, frozen=True):
    """Octets in the parts of an address.

    RFC 5321 §4.5.3.1.1 lets a server stop at 64 octets of local part, and asks it not to: bounce addresses that
    carry another address (VERP, SRS, BATV) are longer in practice, and Postfix takes them. So does the default here.
    Smaller values than those the RFC asks for may have no effect.
    """

    local_part_bytes: int = 256  # RFC 5321 §4.5.3.1.1: at least 64
    domain_bytes: int = 255  # RFC 5321 §4.5.3.1.2; labels are 63 by RFC 1035 §2.3.4
    path_bytes: int = 1024  # RFC 5321 §4.5.3.1.3: at least 256, with brackets and source route


RFC_PATH_LIMITS = PathLimits(local_part_bytes=64, domain_bytes=255, path_bytes=256)


class Limits(Struct, frozen=True):
    """Lines of content have no limit of their own: they are never held in memory (``size_limit`` bounds their sum)."""

    command_line_bytes: int = 2048  # with its line end; RFC 5321 §4.5.3.1.4: at least 512, extensions add to it
    auth_line_bytes: int = 12288  # of AUTH and what follows it, with the line end; RFC 4954 §4 sets it
    helo_bytes: int = 512  # RFC 5321 §4.5.3.1.2: at least 255
    path: PathLimits = PathLimits()
    refused_chunk_bytes: int = 104_857_600  # a refused BDAT of more octets ends the session instead of being read
