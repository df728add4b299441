"""Whether the keys that dkim_signing_table and arc_seal_key name can sign, for ``ekiden check``.

A server starts without them too, and warns in its log message by message (or has clients wait: dkim_signing_required).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from ekiden.auth.dkim.keys import KeyTrouble
from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.problem import Level, Problem
from ekiden.config.snapshot import Parameters
from ekiden.policy.arc_sealing import sealing_key
from ekiden.policy.dkim_signing import KeyRing, NamedKey, listed_keys
from ekiden.runtime.key_vault import key_files_of
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import table_entries


def check_dkim(configuration: Configuration) -> list[Problem]:
    """Each problem once, at the line that sets the parameter. Tables that cannot be listed are passed over."""
    all_parameters = {"": configuration.parameters}
    for service in configuration.services:
        if {"dkim_signing_table", "arc_seal_key", "dkim_key_directory"} & set(service.overrides):
            all_parameters[service.name] = configuration.parameters_of(service)
    if not any(parameters.dkim_signing_table or parameters.arc_seal_key for parameters in all_parameters.values()):
        return []
    files = key_files_of(configuration)
    ring = KeyRing(lambda: files)
    found: list[Problem] = []
    for name, parameters in all_parameters.items():
        for parameter, level, text in _of_parameters(parameters, ring):
            place = configuration.place(parameter)
            if name:
                line = next(service.line for service in configuration.services if service.name == name)
                place = (configuration.master_cf, line)
            found.append(Problem(place[0] or configuration.main_cf, place[1], level, f"{parameter}: {text}"))
    return list(dict.fromkeys(found))


def _of_parameters(parameters: Parameters, ring: KeyRing) -> Iterator[tuple[str, Level, str]]:
    """The parameter, and what is wrong with it."""
    for level, text in _of_table(parameters, ring):
        yield "dkim_signing_table", level, text
    try:
        named = sealing_key(parameters)
    except ConfigError as error:
        yield "arc_seal_key", Level.ERROR, error.text.removeprefix("arc_seal_key: ")
        return
    if named is not None:
        for level, text in _of_key("", named, ring):
            yield "arc_seal_key", level, text


def _of_table(parameters: Parameters, ring: KeyRing) -> Iterator[tuple[Level, str]]:
    directory = os.path.normpath(parameters.dkim_key_directory)
    for word in parameters.dkim_signing_table:
        try:
            entries = list(table_entries(word, parameters, what="what is checked"))
        except (ConfigError, TableTrouble):
            continue  # what is wrong with the table itself, tables.check says
        for entry, named in listed_keys(entries, directory):
            if isinstance(named, KeyTrouble):
                yield Level.ERROR, f"{entry}: {named}"
            else:
                yield from _of_key(f"{entry}: ", named, ring)


def _of_key(entry: str, named: NamedKey, ring: KeyRing) -> Iterator[tuple[Level, str]]:
    """``entry``: of which entry of a table it is, with ": "."""
    try:
        key = ring.key(named)
    except KeyTrouble as trouble:
        if not os.access(named.file, os.R_OK) and os.geteuid() != 0:
            # Whether this is wrong depends on who starts the server.
            text = f"{entry}{named.file}: {trouble}; where root starts the server, check as root"
            yield Level.WARNING, text
        else:
            yield Level.ERROR, f"{entry}{named.file}: {trouble}"
        return
    if key.advice:
        yield Level.WARNING, f"{entry}{named.file}: {key.advice}"
    with contextlib.suppress(OSError):  # gone since it was read: the next check says so
        if os.stat(named.file).st_mode & stat.S_IROTH:
            yield Level.WARNING, f"{entry}{named.file} can be read by everybody on this host: chmod 600"
