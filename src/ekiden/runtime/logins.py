"""The mechanisms of login of one configuration: services that say the same of accounts share them."""

from __future__ import annotations

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.sasl.exchange import Mechanisms
from ekiden.sasl.open_mechanisms import open_mechanisms

_OWN = ("smtpd_sasl_local_domain", "smtpd_sasl_type", "smtpd_sasl_path", "cyrus_sasl_config_path")


class Logins:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[tuple[object, ...], Mechanisms] = {}

    def of(self, parameters: Parameters) -> Mechanisms | None:
        """None where nobody can log in. Raises ConfigError."""
        if not parameters.smtpd_sasl_auth_enable:
            return None
        key = tuple(
            getattr(parameters, name) for name in parameters.declared() if name.startswith("sasl_") or name in _OWN
        )
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = open_mechanisms(parameters, self._clock)
        return found

    async def close(self) -> None:
        for mechanisms in self._made.values():
            await mechanisms.aclose()
