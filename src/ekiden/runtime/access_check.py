"""What is wrong with the access rules and the login of the listeners: part of ``ekiden check`` and of every start.

No list of restrictions that would make this host an open relay gets past it in silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.problem import Level, Problem
from ekiden.config.snapshot import Parameters
from ekiden.policy.access_rules import LISTS, AccessLists, access_lists


def check_access(configuration: Configuration) -> list[Problem]:
    listeners = [service for service in configuration.services if service.command == "smtpd" and service.type == "inet"]
    found = [
        problem
        for service in listeners
        for problem in _service(configuration, service, configuration.parameters_of(service))
    ]
    return list(dict.fromkeys(found))


def _service(configuration: Configuration, service: Service, parameters: Parameters) -> Iterator[Problem]:
    def problem(name: str, level: Level, text: str) -> Problem:
        if name in service.overrides:
            return Problem(configuration.master_cf, service.line, level, f"{text} (-o in {service.name})")
        return Problem(*configuration.place(name), level, text)

    try:
        lists = access_lists(parameters)
    except ConfigError as error:
        name = error.text.partition(":")[0]
        # A list that is not set anywhere cannot be what is wrong, unless its default leads there.
        yield problem(name, Level.ERROR, error.text)
        return
    yield from (
        problem(name, Level.WARNING, f"{name}: {written} is not there yet: passed over")
        for name, found in lists.by_name.items()
        for written in found.passed_over
    )
    if "permit_tls_all_clientcerts" in _names(lists):
        text = (
            "permit_tls_all_clientcerts permits every client whose certificate a trusted authority has made: "
            "smtpd_tls_CAfile must hold no authority but your own"
        )
        name = next(name for name in LISTS if "permit_tls_all_clientcerts" in lists.names_of(name))
        yield problem(name, Level.WARNING, text)
    if parameters.smtpd_sasl_auth_enable and parameters.smtpd_tls_auth_only and not _has_tls(parameters):
        text = (
            "smtpd_sasl_auth_enable = yes, but nobody can log in: there is no TLS (smtpd_tls_security_level), and "
            "smtpd_tls_auth_only = yes, the default here, allows it with TLS alone"
        )
        yield problem("smtpd_sasl_auth_enable", Level.WARNING, text)


def _has_tls(parameters: Parameters) -> bool:
    if parameters.smtpd_tls_wrappermode or parameters.smtpd_tls_security_level in ("may", "encrypt"):
        return True
    return not parameters.smtpd_tls_security_level and (parameters.smtpd_use_tls or parameters.smtpd_enforce_tls)


def _names(lists: AccessLists) -> set[str]:
    return {restriction for name in LISTS for restriction in lists.names_of(name)}
