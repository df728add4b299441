"""SRV records (RFC 2782): which server of a service is tried when."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import groupby

from ekiden.dns.resolver import Srv


def srv_name(service: str, domain: str) -> str:
    """``_submission._tcp.example.com``."""
    return f"_{service}._tcp.{domain}"


def in_order(records: Iterable[Srv], rng: random.Random) -> list[Srv]:
    """By priority; among equals at random, as often first as the weight says (RFC 2782, "Weight")."""
    ordered: list[Srv] = []
    for _, group in groupby(sorted(records, key=_priority), key=_priority):
        left = sorted(group, key=_weight)  # those of weight 0 have a small chance of being first, if they stand first
        while left:
            at = rng.randint(0, sum(record.weight for record in left))
            chosen = 0
            while (at := at - left[chosen].weight) > 0:
                chosen += 1
            ordered.append(left.pop(chosen))
    return ordered


def _priority(record: Srv) -> int:
    return record.priority


def _weight(record: Srv) -> int:
    return record.weight
