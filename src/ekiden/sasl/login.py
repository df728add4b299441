"""The mechanism LOGIN, which no RFC has: old clients want to be asked for name and password one by one."""

from __future__ import annotations

from ekiden.sasl.accounts import Accounts
from ekiden.sasl.admission import admit_password
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismTraits, Step

LOGIN = MechanismTraits("LOGIN", plaintext=True, dictionary=True, active=True)

# Some clients look for these very words.
_ASKS_NAME = Challenge(b"Username:")
_ASKS_PASSWORD = Challenge(b"Password:")


class LoginServer:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._name: str | None = None

    async def start(self, _mechanism: str, initial: bytes | None, _facts: Facts) -> Step:
        """An initial response is the name."""
        return _ASKS_NAME if initial is None else await self.respond(initial)

    async def respond(self, data: bytes) -> Step:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("malformed message", malformed=True, account=self._name or "")
        if "\0" in text:
            return Failure("malformed message", malformed=True, account=self._name or "")
        if self._name is None:
            self._name = text
            return _ASKS_PASSWORD
        return await admit_password(self._accounts, self._name, text, "")

    def abandon(self) -> None:
        """Nothing is kept."""
