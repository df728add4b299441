"""Whether deliveries can have the TLS and login that a configuration asks for: files, ciphers, policies, accounts.

Part of ``ekiden check``. Where TLS is only a wish, what is wrong is a warning: mail goes out all the same.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator

from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.problem import Level as Severity
from ekiden.config.problem import Problem
from ekiden.config.snapshot import Parameters
from ekiden.runtime.key_vault import key_files_of
from ekiden.tables.index import IndexTable
from ekiden.tables.inline import InlineTable
from ekiden.tables.open import FILE_TYPES, open_table
from ekiden.tables.table import TableTrouble
from ekiden.tables.texthash import TexthashTable
from ekiden.tls.client_context import ClientContexts
from ekiden.tls.configured_policy import ConfiguredPolicies, PolicySyntax
from ekiden.tls.policy import Level

_LISTABLE = (IndexTable, InlineTable, TexthashTable)


def check_client_tls(configuration: Configuration) -> Iterator[Problem]:
    said: set[str] = set()
    files = key_files_of(configuration)
    for service in configuration.services:
        if service.command not in ("smtp", "lmtp"):
            continue
        parameters = configuration.parameters_of(service)
        policies = ConfiguredPolicies(parameters, service.command)
        contexts = ClientContexts(parameters, service.command, monotonic=time.monotonic, key_files=lambda: files)
        level = policies.default.level
        if level is not Level.NONE:
            try:
                contexts.check(policies.default)
            except ConfigError as error:
                severity = Severity.ERROR if level.is_mandatory else Severity.WARNING
                if error.text not in said:
                    said.add(error.text)
                    yield _problem(configuration, service, severity, error.text)
        for text in _logins(parameters, service.command):
            if text not in said:
                said.add(text)
                yield _problem(configuration, service, Severity.WARNING, text)
        for text in _policy_lines(parameters, service.command, policies):
            if text not in said:
                said.add(text)
                yield _problem(configuration, service, Severity.ERROR, text)


def _logins(parameters: Parameters, prefix: str) -> Iterator[str]:
    name = f"{prefix}_sasl_password_maps"
    words: tuple[str, ...] = getattr(parameters, name)
    enable = f"{prefix}_sasl_auth_enable"
    if not getattr(parameters, enable):
        return
    if not words:
        yield f"{enable} = yes: {name} is empty, so there is no account to log in with"
    for word in words:
        kind, _, path = word.partition(":")
        try:
            mode = os.stat(path.strip()).st_mode if kind in FILE_TYPES else 0
        except OSError:
            continue  # tables.check tells of it
        if mode & stat.S_IROTH:
            yield f"{name}: {path.strip()} has passwords, and everybody can read it"


def _policy_lines(parameters: Parameters, prefix: str, policies: ConfiguredPolicies) -> Iterator[str]:
    """What cannot be read in the tables that can be listed: mail of such a next hop would wait."""
    name = f"{prefix}_tls_policy_maps"
    words: tuple[str, ...] = getattr(parameters, name)
    for word in words:
        table = open_table(word, parameters=parameters)
        if not isinstance(table, _LISTABLE):
            continue
        try:
            for key, value in table.items():
                try:
                    policies.parse(value)
                except PolicySyntax as error:
                    yield f"{name}: {word}: {key}: {error}"
        except TableTrouble:
            continue  # tables.check tells of it


def _problem(configuration: Configuration, service: Service, severity: Severity, text: str) -> Problem:
    name = text.partition(":")[0].partition(" ")[0]
    if name in service.overrides and service.line:
        return Problem(configuration.master_cf, service.line, severity, text)
    file, line = configuration.place(name)
    return Problem(file or configuration.main_cf, line, severity, text)
