"""The ways into the queue, as far as cleanup minds: which of its steps a message that comes there gets."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from msgspec import Struct


class HeaderSource(enum.StrEnum):
    """Who wrote the header (ADDRESS_REWRITING_README)."""

    LOCAL = "local"  # a client of local_header_rewrite_clients, or the sendmail command
    REMOTE = "remote"  # any other client
    OWN = "own"  # this server: what it forwards has been through cleanup, what it composes needs none


class Way(Struct, frozen=True):
    header: HeaderSource
    maps: bool = True  # canonical, masquerade, virtual alias
    copies: bool = True  # always_bcc, sender_bcc_maps, recipient_bcc_maps
    checks: bool = True  # characters that are stripped or refused

    @staticmethod
    def of_client(header: HeaderSource, options: Sequence[str]) -> Way:
        """The way of mail from outside; ``options`` are receive_override_options."""
        maps = "no_address_mappings" not in options
        return Way(header, maps=maps, copies=maps, checks="no_header_body_checks" not in options)


# Forwarded mail and notifications: addresses are mapped, but copies would breed copies (postconf(5) always_bcc).
INTERNAL = Way(HeaderSource.OWN, copies=False, checks=False)
