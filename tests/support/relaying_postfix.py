"""Debian's Postfix on a loopback port, which relays all that it takes to one next hop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from support.peers import running_postfix


@contextlib.contextmanager
def relaying_postfix(next_hop: str, main_cf: Mapping[str, str]) -> Iterator[int]:
    """Its port. ``main_cf`` goes before what every instance has."""
    with running_postfix(main_cf, next_hop=next_hop) as postfix:
        yield postfix.port
