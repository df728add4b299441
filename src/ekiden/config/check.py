"""Looks a configuration over, for ``ekiden check`` and at start: names, values, services. Tables: tables.check."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from ekiden.config.expand import ExpansionError, expand, references
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.postfix_names import POSTFIX_NAMES
from ekiden.config.problem import Level, Problem
from ekiden.config.registry import Parameter
from ekiden.config.services import ABSORBED, COMMANDS, NOT_YET

_TRANSPORT = "transport_"
_INITIAL = "initial_destination_concurrency"  # the one whose default does not begin with default_
_NEAR = 0.75


def check(configuration: Configuration) -> list[Problem]:
    """All that load() found, and what it leaves to this: sorted by file and line."""
    found = [
        *configuration.problems,
        *_names(configuration),
        *_transport_values(configuration),
        *_services(configuration),
    ]
    return sorted(set(found), key=lambda problem: (problem.file, problem.line, problem.level.value, problem.text))


def _names(configuration: Configuration) -> Iterator[Problem]:
    """Names that are unknown, or known to Postfix alone."""
    declared = configuration.parameters.declared()
    services = configuration.services
    own = _own_names(configuration)
    for name in configuration.settings:
        if (text := _about_name(name, declared, services, own)) is not None:
            file, line = configuration.place(name)
            yield Problem(file, line, *text)
    for service in services:
        for name in service.overrides:
            if (text := _about_name(name, declared, services, own)) is not None:
                level, words = text
                yield Problem(configuration.master_cf, service.line, level, f"{words} (-o in {service.name})")


def _about_name(
    name: str, declared: Mapping[str, Parameter[object]], services: Iterable[Service], own: frozenset[str]
) -> tuple[Level, str] | None:
    if name in declared or name in own or default_of(name, declared, services) is not None:
        return None
    if name in POSTFIX_NAMES or any(
        name == pattern.replace(_TRANSPORT, f"{service.name}_", 1)
        for pattern in POSTFIX_NAMES
        if pattern.startswith(_TRANSPORT)
        for service in services
    ):
        return Level.INFO, f"{name} is a parameter of Postfix that Ekiden does not honour yet"
    near = difflib.get_close_matches(name.lower(), declared, 1, _NEAR)
    near = near or difflib.get_close_matches(name.lower(), POSTFIX_NAMES, 1, _NEAR)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Level.WARNING, f"unknown parameter {name}{hint}"


def _own_names(configuration: Configuration) -> frozenset[str]:
    """Names that the administrator made up: no parameter, but some value refers to them."""
    texts = [setting.text for setting in configuration.settings.values()]
    texts += [text for service in configuration.services for text in (*service.overrides.values(), *service.args)]
    return frozenset(name for text in texts for name in references(text))


def default_of(name: str, declared: Mapping[str, Parameter[object]], services: Iterable[Service]) -> str | None:
    """The parameter that ``TRANSPORT_what`` overrides for one transport: ``default_what`` or ``transport_what``."""
    for service in services:
        if name.startswith(f"{service.name}_"):
            what = name.removeprefix(f"{service.name}_")
            if what == _INITIAL:
                return what
            for default in (f"default_{what}", _TRANSPORT + what):
                if default in declared:
                    return default
    return None


def _transport_values(configuration: Configuration) -> Iterator[Problem]:
    """Values of TRANSPORT_what: nobody declares them, so load() does not parse them."""
    declared = configuration.parameters.declared()
    settings = configuration.settings
    for name, setting in settings.items():
        if name in declared or (default := default_of(name, declared, configuration.services)) is None:
            continue

        def raw(other: str) -> str | None:
            if other in settings:
                return settings[other].text
            return declared[other].default if other in declared else None

        try:
            declared[default].parse(expand(setting.text, raw).strip())
        except (ExpansionError, ValueError) as error:
            file, line = configuration.place(name)
            yield Problem(file, line, Level.ERROR, f"{name} = {setting.text}: {error}")


def _services(configuration: Configuration) -> Iterator[Problem]:
    file = configuration.master_cf
    places: dict[str, Service] = {}
    for service in configuration.services:
        if service.line == 0:
            continue
        about = f"service {service.name}"
        if service.command not in COMMANDS | ABSORBED:
            yield Problem(file, service.line, *_about_command(service))
        elif service.type == "inet" and service.command != "smtpd":
            text = f"{about}: {service.command} does not listen on the network; only smtpd does"
            yield Problem(file, service.line, Level.ERROR, text)
        elif service.command == "smtpd" and service.type != "inet":
            text = f"{about}: smtpd is of type inet here; type {service.type} is not served yet"
            yield Problem(file, service.line, Level.WARNING, text)
        if service.chroot:
            text = f"{about}: chroot = y is not honoured: no process changes its root; write n"
            yield Problem(file, service.line, Level.INFO, text)
        endpoint = service.endpoint
        if endpoint is None:
            continue
        earlier = places.setdefault(str(endpoint), service)
        if earlier is not service:
            text = f"{about} listens on {endpoint}, where {earlier.name} of line {earlier.line} does"
            yield Problem(file, service.line, Level.ERROR, text)
    if not places and any(service.line for service in configuration.services):
        yield Problem(file, 0, Level.WARNING, "no service of type inet: nothing listens for mail")


def _about_command(service: Service) -> tuple[Level, str]:
    if service.command in NOT_YET:
        return Level.WARNING, f"service {service.name}: {service.command} is not there yet; this service is not started"
    known = sorted(COMMANDS | ABSORBED | NOT_YET)
    near = difflib.get_close_matches(service.command, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(sorted(COMMANDS))}"
    return Level.ERROR, f"service {service.name}: unknown command {service.command!r}; {hint}"
