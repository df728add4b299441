"""Reads a configuration directory into one immutable value.

A wrong value or line does not end the reading: it is a problem of level error, and the default stands in its place, so
that all problems can be shown at once. Who starts a server must not do so while there are errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from ekiden.config.directory import DEFAULT_DIRECTORY
from ekiden.config.expand import ExpansionError, expand, references
from ekiden.config.main_cf import MainCf, Setting, read_main_cf
from ekiden.config.master_cf import MasterCf, Service, read_master_cf
from ekiden.config.problem import Level, Problem
from ekiden.config.services import DEFAULT_LISTENERS, with_built_in
from ekiden.config.snapshot import ParameterError, Parameters

if TYPE_CHECKING:
    from ekiden.config.interfaces import Interface

COMMAND_LINE = "command line"


class Configuration(Struct, frozen=True):
    """``services`` are those of master.cf, then the built-in ones that it does not name."""

    parameters: Parameters
    services: tuple[Service, ...]
    directory: Path
    problems: tuple[Problem, ...] = ()  # what reading found; check() finds more
    settings: dict[str, Setting] = {}  # main.cf as it was read: for the lines of what check() finds

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.level is Level.ERROR)

    @property
    def main_cf(self) -> str:
        return str(self.directory / "main.cf")

    @property
    def master_cf(self) -> str:
        return str(self.directory / "master.cf")

    def parameters_of(self, service: Service) -> Parameters:
        """The snapshot that holds for a service: its ``-o`` options go before main.cf. Raises ParameterError."""
        return _parameters_of(service, self.parameters)

    def place(self, name: str) -> tuple[str, int]:
        """File and line where main.cf sets a parameter; ("", 0) where it does not."""
        setting = self.settings.get(name)
        if setting is None:
            return "", 0
        return (self.main_cf, setting.line) if setting.line else (COMMAND_LINE, 0)


def load(directory: Path, overrides: Mapping[str, str] | None = None, *, hostname: str | None = None) -> Configuration:
    """The configuration in ``directory``, in which ``overrides`` (of the command line) go before main.cf.

    ``hostname`` is the host's own name; the system is asked when it is None. Never raises: see ``problems``.
    """
    problems: list[Problem] = []
    main_text = _read(directory / "main.cf", problems)
    master_text = _read(directory / "master.cf", problems)
    if main_text is None and not directory.is_dir() and directory != DEFAULT_DIRECTORY:
        problems.append(Problem(str(directory), 0, Level.ERROR, "there is no such directory"))
    return build(directory, main_text, master_text, overrides, hostname=hostname, problems=problems)


def build(
    directory: Path,
    main_text: str | None,
    master_text: str | None,
    overrides: Mapping[str, str] | None = None,
    *,
    hostname: str | None = None,
    interfaces: Callable[[], tuple[Interface, ...]] | None = None,
    problems: list[Problem] | None = None,
) -> Configuration:
    """As load(), from the texts of the files; None is a file that is not there.

    ``interfaces`` gives the addresses of this host (the system is asked when it is None); it is called only where
    mynetworks_style needs them.
    """
    problems = [] if problems is None else problems
    main_file, master_file = str(directory / "main.cf"), str(directory / "master.cf")
    main = MainCf() if main_text is None else read_main_cf(main_text, main_file)
    master = MasterCf(DEFAULT_LISTENERS) if master_text is None else read_master_cf(master_text, master_file)
    problems += main.problems + master.problems
    settings = {**main.settings, **{name: Setting(name, text, 0) for name, text in (overrides or {}).items()}}
    texts = {name: setting.text for name, setting in settings.items()}
    texts["config_directory"] = str(directory).replace("$", "$$")
    texts = {**_own_names(texts, os.uname().nodename if hostname is None else hostname), **texts}

    def complain(name: str, text: str) -> None:
        setting = settings.get(name)
        where = (main_file, setting.line) if setting is not None and setting.line else (COMMAND_LINE, 0)
        problems.append(Problem(*where, Level.ERROR, text))

    if "mynetworks_style" in texts and "mynetworks" not in texts:
        try:
            texts["mynetworks"] = _networks(texts, interfaces)
        except ExpansionError:
            pass  # the setting itself is complained of below
        except OSError as error:
            complain("mynetworks_style", f"mynetworks_style: the addresses of this host are not known: {error}")
    parameters = _parameters(texts, settings, complain)
    services = []
    for service in master.services:
        try:
            _parameters_of(service, parameters)
        except ParameterError as error:
            text = f"{error} (in the service {service.name})"
            problems.append(Problem(master_file, service.line, Level.ERROR, text))
            service = replace(service, overrides={})
        services.append(service)
    return Configuration(parameters, with_built_in(tuple(services)), directory, tuple(problems), settings)


def _parameters_of(service: Service, parameters: Parameters) -> Parameters:
    if not service.overrides:
        return parameters
    names = {"service_name": service.name.replace("$", "$$"), "process_name": service.command.replace("$", "$$")}
    return parameters.with_overrides({**service.overrides, **names})


def _networks(texts: Mapping[str, str], interfaces: Callable[[], tuple[Interface, ...]] | None) -> str:
    """What mynetworks is where mynetworks_style alone is set. Raises OSError, ExpansionError."""
    from ekiden.config.interfaces import networks_of_style, own_interfaces  # late: most configurations need it not

    style = expand(texts["mynetworks_style"], texts.get).strip()
    return " ".join(networks_of_style(style, (interfaces or own_interfaces)()))


def _read(path: Path, problems: list[Problem]) -> str | None:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problems.append(Problem(str(path), 0, Level.ERROR, f"cannot be read: {error.strerror or error}"))
        return ""


def _own_names(texts: Mapping[str, str], hostname: str) -> dict[str, str]:
    """The defaults of myhostname and mydomain (postconf(5)): each follows from the other, or from the host's name."""
    hostname = hostname.replace("$", "$$")
    own_domain = hostname.partition(".")[2]
    if "myhostname" not in texts:
        if own_domain:
            return {"myhostname": hostname, "mydomain": own_domain}
        return {"myhostname": f"{hostname or 'localhost'}.$mydomain", "mydomain": "localdomain"}

    def lookup(name: str) -> str | None:
        if name == "mydomain":
            raise ExpansionError("mydomain follows from myhostname")
        return texts.get(name)

    try:
        given = expand(texts["myhostname"], lookup)
    except ExpansionError:  # such as mx.$mydomain
        return {"mydomain": own_domain or "localdomain"}
    return {"mydomain": given.partition(".")[2].replace("$", "$$") or "localdomain"}


