"""Looks the places of accounts over: files that are not there or that others may read, settings that are none.

Part of ``ekiden check``, beside runtime.stations_check, which tells of places that cannot be opened at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.problem import Level, Problem
from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.login_source import open_login_source

_NAMES = ("sasl_accounts", "smtpd_sasl_type", "smtpd_sasl_auth_enable")


def check_accounts(configuration: Configuration, clock: Clock) -> list[Problem]:
    """Warnings for each service where clients can log in; places that are opened alike are looked at once."""
    found: dict[Problem, None] = {}
    for service in configuration.services:
        if service.command != "smtpd":
            continue
        parameters = configuration.parameters_of(service)
        if parameters.smtpd_sasl_auth_enable:
            place = next((at for name in _NAMES if (at := configuration.place(name))[0]), (configuration.master_cf, 0))
            if not configuration.place("sasl_accounts")[0] and "sasl_accounts" in service.overrides:
                place = (configuration.master_cf, service.line)
            for level, text in _problems(parameters, clock):
                found[Problem(*place, level, text)] = None
    return list(found)


def _problems(parameters: Parameters, clock: Clock) -> Iterator[tuple[Level, str]]:
    async def look() -> list[tuple[Level, str]]:
        source = open_login_source(parameters, clock)
        if source.relay is not None:
            await source.relay.aclose()
            return []
        assert source.accounts is not None
        try:
            problems = [(Level.WARNING, text) for text in source.accounts.check()]
            return problems or [(Level.INFO, text) for text in _nobody(parameters, source.accounts)]
        finally:
            await source.accounts.aclose()

    try:
        yield from asyncio.run(look())
    except ConfigError:
        return  # told with the stations, which cannot be made


def _nobody(parameters: Parameters, accounts: AccountList) -> Iterator[str]:
    """Where nobody can log in, because there is no account anywhere."""
    kinds = [place.name.partition(":") for place in accounts.places]
    if any(kind != "file" or Path(where).exists() for kind, _, where in kinds):
        return
    names = ", ".join(where for _, _, where in kinds) or "sasl_accounts is empty"
    cyrus = parameters.smtpd_sasl_path if parameters.smtpd_sasl_type == "cyrus" else ""
    also = f", and no {cyrus}.conf of Cyrus SASL" if cyrus else ""
    yield f"there are no accounts yet ({names}{also}): make one with: ekiden user add NAME"
