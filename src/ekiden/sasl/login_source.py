"""Who checks logins, by smtpd_sasl_type: the places of our own accounts, saslauthd, or Dovecot."""

from __future__ import annotations

import os

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.cyrus_configuration import DIRECTORIES, read_cyrus_configuration
from ekiden.sasl.dovecot import DovecotMechanisms
from ekiden.sasl.open import open_accounts
from ekiden.tables.stream import ServerAddress, parse_address


class LoginSource(Struct, frozen=True):
    """``accounts`` for our own mechanisms, or ``relay`` for another server's; one of them is there.

    ``mechanisms``: the only ones that may be offered, where that is said (Cyrus SASL's mech_list).
    """

    accounts: AccountList | None = None
    relay: DovecotMechanisms | None = None
    mechanisms: frozenset[str] = frozenset()


def open_login_source(parameters: Parameters, clock: Clock) -> LoginSource:
    """Raises ConfigError."""
    if parameters.smtpd_sasl_type == "dovecot":
        server = dovecot_server(parameters.smtpd_sasl_path, parameters.queue_directory)
        return LoginSource(relay=DovecotMechanisms(server, parameters.sasl_server_timeout))
    if parameters.smtpd_sasl_type == "cyrus":
        directories = [each for each in parameters.cyrus_sasl_config_path.split(":") if each] or DIRECTORIES
        found = read_cyrus_configuration(parameters.smtpd_sasl_path, directories)
        if found is not None:
            accounts = open_accounts(parameters, clock, places=[f"saslauthd:{found.saslauthd}"])
            return LoginSource(accounts, mechanisms=found.mechanisms)
    return LoginSource(open_accounts(parameters, clock))


def dovecot_server(path: str, queue_directory: str) -> ServerAddress:
    """``private/auth`` (below queue_directory), ``/path``, ``unix:path`` or ``inet:host:port``. Raises ConfigError."""
    if path.startswith("inet:"):
        try:
            return parse_address(path, None)
        except ConfigError as error:
            raise ConfigError(f"smtpd_sasl_path = {path}: {error.text}") from error
    path = path.removeprefix("unix:")
    if not path:
        raise ConfigError("smtpd_sasl_path = : write the path of Dovecot's auth socket, or inet:host:port")
    return ServerAddress("", 0, os.path.join(queue_directory, path))
