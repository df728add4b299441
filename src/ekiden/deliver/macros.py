"""``$name`` in the values that local(8) expands for each delivery; the language is that of main.cf (config.expand).

In:   a template; values by name; the characters that values may bring in.
Out:  the text, and whether a name that has no value was asked for.
Never: expands what a value holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ekiden.config.expand import expand


class Expanded(Struct, frozen=True):
    text: str
    is_whole: bool  # every name that was used had a value


def expand_macros(template: str, values: Mapping[str, str], *, allowed: str | None = None) -> Expanded:
    """Expand; characters of values that are not in ``allowed`` become underscores. Raises ExpansionError (ValueError).

    A value that is empty counts as none.
    """

    def lookup(name: str) -> str | None:
        value = values.get(name, "")
        return (value if allowed is None else filtered(value, allowed)) or None

    missing: set[str] = set()
    text = expand(template, lookup, recursive=False, missing=missing)
    return Expanded(text, not missing)


def filtered(value: str, allowed: frozenset[str] | str) -> str:
    return "".join(char if char in allowed else "_" for char in value)