def _parameters(
    texts: dict[str, str], settings: Mapping[str, Setting], complain: Callable[[str, str], None]
) -> Parameters:
    """The snapshot; a setting that cannot be used is told to ``complain`` and left out."""
    texts = dict(texts)
    suspects = set(settings)
    declared = Parameters.declared()
    while True:
        try:
            return Parameters(texts)
        except ParameterError as error:
            guilty = error.name if error.name in suspects else _guilty(error.name, suspects, texts)
            if guilty is None:
                raise  # a default of our own is wrong: a bug, which a test finds
            complain(guilty, f"{guilty} = {settings[guilty].text}: {error.problem}")
            suspects.discard(guilty)
            if guilty in ("myhostname", "mydomain"):  # their declared defaults refer to nothing
                texts[guilty] = declared[guilty].default
            elif guilty in declared:
                del texts[guilty]
            else:
                texts[guilty] = ""  # an own name: whoever refers to it is not to blame


def _guilty(name: str, suspects: set[str], texts: Mapping[str, str]) -> str | None:
    """Which setting is to blame when the default of parameter ``name`` does not work: one that it leads to."""
    declared = Parameters.declared()
    seen: set[str] = set()
    waiting = [name]
    found = None
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in suspects:
            found = current  # the farthest one on the way is where the trouble begins
        text = texts.get(current)
        if text is None:
            text = declared[current].default if current in declared else ""
        waiting.extend(references(text))
    return found
