"""Whether the certificates and keys that a configuration names can be used, for ``ekiden check``.

A server starts without them too, and says so in its log: mail goes on in the clear where it may.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.problem import Level, Problem
from ekiden.runtime.key_vault import key_files_of
from ekiden.tls.key_files import KeyFiles, key_pairs, offers_tls
from ekiden.tls.server_context import ServerContexts, TlsTrouble

_DENIED = f": {os.strerror(errno.EACCES)}"
_PARAMETER = re.compile(r"[A-Za-z0-9_]+")


def check_keys(configuration: Configuration) -> list[Problem]:
    """Each problem once, at the line that sets the parameter which its text begins with."""
    files = key_files_of(configuration)
    found = (
        problem
        for service in configuration.services
        if service.command in ("smtpd", "lmtpd")
        for problem in _of_service(configuration, service, files)
    )
    return list(dict.fromkeys(found))


def _of_service(configuration: Configuration, service: Service, files: KeyFiles) -> Iterator[Problem]:
    parameters = configuration.parameters_of(service)
    if not offers_tls(parameters):
        return
    # Without any certificate nothing is broken: TLS has been wished for and not been given what it needs.
    level = Level.ERROR if list(key_pairs(parameters)) else Level.WARNING
    try:
        contexts = ServerContexts(parameters, files, service=service.name)
    except TlsTrouble as trouble:
        if str(trouble).endswith(_DENIED) and os.geteuid() != 0:
            # Whether this is wrong depends on who starts the server.
            text = f"{trouble}: you may not read it; where root starts the server, check as root"
            yield _problem(configuration, service, text, Level.WARNING)
            return
        yield _problem(configuration, service, f"{trouble}; TLS is not available ({service.name})", level)
        return
    for text in contexts.check_names():
        yield _problem(configuration, service, text, Level.ERROR)
    if parameters.smtpd_tls_req_ccert and not contexts.is_mandatory:
        text = "smtpd_tls_req_ccert = yes: no certificate is required where TLS itself is not"
        yield _problem(configuration, service, text, Level.WARNING)
    if parameters.relay_clientcerts and not contexts.asks_certificate:
        text = "relay_clientcerts: no client shows a certificate without smtpd_tls_ask_ccert = yes"
        yield _problem(configuration, service, text, Level.WARNING)


def _problem(configuration: Configuration, service: Service, text: str, level: Level) -> Problem:
    named = _PARAMETER.match(text)
    assert named is not None  # a text begins with a parameter
    if named[0] in service.overrides:
        return Problem(configuration.master_cf, service.line, level, text)
    file, line = configuration.place(named[0])
    return Problem(file or configuration.main_cf, line, level, text)
