"""``$name`` expansion in parameter values (postconf(5), "main.cf configuration parameters")."""

from __future__ import annotations

import re
from collections.abc import Callable

_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\}|\(([A-Za-z0-9_]+)\))")

# What one value may cost. Far beyond any real configuration; without them ten short lines could fill the memory.
REFERENCE_LIMIT = 10_000
DEPTH_LIMIT = 100
LENGTH_LIMIT = 1_048_576


class ExpansionError(ValueError):
    """A reference that leads nowhere, back to itself, or without end."""


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """``text`` with every ``$name``, ``${name}``, ``$(name)`` replaced by its value, itself expanded.

    ``$$`` is a dollar.

    ``lookup`` gives a parameter's raw text, or None when there is no such parameter. Raises ExpansionError.
    """
    return _Expansion(lookup).expand(text) if "$" in text else text


def references(text: str) -> list[str]:
    """The names that ``text`` refers to."""
    return [name for groups in _REFERENCE.findall(text) for name in groups if name]


class _Expansion:
    def __init__(self, lookup: Callable[[str], str | None]) -> None:
        self._lookup = lookup
        self._inside: list[str] = []
        self._references = 0
        self._length = 0

    def expand(self, text: str) -> str:
        return _REFERENCE.sub(self._value, text) if "$" in text else text

    def _value(self, found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        if name is None:
            return "$"
        if name in self._inside:
            raise ExpansionError(f"${name} refers to itself through {' -> '.join((*self._inside, name))}")
        raw = self._lookup(name)
        if raw is None:
            raise ExpansionError(f"there is no parameter ${name}")
        self._references += 1
        if self._references > REFERENCE_LIMIT or len(self._inside) >= DEPTH_LIMIT:
            raise ExpansionError(f"${name} refers to too many others")
        self._inside.append(name)
        value = self.expand(raw)
        self._inside.pop()
        self._length += len(value)
        if self._length > LENGTH_LIMIT:
            raise ExpansionError(f"${name} makes the value longer than {LENGTH_LIMIT} characters")
        return value
