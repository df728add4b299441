"""The parameters of a table that asks a server: those of a file in the format of main.cf, or of main.cf itself.

``mysql:/etc/ekiden/aliases.cf`` names a file of ``name = value`` lines, in which a dollar is a dollar (mysql_table(5)
and its like). A name that begins with neither slash nor dot stands for parameters of main.cf: ``mysql:aliases`` has
``aliases_hosts``, ``aliases_query`` and so on, with ``$name`` expanded (the same pages, "OBSOLETE MAIN.CF PARAMETERS").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ekiden.config.errors import ConfigError
from ekiden.config.expand import ExpansionError, expand
from ekiden.config.main_cf import Setting, read_main_cf
from ekiden.config.problem import Level
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.tables.table import Finding

T = TypeVar("T")

_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class ClientSettings:
    """``file`` is empty where main.cf has the parameters. What is asked for by no method is unknown to the type."""

    def __init__(self, table: str, settings: Mapping[str, Setting], *, file: str = "", prefix: str = "") -> None:
        self.table = table
        self._settings = settings
        self._file, self._prefix = file, prefix
        self._asked: set[str] = set()

    def given(self, name: str) -> bool:
        """Whether the parameter is set, be it to nothing."""
        self._asked.add(name)
        return name in self._settings

    def text(self, name: str, default: str = "") -> str:
        return self._settings[name].text if self.given(name) else default

    def needed(self, name: str, example: str) -> str:
        """A text that must not be empty. Raises ConfigError."""
        value = self.text(name)
        if not value:
            raise ConfigError(f"{self.table}: {name} is not set: write {name} = {example}", file=self._file)
        return value

    def words(self, name: str, default: str = "") -> tuple[str, ...]:
        return tuple(split_words(self.text(name, default)))

    def number(self, name: str, default: int, *, minimum: int = 0, maximum: int = 2**31 - 1) -> int:
        """Raises ConfigError."""
        text = self.text(name, str(default))
        if re.fullmatch(r"[0-9]{1,10}", text) is None or not minimum <= int(text) <= maximum:
            raise self.wrong(name, f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    def seconds(self, name: str, default: float, *, minimum: float = 0) -> float:
        """A number of seconds, or a time with one of the units s, m, h, d, w. Raises ConfigError."""
        if not self.given(name):
            return default
        found = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", self.text(name))
        value = float(int(found[1]) * _DURATION_UNITS[found[2]]) if found else -1.0
        if value < minimum:
            raise self.wrong(name, f"must be a time of at least {minimum:g} seconds, such as 10 or 1m")
        return value

    def yes(self, name: str, default: bool) -> bool:
        """yes or no; 1 and 0 mean the same (ldap_table(5)). Raises ConfigError."""
        text = self.text(name, "yes" if default else "no").lower()
        if text not in ("yes", "no", "1", "0"):
            raise self.wrong(name, "must be yes or no")
        return text in ("yes", "1")

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """Raises ConfigError."""
        text = self.text(name, default)
        if text not in choices:
            raise self.wrong(name, f"must be one of {', '.join(choices)}")
        return text

    def read(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        """What ``parse`` makes of the text; the ConfigError that it raises gets the place."""
        try:
            return parse(self.text(name, default))
        except ConfigError as error:
            raise self.wrong(name, error.text) from error

    def servers(self, name: str, parse: Callable[[str], T], forms: str) -> tuple[T, ...]:
        """The servers of a list, else that of localhost; ``forms`` says how one is written. Raises ConfigError."""

        def parse_all(text: str) -> tuple[T, ...]:
            found = tuple(parse(word) for word in split_words(text))
            if not found:
                raise ConfigError(f"there is no server in it: write {forms}")
            return found

        return self.read(name, "localhost", parse_all)

    def wrong(self, name: str, problem: str) -> ConfigError:
        """The error that says where ``name`` is set and what is wrong with it. Passwords are not shown."""
        setting = self._settings.get(name)
        shown = setting.text if setting is not None and name not in ("password", "bind_pw") else "..."
        line = setting.line if setting is not None and self._file else 0
        return ConfigError(f"{self._prefix}{name} = {shown}: {problem}", file=self._file, line=line)

    def unknown(self) -> list[Finding]:
        """Each parameter that the type does not have. Empty for main.cf."""
        if not self._file:
            return []
        kind = self.table.partition(":")[0]
        return [
            Finding(self._file, setting.line, f"{name} is no parameter of {kind} tables")
            for name, setting in self._settings.items()
            if name not in self._asked
        ]


def read_client_settings(kind: str, text: str, parameters: Parameters) -> ClientSettings:
    """The parameters of the table ``kind:text``. Raises ConfigError with file and line."""
    table = f"{kind}:{text}"
    if text.startswith("/"):
        return _of_file(table, text)
    if text.startswith("."):
        raise ConfigError(f"{table}: the file must be given with its full path, such as /etc/ekiden/{kind}-aliases.cf")
    if re.fullmatch(r"[A-Za-z0-9_]+", text) is None:
        raise ConfigError(
            f"{table}: write {kind}:/path of a file with the parameters, or {kind}:NAME and NAME_... = in main.cf"
        )
    return _of_main_cf(table, f"{text}_", parameters)


def _of_file(table: str, path: str) -> ClientSettings:
    try:
        text = Path(path).read_text("utf-8", "surrogateescape")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{table}: cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from error
    read = read_main_cf(text, path)
    for problem in read.problems:
        if problem.level is Level.ERROR:
            raise ConfigError(problem.text, file=path, line=problem.line)
    return ClientSettings(table, read.settings, file=path)


def _of_main_cf(table: str, prefix: str, parameters: Parameters) -> ClientSettings:
    raw = parameters.settings
    declared = parameters.declared()

    def lookup(name: str) -> str | None:
        return raw[name] if name in raw else declared[name].default if name in declared else None

    settings: dict[str, Setting] = {}
    for name, text in raw.items():
        if name.startswith(prefix):
            try:
                settings[name.removeprefix(prefix)] = Setting(name, expand(text, lookup).strip(), 0)
            except ExpansionError as error:
                raise ConfigError(f"{name} = {text}: {error}") from error
    if not settings:
        raise ConfigError(f"{table}: main.cf has no parameter that begins with {prefix}; /path names a file")
    return ClientSettings(table, settings, prefix=prefix)
