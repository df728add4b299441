"""Looks a configuration over, for ``ekiden check`` and at start: names, values, services. Tables: tables.check."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ekiden.config.coverage import parent_of, transport_default
from ekiden.config.expand import ExpansionError, references
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.postfix_names import not_needed, postfix_defaults
from ekiden.config.problem import Level, Problem
from ekiden.config.services import ABSORBED, COMMANDS, LISTENING, NOT_YET
from ekiden.config.unsafe import unsafe_values

_INITIAL = "initial_destination_concurrency"  # the one whose default does not begin with default_
_NEAR = 0.75


def check(configuration: Configuration) -> list[Problem]:
    """All that load() found, and what it leaves to this: sorted by file and line."""
    found = [
        *configuration.problems,
        *_names(configuration),
        *_transport_values(configuration),
        *_services(configuration),
        *unsafe_values(configuration),
    ]
    return sorted(set(found), key=lambda problem: (problem.file, problem.line, problem.level.value, problem.text))


def _names(configuration: Configuration) -> Iterator[Problem]:
    """Names that are unknown, known to Postfix alone, or refer to nothing."""
    names = _Names(configuration)
    for name, setting in configuration.settings.items():
        for level, text in names.about(name, setting.text):
            file, line = configuration.place(name)
            yield Problem(file, line, level, text)
    for service in configuration.services:
        for name, value in service.overrides.items():
            for level, text in names.about(name, value):
                yield Problem(configuration.master_cf, service.line, level, f"{text} (-o in {service.name})")


class _Names:
    """What can be said of the names in one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._declared = configuration.parameters.declared()
        self._defined = configuration.parameters.raw
        self._transports = [service.name for service in configuration.services]
        texts = [setting.text for setting in configuration.settings.values()]
        texts += [text for service in configuration.services for text in (*service.overrides.values(), *service.args)]
        # Names that the administrator made up are no parameters, but some value refers to them.
        self._referred = {name for text in texts for name in references(text)}
        self._referred.update(configuration.parameters.smtpd_restriction_classes)
        self._overridden = {name for service in configuration.services for name in service.overrides}

    def about(self, name: str, value: str) -> Iterator[tuple[Level, str]]:
        if (own := self._about_name(name, value)) is not None:
            yield own
        if name in self._declared and self._declared[name].raw:
            return  # its $names are told only at a delivery
        for other in references(value, tested=False):
            if self._defined(other) is None and other not in self._overridden:
                yield Level.WARNING, f"{name} refers to ${other}, which is nowhere defined and counts as empty"

    def _about_name(self, name: str, value: str) -> tuple[Level, str] | None:
        declared, transports = self._declared, self._transports
        if name in declared or name in self._referred or parent_of(name, declared, transports) is not None:
            return None
        if name in not_needed():
            return Level.INFO, f"{name} is not needed: {not_needed()[name]}"
        known = postfix_defaults()
        if name in known or transport_default(name, transports) is not None:
            text = f"{name} is a parameter of Postfix that Ekiden does not honour yet"
            # What says no more than Postfix's default asks for nothing that is missing.
            return (Level.INFO if value.split() == known.get(name, "-").split() else Level.WARNING), text
        near = difflib.get_close_matches(name.lower(), declared, 1, _NEAR)
        near = near or difflib.get_close_matches(name.lower(), known, 1, _NEAR)
        hint = f"; did you mean {near[0]}?" if near else ""
        return Level.WARNING, f"unknown parameter {name}{hint}"


def _transport_values(configuration: Configuration) -> Iterator[Problem]:
    """Values of TRANSPORT_what: nobody declares them, so load() does not parse them."""
    declared = configuration.parameters.declared()
    transports = [service.name for service in configuration.services]
    for name, setting in configuration.settings.items():
        if name in declared or (parent := parent_of(name, declared, transports)) is None:
            continue
        try:
            declared[parent].parse(configuration.parameters.expanded(setting.text))
        except (ExpansionError, ValueError) as error:
            file, line = configuration.place(name)
            yield Problem(file, line, Level.ERROR, f"{name} = {setting.text}: {error}")


def _services(configuration: Configuration) -> Iterator[Problem]:
    file = configuration.master_cf
    places: dict[str, Service] = {}
    chroots: list[Service] = []
    for service in configuration.services:
        if service.line == 0:
            continue
        about = f"service {service.name}"
        if service.command not in COMMANDS | ABSORBED:
            yield Problem(file, service.line, *_about_command(service))
        elif service.type == "inet" and service.command not in LISTENING:
            text = f"{about}: {service.command} does not listen on the network; only {' and '.join(LISTENING)} do"
            yield Problem(file, service.line, Level.ERROR, text)
        elif service.command == "lmtpd" and service.endpoint is not None and service.endpoint.port == 25:
            text = f"{about}: LMTP must not be spoken on port 25, which is SMTP's (RFC 2033 §5)"
            yield Problem(file, service.line, Level.ERROR, text)
        elif service.command in LISTENING and service.type not in ("inet", "unix"):
            text = f"{about}: {service.command} is of type inet or unix here; type {service.type} is not served yet"
            yield Problem(file, service.line, Level.WARNING, text)
        if service.chroot:
            chroots.append(service)
        endpoint = service.endpoint
        if endpoint is None:
            continue
        earlier = places.setdefault(str(endpoint), service)
        if earlier is not service:
            text = f"{about} listens on {endpoint}, where {earlier.name} of line {earlier.line} does"
            yield Problem(file, service.line, Level.ERROR, text)
    if chroots:
        names = ", ".join(service.name for service in chroots)
        text = f"chroot = y is not honoured ({names}): no process changes its root; write n"
        yield Problem(file, chroots[0].line, Level.INFO, text)
    if not places and any(service.line for service in configuration.services):
        yield Problem(file, 0, Level.WARNING, "no service of type inet: nothing listens for mail")


def _about_command(service: Service) -> tuple[Level, str]:
    if service.command in NOT_YET:
        return Level.WARNING, f"service {service.name}: {service.command} is not there yet; this service is not started"
    known = sorted(COMMANDS | ABSORBED | NOT_YET)
    near = difflib.get_close_matches(service.command, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(sorted(COMMANDS))}"
    return Level.ERROR, f"service {service.name}: unknown command {service.command!r}; {hint}"
