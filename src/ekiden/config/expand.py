"""``$name`` expansion in parameter values (postconf(5), "main.cf configuration parameters")."""

from __future__ import annotations

import re
from collections.abc import Callable

_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\}|\(([A-Za-z0-9_]+)\))")


class ExpansionError(ValueError):
    """A reference that leads nowhere or back to itself."""


def expand(text: str, lookup: Callable[[str], str | None], *, _inside: tuple[str, ...] = ()) -> str:
    """``text`` with every ``$name``, ``${name}``, ``$(name)`` replaced by its value, itself expanded.

    ``$$`` is a dollar.

    ``lookup`` gives a parameter's raw text, or None when there is no such parameter.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        if name is None:
            return "$"
        if name in _inside:
            raise ExpansionError(f"${name} refers to itself through {' -> '.join((*_inside, name))}")
        raw = lookup(name)
        if raw is None:
            raise ExpansionError(f"there is no parameter ${name}")
        return expand(raw, lookup, _inside=(*_inside, name))

    return _REFERENCE.sub(value, text) if "$" in text else text
