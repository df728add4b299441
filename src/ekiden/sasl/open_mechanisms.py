"""The mechanisms of login that a service has, as its parameters say."""

from __future__ import annotations

from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.sasl.accounts import Accounts
from ekiden.sasl.exchange import Mechanisms
from ekiden.sasl.login_secret import NAME, LoginSecret
from ekiden.sasl.open import open_accounts
from ekiden.sasl.own_mechanisms import OwnMechanisms
from ekiden.sasl.realm import RealmAccounts
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.scram_server import MadeUp


def open_mechanisms(parameters: Parameters, clock: Clock) -> Mechanisms:
    """Raises ConfigError, whose text begins with the parameter to mend."""
    accounts: Accounts = open_accounts(parameters, clock)
    if parameters.smtpd_sasl_local_domain:
        accounts = RealmAccounts(accounts, parameters.smtpd_sasl_local_domain)
    secret = LoginSecret(Path(parameters.queue_directory) / "run" / NAME)
    made_up = MadeUp(lambda: secret.value, iterations=parameters.sasl_scram_iterations, canonical=_canonical)
    return OwnMechanisms(accounts, made_up)


def _canonical(name: str) -> str:
    """As the places of accounts compare names."""
    try:
        return saslprep(name).casefold()
    except ValueError:
        return name
