"""Lists of restrictions as main.cf has them, made into what the evaluator walks over.

In:   the words of a list; the classes that smtpd_restriction_classes names, with theirs.
Out:  RestrictionList. What Postfix knows and we do not do yet is left out of it, and told.
Errors: ConfigError, whose text begins with the parameter, for a name that is none and for an argument that is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.policy.restriction_names import ALL_NAMES, GONE, HONOURED, NOT_YET, NOT_YET_WITH_ARGUMENT, OLD_NAMES
from ekiden.tables.open import is_table

_CLASS_DEPTH = 10  # a class may name a class; deeper than this one names itself


class Restriction(Struct, frozen=True):
    """One word. ``members`` are those of a class."""

    name: str
    members: tuple[Restriction, ...] = ()


class RestrictionList(Struct, frozen=True):
    parameter: str
    restrictions: tuple[Restriction, ...] = ()
    passed_over: tuple[str, ...] = ()  # as they are written

    def __bool__(self) -> bool:
        return bool(self.restrictions)


def parse_restrictions(
    parameter: str, words: Sequence[str], classes: Mapping[str, Sequence[str]] | None = None
) -> RestrictionList:
    """Raises ConfigError."""
    passed_over: list[str] = []
    found = tuple(_parsed(parameter, words, classes or {}, passed_over, 0))
    return RestrictionList(parameter, found, tuple(dict.fromkeys(passed_over)))


def _parsed(
    parameter: str, words: Sequence[str], classes: Mapping[str, Sequence[str]], passed_over: list[str], depth: int
) -> Iterator[Restriction]:
    if depth > _CLASS_DEPTH:
        raise ConfigError(f"{parameter}: a restriction class names itself")
    rest = iter(words)
    for word in rest:
        # The names of classes are the administrator's own; those of restrictions are in any case.
        if word in classes:
            members = tuple(_parsed(word, classes[word], classes, passed_over, depth + 1))
            yield Restriction(word, members)
            continue
        name = word.lower()
        name = OLD_NAMES.get(name, name)
        if name in HONOURED:
            yield Restriction(name)
        elif name in NOT_YET:
            passed_over.append(name)
        elif name in NOT_YET_WITH_ARGUMENT:
            argument = next(rest, None)
            if argument is None:
                raise ConfigError(f"{parameter}: {name} lacks its argument")
            passed_over.append(f"{name} {argument}")
        elif is_table(word):  # an old way to write check_..._access of the list's own subject
            passed_over.append(word)
        elif name in GONE:
            raise ConfigError(f"{parameter}: {name} is no longer there: {GONE[name]}")
        else:
            near = difflib.get_close_matches(name, [*ALL_NAMES, *classes], 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{parameter}: there is no restriction {word!r}{hint}")
