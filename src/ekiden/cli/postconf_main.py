"""postconf(1) on main.cf: its parameters shown and changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ekiden.cli.postconf import Request, fatal, shown
from ekiden.cli.trouble import complain
from ekiden.config.coverage import TRANSPORT_PATTERN, transport_default, transport_defaults
from ekiden.config.editing import rewrite, with_settings, with_settings_commented, without_settings
from ekiden.config.expand import FUNCTIONS, expand, references
from ekiden.config.load import Configuration, build, load
from ekiden.config.postfix_names import postfix_defaults
from ekiden.config.services import AGENTS
from ekiden.config.snapshot import Parameters

_NAME = re.compile(r"[A-Za-z0-9_]+")


def show(request: Request) -> None:
    if request.named_directory:
        request.overrides.setdefault("config_directory", str(request.directory))
    found = load(request.directory, request.overrides)
    view = _View(found, request)
    for name in request.names or view.all_names():
        value = view.value(name)
        if value is None:
            complain("postconf", f"warning: {name}: unknown parameter")
        elif view.is_wanted(name):
            print(shown(name, view.expanded(name, value), request))
    if "d" not in request:
        for warning in view.warnings():
            complain("postconf", f"warning: {warning}")


class _View:
    """What there is to show of a configuration."""

    def __init__(self, found: Configuration, request: Request) -> None:
        self._found, self._request = found, request
        # A value that cannot be used is not in the snapshot, but it is what the file says.
        self._settings = {} if "d" in request else {name: setting.text for name, setting in found.settings.items()}
        self._parameters = build(request.directory, "", None).parameters if "d" in request else found.parameters
        patterns = {f"{TRANSPORT_PATTERN}_{what}" for what in transport_defaults()}
        self._builtin = (set(Parameters.declared()) | set(postfix_defaults())) - FUNCTIONS - patterns
        self._transports = [service.name for service in found.services if service.command in AGENTS]
        own = {f"{transport}_{what}" for transport in self._transports for what in transport_defaults()}
        self._service = own - self._builtin
        texts = [setting.text for setting in found.settings.values()]
        texts += [text for service in found.services for text in (*service.overrides.values(), *service.args)]
        self._referred = {name for text in texts for name in references(text)}
        self._user = (set(found.settings) & self._referred) - self._builtin - self._service

    def all_names(self) -> list[str]:
        return sorted(self._builtin | self._service | self._user)

    def value(self, name: str) -> str | None:
        """The text of a parameter; None for a name that is none."""
        if name in self._builtin or name in self._user:
            return self._raw(name) or ""
        if name not in self._service:
            return None
        return self._raw(name) or transport_default(name, self._transports)

    def _raw(self, name: str) -> str | None:
        return self._settings.get(name, self._parameters.raw(name))

    def expanded(self, name: str, value: str) -> str:
        if "x" not in self._request:
            return value
        try:
            return expand(value, self._raw)
        except ValueError as error:
            raise fatal(f"{name}: {error}") from error

    def is_wanted(self, name: str) -> bool:
        """Names that were asked for are shown whatever their class."""
        if "n" in self._request and name not in self._found.settings:
            return False
        classes = self._request.classes
        if self._request.names or not classes or "all" in classes:
            return True
        of = "builtin" if name in self._builtin else "service" if name in self._service else "user"
        return of in classes

    def warnings(self) -> Iterator[str]:
        yield from (str(problem) for problem in self._found.problems)
        known = self._builtin | self._service | self._user
        for file, name, value in self._set_values():
            if name not in known and name not in self._referred:
                yield f"{file}: unused parameter: {name}={value}"
            for other in dict.fromkeys(references(value)):
                if self._raw(other) is None and other not in self._overridden(file):
                    yield f"{file}: undefined parameter: {other}"

    def _set_values(self) -> Iterator[tuple[str, str, str]]:
        for setting in self._found.settings.values():
            if setting.line:
                yield self._found.main_cf, setting.name, setting.text
        for service in self._found.services:
            for name, value in service.overrides.items():
                yield self._found.master_cf, name, value

    def _overridden(self, file: str) -> set[str]:
        if file != self._found.master_cf:
            return set()
        return {name for service in self._found.services for name in service.overrides} | {
            "service_name",
            "process_name",
        }


def edit(request: Request) -> None:
    """-e, -X and -#. Raises CommandTrouble, OSError; main.cf is then as it was."""
    path = request.directory / "main.cf"
    if any("\n" in name for name in request.names):
        raise fatal("-e, -X, or -# accepts no multi-line input")
    if "X" not in request and "#" not in request:
        settings = dict(map(_pair, request.names))
        if not settings:
            raise fatal("-e requires name=value argument")
        if request.directory.is_dir():
            path.touch(0o644, exist_ok=True)  # there need not be a main.cf
        rewrite(path, lambda text: with_settings(text, settings))
        return
    names = {name.strip() for name in request.names}
    if not names:
        raise fatal("-X or -# requires a parameter name")
    for name in names:
        if "=" in name:
            raise fatal("specify one of -e -X -#")
    change = without_settings if "X" in request else with_settings_commented
    rewrite(path, lambda text: change(text, names))


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    name = name.strip()
    if not equals or (name and _NAME.fullmatch(name) is None):
        raise fatal(f"missing '=' after attribute name: \"{word}\"")
    if not name:
        raise fatal(f'missing attribute name: "{word}"')
    return name, value.strip()
