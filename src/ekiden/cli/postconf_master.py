"""postconf(1) -M, -F and -P: the services of master.cf, their fields and their ``-o`` options."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ekiden.cli.postconf import Request, fatal, shown
from ekiden.cli.trouble import complain
from ekiden.config.editing import rewrite, with_service_texts, with_services_commented, without_services
from ekiden.config.errors import ConfigError
from ekiden.config.load import load
from ekiden.config.master_cf import read_master_cf
from ekiden.config.master_entry import FIELDS, MasterEntry, folded_command, parse_entries, parse_entry

_WHAT = {"M": "service/type", "F": "service/type/field", "P": "service/type/parameter"}


def run(request: Request) -> None:
    """Raises CommandTrouble, ConfigError, OSError, ExpansionError."""
    mode = next(letter for letter in "MFP" if letter in request)
    for letter in "ndC":
        if letter in request:
            raise fatal(f"with option -{mode}, do not specify -{letter}")
    if request.edits:
        _edit(request, mode)
    else:
        _show(request, mode)


class _Pattern:
    """``service/type/name``: ``*``, or nothing at the end, fits anything."""

    def __init__(self, text: str, mode: str, *, whole: bool = False) -> None:
        depth = 2 if mode == "M" else 3
        parts = text.split("/")
        if len(parts) > depth or not all(parts) or (whole and len(parts) != depth):
            raise fatal(f'write {_WHAT[mode]} instead of "{text}"')
        self.text = text
        self._parts = parts + ["*"] * (depth - len(parts))

    def fits(self, service: tuple[str, str], name: str | None = None) -> bool:
        values = service if name is None else (*service, name)
        return all(part in ("*", value) for part, value in zip(self._parts, values, strict=False))

    @property
    def name(self) -> str:
        return self._parts[2]

    @property
    def service(self) -> tuple[str, str]:
        return self._parts[0], self._parts[1]


def _show(request: Request, mode: str) -> None:
    path = request.directory / "master.cf"
    text = path.read_text("utf-8", "surrogateescape")
    for problem in read_master_cf(text, str(path)).problems:
        complain("postconf", f"warning: {problem}")
    found = parse_entries(text)
    if "x" in request:
        parameters = load(request.directory, request.overrides).parameters
        found = [entry.expanded(parameters) for entry in found]
    patterns = [_Pattern(name, mode) for name in request.names] or [_Pattern("*", mode)]
    lines = {"M": _services, "F": _fields, "P": _parameters}[mode]
    for pattern in patterns:
        matched = False
        for line in lines(found, pattern, request):
            matched = True
            print(line)
        if not matched and request.names:
            complain("postconf", f'warning: unmatched request: "{pattern.text}"')


def _services(found: list[MasterEntry], pattern: _Pattern, request: Request) -> Iterator[str]:
    for entry in found:
        if pattern.fits(entry.service):
            yield entry.folded() if "f" in request else entry.line()


def _fields(found: list[MasterEntry], pattern: _Pattern, request: Request) -> Iterator[str]:
    for entry in found:
        for field in FIELDS:
            if pattern.fits(entry.service, field):
                name = "/".join((*entry.service, field))
                if field == "command" and "f" in request and "H" not in request:
                    label = "" if "h" in request else f"{name} = "
                    yield label + folded_command(entry.arguments, len(label))
                else:
                    yield shown(name, entry.field(field), request)


def _parameters(found: list[MasterEntry], pattern: _Pattern, request: Request) -> Iterator[str]:
    for entry in found:
        for name, value in sorted(entry.options.items()):
            if pattern.fits(entry.service, name):
                yield shown("/".join((*entry.service, name)), value, request)


def _edit(request: Request, mode: str) -> None:
    if any("\n" in name for name in request.names):
        raise fatal("-e, -X, or -# accepts no multi-line input")
    if not request.names:
        raise fatal(f"-{'X' if 'X' in request else '#' if '#' in request else 'e'} requires {_WHAT[mode]}")
    path = request.directory / "master.cf"
    if "X" in request or "#" in request:
        if any("=" in name for name in request.names):
            raise fatal("specify one of -e -X -#")
        patterns = [_Pattern(name, mode, whole=True) for name in request.names]
        rewrite(path, _removal(request, mode, patterns))
        return
    pairs = []
    for word in request.names:
        left, equals, value = word.partition("=")
        if not equals:
            raise fatal(f"missing '=' after {_WHAT[mode]}: \"{word}\"")
        pairs.append((_Pattern(left.strip(), mode, whole=True), value.strip()))
    if mode == "M":
        texts = dict(_new_service(pattern, value) for pattern, value in pairs)
        rewrite(path, lambda text: with_service_texts(text, texts))
    else:
        rewrite(path, lambda text: _with_values(text, pairs, mode))


def _removal(request: Request, mode: str, patterns: list[_Pattern]) -> Callable[[str], str]:
    def wanted(service: str, kind: str) -> bool:
        return any(pattern.fits((service, kind)) for pattern in patterns)

    if mode == "M":
        change = without_services if "X" in request else with_services_commented
        return lambda text: change(text, wanted)
    if mode == "F" or "#" in request:
        raise fatal(f"-{mode} cannot be used with -{'X' if 'X' in request else '#'}")
    return lambda text: _changed(text, patterns, _without)


def _without(entry: MasterEntry, pattern: _Pattern) -> MasterEntry:
    return entry.without_option(pattern.name)


def _new_service(pattern: _Pattern, value: str) -> tuple[tuple[str, str], str]:
    entry = parse_entry(value)
    if entry.service != pattern.service:
        raise ConfigError(f"{pattern.text} is not the service and the type in {value!r}")
    return entry.service, entry.folded()


def _with_values(text: str, pairs: list[tuple[_Pattern, str]], mode: str) -> str:
    for pattern, value in pairs:

        def change(entry: MasterEntry, asked: _Pattern, value: str = value) -> MasterEntry:
            if mode == "P":
                return entry.with_option(asked.name, value)
            if asked.name not in FIELDS:
                raise ConfigError(f"{asked.name} is not a field: the fields are {', '.join(FIELDS)}")
            return entry.with_field(asked.name, value)

        text = _changed(text, [pattern], change)
    return text


def _changed(text: str, patterns: list[_Pattern], change: Callable[[MasterEntry, _Pattern], MasterEntry]) -> str:
    """master.cf with the services that fit changed. Raises CommandTrouble where none does."""
    texts: dict[tuple[str, str], str] = {}
    for pattern in patterns:
        entries = [entry for entry in parse_entries(text) if pattern.fits(entry.service)]
        if not entries:
            raise fatal(f'unmatched request: "{pattern.text}"')
        for entry in entries:
            new = change(entry, pattern)
            texts = {entry.service: new.folded()}
            text = with_service_texts(text, texts) if new != entry else text
    return text
