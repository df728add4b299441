"""Our own mechanisms over the accounts that we know (``smtpd_sasl_type = ekiden``)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

from ekiden.sasl.accounts import Accounts, HashName
from ekiden.sasl.bearer import OAUTHBEARER, XOAUTH2, BearerServer
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismServer, MechanismTraits, Step
from ekiden.sasl.external import EXTERNAL, ExternalServer
from ekiden.sasl.login import LOGIN, LoginServer
from ekiden.sasl.plain import PLAIN, PlainServer
from ekiden.sasl.scram import ScramHash, hash_of
from ekiden.sasl.scram_server import MadeUp, ScramServer, traits
from ekiden.sasl.tokens import Tokens


def random_nonce() -> str:
    return base64.b64encode(secrets.token_bytes(24)).decode("ascii")


class OwnMechanisms:
    """``tokens`` None: no mechanism takes any."""

    def __init__(
        self,
        accounts: Accounts,
        made_up: MadeUp,
        *,
        tokens: Tokens | None = None,
        nonce: Callable[[], str] = random_nonce,
    ) -> None:
        self.accounts = accounts
        self.made_up = made_up
        self.tokens = tokens
        self.nonce = nonce
        self._made: tuple[frozenset[HashName], tuple[MechanismTraits, ...]] | None = None

    async def mechanisms(self) -> tuple[MechanismTraits, ...]:
        """The strongest first, for clients that take the first they know."""
        there = self.accounts.scram_hashes
        if self._made is None or self._made[0] is not there:
            self._made = there, self._make(there)
        return self._made[1]

    def _make(self, there: frozenset[HashName]) -> tuple[MechanismTraits, ...]:
        hashes = [each for each in (ScramHash.SHA256, ScramHash.SHA1) if each.value in there]
        bearers = () if self.tokens is None else (OAUTHBEARER, XOAUTH2)
        return (
            EXTERNAL,
            *(traits(each, plus=True) for each in hashes),
            *(traits(each, plus=False) for each in hashes),
            *bearers,
            PLAIN,
            LOGIN,
        )

    def exchange(self) -> MechanismServer:
        return OwnExchange(self)

    async def aclose(self) -> None:
        await self.accounts.aclose()


class OwnExchange:
    """One exchange; its start chooses the mechanism."""

    def __init__(self, own: OwnMechanisms) -> None:
        self._own = own
        self._server: MechanismServer | None = None

    async def start(self, mechanism: str, initial: bytes | None, facts: Facts) -> Step:
        server = self._of(mechanism)
        if server is None:
            return Failure(f"no mechanism {mechanism}")
        self._server = server
        return self._kept(await server.start(mechanism, initial, facts))

    async def respond(self, data: bytes) -> Step:
        if self._server is None:
            return Failure("a response without an exchange", malformed=True)
        return self._kept(await self._server.respond(data))

    def _kept(self, step: Step) -> Step:
        """An exchange that has ended does not begin again."""
        if not isinstance(step, Challenge):
            self._server = None
        return step

    def _of(self, mechanism: str) -> MechanismServer | None:
        own = self._own
        match mechanism:
            case PLAIN.name:
                return PlainServer(own.accounts)
            case LOGIN.name:
                return LoginServer(own.accounts)
            case EXTERNAL.name:
                return ExternalServer(own.accounts)
            case OAUTHBEARER.name | XOAUTH2.name:
                return None if own.tokens is None else BearerServer(own.accounts, own.tokens)
        if hash_of(mechanism) is not None:
            return ScramServer(own.accounts, own.made_up, own.nonce)
        return None

    def abandon(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.abandon()
