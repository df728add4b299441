"""The mechanism PLAIN: name and password in one message (RFC 4616)."""

from __future__ import annotations

from ekiden.sasl.accounts import Accounts
from ekiden.sasl.admission import admit_password
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismTraits, Step

PLAIN = MechanismTraits("PLAIN", plaintext=True, dictionary=True, active=True)


class PlainServer:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def start(self, _mechanism: str, initial: bytes | None, _facts: Facts) -> Step:
        return Challenge() if initial is None else await self.respond(initial)

    async def respond(self, data: bytes) -> Step:
        # RFC 4616 §2
        #   message   = [authzid] UTF8NUL authcid UTF8NUL passwd
        #   authcid   = 1*SAFE        ; any UTF-8 character except NUL, as are the others
        try:
            wanted, name, password = data.decode("utf-8").split("\0")
        except ValueError:  # UnicodeDecodeError is one
            return Failure("malformed message", malformed=True)
        return await admit_password(self._accounts, name, password, wanted)

    def abandon(self) -> None:
        """Nothing is kept."""
