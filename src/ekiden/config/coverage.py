"""What becomes of each parameter of Postfix: honoured, not needed, or not yet there.

Honoured is what a group of config/parameters declares, which always goes before the list of what is not needed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from functools import cache

from msgspec import Struct

from ekiden.config.expand import FUNCTIONS
from ekiden.config.postfix_names import not_needed, postfix_defaults
from ekiden.config.registry import Parameter
from ekiden.config.services import BUILT_IN
from ekiden.config.snapshot import Parameters

TRANSPORT_PATTERN = "transport"  # stands for the name of any transport in Postfix's manual
_INITIAL = "initial_destination_concurrency"  # the one whose default does not begin with default_
_TRANSPORTS = tuple(dict.fromkeys([TRANSPORT_PATTERN, "pipe", *(service.name for service in BUILT_IN)]))


class Status(enum.Enum):
    HONOURED = "honoured"
    NOT_NEEDED = "not needed"
    NOT_YET = "not yet"


class Coverage(Struct, frozen=True):
    honoured: tuple[str, ...]
    not_needed: dict[str, str]  # with the reasons
    not_yet: tuple[str, ...]


def coverage() -> Coverage:
    """Every name of Postfix in one of the three."""
    declared = Parameters.declared()
    found: dict[Status, list[str]] = {status: [] for status in Status}
    for name in sorted(postfix_defaults()):
        found[status_of(name, declared)].append(name)
    reasons = not_needed()
    return Coverage(
        tuple(found[Status.HONOURED]),
        {name: reasons[name] for name in found[Status.NOT_NEEDED]},
        tuple(found[Status.NOT_YET]),
    )


def status_of(name: str, declared: Mapping[str, Parameter[object]]) -> Status:
    """The status of a name of Postfix."""
    if name in declared or name in FUNCTIONS or parent_of(name, declared, _TRANSPORTS) is not None:
        return Status.HONOURED
    return Status.NOT_NEEDED if name in not_needed() else Status.NOT_YET


def parent_of(name: str, declared: Mapping[str, Parameter[object]], transports: Iterable[str]) -> str | None:
    """The parameter that ``TRANSPORT_what`` overrides for one transport: ``default_what`` or ``transport_what``."""
    for transport in transports:
        if name.startswith(f"{transport}_"):
            what = name.removeprefix(f"{transport}_")
            if what == _INITIAL:
                return what
            for parent in (f"default_{what}", f"{TRANSPORT_PATTERN}_{what}"):
                if parent in declared:
                    return parent
    return None


@cache
def transport_defaults() -> Mapping[str, str]:
    """What Postfix has for every transport: ``destination_recipient_limit`` and the like, with the defaults."""
    pattern = f"{TRANSPORT_PATTERN}_"
    known = postfix_defaults().items()
    # Other names that begin so (transport_maps) have a default of their own.
    return {name.removeprefix(pattern): text for name, text in known if name.startswith(pattern) and text[:1] == "$"}


def transport_default(name: str, transports: Iterable[str]) -> str | None:
    """Postfix's default of ``TRANSPORT_what`` for one of these transports; None for a name that is none."""
    for transport in transports:
        if name.startswith(f"{transport}_") and (what := name.removeprefix(f"{transport}_")) in transport_defaults():
            return transport_defaults()[what]
    return None
