"""The mechanisms of login that a service has, as its parameters say."""

from __future__ import annotations

from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.sasl.accounts import Accounts
from ekiden.sasl.exchange import Mechanisms, MechanismServer, MechanismTraits
from ekiden.sasl.login_secret import NAME, LoginSecret
from ekiden.sasl.login_source import open_login_source
from ekiden.sasl.oauth import open_tokens
from ekiden.sasl.own_mechanisms import OwnMechanisms
from ekiden.sasl.realm import RealmAccounts
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.scram_server import MadeUp


def open_mechanisms(parameters: Parameters, clock: Clock) -> Mechanisms:
    """Raises ConfigError, whose text begins with the parameter to mend, or which has the place in a file."""
    source = open_login_source(parameters, clock)
    if source.relay is not None:
        return source.relay
    assert source.accounts is not None
    accounts: Accounts = source.accounts
    if parameters.smtpd_sasl_local_domain:
        accounts = RealmAccounts(accounts, parameters.smtpd_sasl_local_domain)
    secret = LoginSecret(Path(parameters.queue_directory) / "run" / NAME)
    made_up = MadeUp(lambda: secret.value, iterations=parameters.sasl_scram_iterations, canonical=_canonical)
    own = OwnMechanisms(accounts, made_up, tokens=open_tokens(parameters, clock))
    return OnlyMechanisms(own, source.mechanisms) if source.mechanisms else own


class OnlyMechanisms:
    """Those of ``mechanisms`` that are named."""

    def __init__(self, mechanisms: Mechanisms, names: frozenset[str]) -> None:
        self._mechanisms, self._names = mechanisms, names

    async def mechanisms(self) -> tuple[MechanismTraits, ...]:
        return tuple(each for each in await self._mechanisms.mechanisms() if each.name in self._names)

    def exchange(self) -> MechanismServer:
        return self._mechanisms.exchange()

    async def aclose(self) -> None:
        await self._mechanisms.aclose()


def _canonical(name: str) -> str:
    """As the places of accounts compare names."""
    try:
        return saslprep(name).casefold()
    except ValueError:
        return name
