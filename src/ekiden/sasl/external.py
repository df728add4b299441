"""The mechanism EXTERNAL: the client is who its certificate says (RFC 4422 appendix A)."""

from __future__ import annotations

from ekiden.sasl.accounts import Accounts
from ekiden.sasl.admission import admit
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismTraits, Step

EXTERNAL = MechanismTraits("EXTERNAL", active=True)


class ExternalServer:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._name = ""

    async def start(self, _mechanism: str, initial: bytes | None, facts: Facts) -> Step:
        if facts.certificate_verified:
            self._name = facts.certificate_name
        return Challenge() if initial is None else await self.respond(initial)

    async def respond(self, data: bytes) -> Step:
        """``data`` is the authorization identity, which may be empty."""
        try:
            wanted = data.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("malformed message", malformed=True)
        if "\0" in wanted:
            return Failure("malformed message", malformed=True)
        if not self._name:
            return Failure("no certificate that names an account")
        return await admit(self._accounts, self._name, wanted)

    def abandon(self) -> None:
        """Nothing is kept."""
