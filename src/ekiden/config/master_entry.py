"""A line of master.cf as it is written, for postconf(1) -M, -F and -P: shown, folded, its parts changed.

master_cf.Service is what a line means; here ``-`` stays ``-``.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from ekiden.config.editing import entries
from ekiden.config.errors import ConfigError
from ekiden.config.expand import expand
from ekiden.config.master_cf import read_master_cf, split_arguments
from ekiden.config.snapshot import Parameters

FIELDS = ("service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command")
_GOALS = (0, 11, 17, 25, 33, 41, 49, 57)  # where the columns begin
LINE_WIDTH = 80
INDENT = "    "
_BLANKS = " \t\r\n\f\v"


class MasterEntry(Struct, frozen=True):
    columns: tuple[str, ...]  # the seven before the command
    arguments: tuple[str, ...]  # the command and what follows, braces around an argument removed

    @property
    def service(self) -> tuple[str, str]:
        return self.columns[0], self.columns[1]

    @property
    def options(self) -> dict[str, str]:
        """The ``-o`` options, in their order."""
        return dict(self.arguments[at].partition("=")[::2] for at in self._option_values())

    def _option_values(self) -> Iterator[int]:
        """Where in ``arguments`` the text behind a ``-o`` stands; options end at the first word without a dash."""
        at = 1
        while at < len(self.arguments) and self.arguments[at].startswith("-") and self.arguments[at] != "--":
            if self.arguments[at] == "-o" and at + 1 < len(self.arguments):
                yield at + 1
                at += 1
            at += 1

    def with_option(self, name: str, value: str) -> MasterEntry:
        """The option changed where it stands, else added behind the others."""
        arguments = list(self.arguments)
        end = 1
        for at in self._option_values():
            end = at + 1
            if arguments[at].partition("=")[0] == name:
                arguments[at] = f"{name}={value}"
                return replace(self, arguments=tuple(arguments))
        while end < len(arguments) and arguments[end].startswith("-") and arguments[end] != "--":
            end += 1
        arguments[end:end] = ["-o", f"{name}={value}"]
        return replace(self, arguments=tuple(arguments))

    def without_option(self, name: str) -> MasterEntry:
        gone = {
            place
            for at in self._option_values()
            if self.arguments[at].partition("=")[0] == name
            for place in (at - 1, at)
        }
        kept = tuple(argument for at, argument in enumerate(self.arguments) if at not in gone)
        return replace(self, arguments=kept)

    def field(self, name: str) -> str:
        return command(self.arguments) if name == "command" else self.columns[FIELDS.index(name)]

    def with_field(self, name: str, value: str) -> MasterEntry:
        """Raises ConfigError for a value that master.cf does not take there."""
        if name == "command":
            arguments = _normal(split_arguments(value), 0)
            if not arguments:
                raise ConfigError("the field command is empty")
            return replace(self, arguments=arguments)
        at = FIELDS.index(name)
        changed = replace(self, columns=(*self.columns[:at], value, *self.columns[at + 1 :]))
        return parse_entry(changed.line())  # complains of what is wrong

    def expanded(self, parameters: Parameters) -> MasterEntry:
        """With the references in the values of options replaced. Raises ExpansionError."""
        names = {"service_name": self.columns[0], "process_name": self.arguments[0], **self.options}
        arguments = list(self.arguments)
        for at in self._option_values():
            name, equals, value = arguments[at].partition("=")
            own = {key: text for key, text in names.items() if key != name}
            arguments[at] = name + equals + expand(value, lambda n, own=own: own.get(n, parameters.raw(n)))  # type: ignore[misc]
        return replace(self, arguments=tuple(arguments))

    def line(self) -> str:
        return self._columns() + command(self.arguments)

    def folded(self) -> str:
        """On several lines: one for each option, and none longer than the screen if that can be."""
        return self._columns() + folded_command(self.arguments, len(self._columns()))

    def _columns(self) -> str:
        line = ""
        for goal, column in zip(_GOALS, self.columns, strict=False):
            line += " " * max(goal - len(line), 1 if line else 0) + column
        return line + " " * max(_GOALS[7] - len(line), 1)


def parse_entry(text: str) -> MasterEntry:
    """Raises ConfigError."""
    read = read_master_cf(text, "")
    if read.problems:
        raise ConfigError(read.problems[0].text)
    if len(read.services) != 1:
        raise ConfigError("this is not one line of master.cf")
    words = _normal(split_arguments(text), 7)
    return MasterEntry(words[:7], words[7:])


def parse_entries(text: str) -> list[MasterEntry]:
    """The lines that can be understood; the others are problems of read_master_cf()."""
    found = []
    for entry in entries(text):
        try:
            found.append(parse_entry(entry.text))
        except ConfigError:
            continue
    return found


def command(arguments: tuple[str, ...]) -> str:
    return " ".join(_shown(arguments))


def folded_command(arguments: tuple[str, ...], start: int) -> str:
    """``start`` is the column of the command. Each option with a value has a line of its own."""
    shown = list(_shown(arguments))
    pieces = [(shown[0], False)]
    rest = iter(shown[1:])
    for word in rest:
        if not word.startswith("-") or word == "--":
            pieces += [(word, False), *((other, False) for other in rest)]
        elif word == "-o":
            pieces.append((f"-o {next(rest)}", True))
        else:
            pieces.append((word, False))
    lines: list[str] = []
    line, width, full = "", start, False
    for piece, alone in pieces:
        if line and (alone or full or width + 1 + len(piece) >= LINE_WIDTH):
            lines.append(line)
            line, width = INDENT + piece, len(INDENT + piece)
        else:
            line += f" {piece}" if line else piece
            width += len(piece) + (line != piece)
        full = alone
    return "\n".join([*lines, line])


def _normal(words: list[str], command_at: int) -> tuple[str, ...]:
    """``-oname=value`` as ``-o name=value``, without blanks around the name and before the value."""
    out = words[: command_at + 1]
    rest = iter(words[command_at + 1 :])
    for word in rest:
        if not word.startswith("-") or word == "--":
            out += [word, *rest]
        elif word.startswith("-o"):
            name, equals, value = (word[2:] or next(rest, "")).partition("=")
            out += ["-o", name.strip(_BLANKS) + equals + value.strip(_BLANKS)]
        else:
            out.append(word)
    return tuple(out)


def _shown(arguments: tuple[str, ...]) -> Iterator[str]:
    for argument in arguments:
        needs_braces = not argument or argument.startswith("{") or any(char in _BLANKS for char in argument)
        yield f"{{{argument}}}" if needs_braces else argument
