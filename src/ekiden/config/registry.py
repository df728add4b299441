"""The parameter registry: every parameter is declared once, and everything else is made from the declaration.

A parameter is a class attribute of a group in ``config.parameters``; its name is the attribute's name::

    class SmtpdParameters(Group):
        smtpd_recipient_limit = Int("1000", minimum=1, doc="The most recipients one message may have ...")

Read on a snapshot (an instance) the attribute is the parsed value, typed: ``snapshot.smtpd_recipient_limit`` is an int.
Read on the class it is the declaration itself, with name, default and documentation.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from typing import Generic, Self, TypeVar, overload

from ekiden.config.expand import expand

T = TypeVar("T")


class Reload(enum.Enum):
    """When a changed value takes effect."""

    NEW_SESSIONS = "at reload, for new sessions and deliveries"
    RESTART = "at restart"


class Parameter(Generic[T]):
    """One declared parameter. ``default`` is text as in main.cf and may hold ``$name``."""

    kind = "text"
    raw = False  # the text stays as it is written: $name in it is for whoever uses the value to expand

    def __init__(self, default: str, *, doc: str, reload: Reload = Reload.NEW_SESSIONS, since: str = "0.1") -> None:
        self.name = ""
        self.default = default
        self.doc = doc
        self.reload = reload
        self.since = since

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, snapshot: None, owner: type) -> Self: ...
    @overload
    def __get__(self, snapshot: object, owner: type) -> T: ...
    def __get__(self, snapshot: object | None, owner: type) -> Self | T:
        # A snapshot holds its values in its own __dict__, which goes before this non-data descriptor.
        if snapshot is None:
            return self
        raise AttributeError(f"{self.name} is not in this snapshot")

    def parse(self, text: str) -> T:
        """The value that ``text`` (already expanded) stands for. Raises ValueError that says what would be right."""
        raise NotImplementedError


class Text(Parameter[str]):
    kind = "text"

    def parse(self, text: str) -> str:
        return text


class Template(Text):
    """Text whose $name stand for what is known only when it is used: a user, a recipient."""

    kind = "text with $names of its own"
    raw = True

    def parse(self, text: str) -> str:
        expand(text, lambda name: "1", recursive=False)  # raises where no delivery could ever expand it
        return text


class Command(Text):
    """A command; its $NAMEs are the shell's."""

    kind = "command"
    raw = True


class Bool(Parameter[bool]):
    kind = "yes or no"

    def parse(self, text: str) -> bool:
        if text.lower() not in ("yes", "no"):
            raise ValueError("must be yes or no")
        return text.lower() == "yes"


class Int(Parameter[int]):
    kind = "number"

    def __init__(
        self, default: str, *, doc: str, minimum: int = 0, maximum: int | None = None,
        reload: Reload = Reload.NEW_SESSIONS, since: str = "0.1",
    ) -> None:  # fmt: skip
        super().__init__(default, doc=doc, reload=reload, since=since)
        self.minimum, self.maximum = minimum, maximum

    def parse(self, text: str) -> int:
        ends = f"a whole number from {self.minimum}" + (f" to {self.maximum}" if self.maximum is not None else " up")
        if re.fullmatch(r"-?[0-9]{1,18}", text) is None:
            raise ValueError(f"must be {ends}")
        value = int(text)
        if value < self.minimum or (self.maximum is not None and value > self.maximum):
            raise ValueError(f"must be {ends}")
        return value


class Size(Int):
    """Bytes."""

    kind = "size in bytes"


_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Duration(Parameter[float]):
    """A time with Postfix's units s, m, h, d, w; ``unit`` counts where none is written. The value is in seconds."""

    kind = "time"

    def __init__(
        self, default: str, *, doc: str, unit: str = "s", minimum: float = 0,
        reload: Reload = Reload.NEW_SESSIONS, since: str = "0.1",
    ) -> None:  # fmt: skip
        super().__init__(default, doc=doc, reload=reload, since=since)
        self.unit, self.minimum = unit, minimum

    def parse(self, text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,12})([smhdw]?)", text)
        if found is None:
            raise ValueError("must be a whole number with one of the units s, m, h, d, w, such as 30s or 5d")
        value = float(int(found[1]) * _DURATION_UNITS[found[2] or self.unit])
        if value < self.minimum:
            raise ValueError(f"must be at least {self.minimum:g} seconds")
        return value


class Choice(Parameter[str]):
    def __init__(
        self, default: str, *choices: str, doc: str, reload: Reload = Reload.NEW_SESSIONS, since: str = "0.1"
    ) -> None:
        super().__init__(default, doc=doc, reload=reload, since=since)
        self.choices = choices

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "one of " + ", ".join(self.choices)

    def parse(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError("must be one of " + ", ".join(self.choices))
        return text


class Version(Parameter[tuple[int, ...]]):
    """A version of Postfix, such as 3.6; what is missing of three numbers is 0."""

    kind = "version"

    def parse(self, text: str) -> tuple[int, ...]:
        if re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,2}", text) is None:
            raise ValueError("must be a version of Postfix, such as 3.6")
        numbers = [int(part) for part in text.split(".")]
        return (*numbers, 0, 0)[:3]


class Words(Parameter[tuple[str, ...]]):
    """A list, separated by commas or white space."""

    kind = "list"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(split_words(text))


class Tables(Words):
    """Lookup tables, ``type:name`` each, asked in order."""

    kind = "list of tables"


class AliasTables(Tables):
    """Lookup tables whose text, where they have one, is in the form of aliases(5)."""


class Domains(Words):
    """A match list of domains: names, ``!name``, /files and tables."""

    kind = "list of domains, files and tables"


class Clients(Words):
    """A match list of clients: networks, addresses, host names, ``!member``, /files and tables."""

    kind = "list of networks, hosts, files and tables"


class SomeOf(Words):
    """A list whose members are some of ``choices``."""

    def __init__(
        self,
        default: str,
        choices: Sequence[str],
        *,
        doc: str,
        reload: Reload = Reload.NEW_SESSIONS,
        since: str = "0.1",
    ) -> None:
        super().__init__(default, doc=doc, reload=reload, since=since)
        self.choices = tuple(choices)

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "list of " + ", ".join(self.choices)

    def parse(self, text: str) -> tuple[str, ...]:
        words = super().parse(text)
        if any(word not in self.choices for word in words):
            raise ValueError("must be a list of " + ", ".join(self.choices))
        return words


# Braces keep a member together that holds commas or blanks: `inline:{ a = b, c = d }`, `{ name = value }`.
_SEPARATORS = ", \t\r\n"


def split_words(text: str) -> Iterator[str]:
    """The members of a list; text inside braces belongs to one member."""
    word: list[str] = []
    depth = 0
    for char in text:
        if depth == 0 and char in _SEPARATORS:
            if word:
                yield "".join(word)
                word.clear()
            continue
        depth += (char == "{") - (char == "}" and depth > 0)
        word.append(char)
    if word:
        yield "".join(word)


class Group:
    """A group of parameters: the declarations on one subject."""

    @classmethod
    def declared(cls) -> dict[str, Parameter[object]]:
        """Every declaration of this class and its bases, by name, sorted."""
        found: dict[str, Parameter[object]] = {}
        for base in cls.__mro__:
            for name, value in vars(base).items():
                if isinstance(value, Parameter):
                    found.setdefault(name, value)
        return dict(sorted(found.items()))
