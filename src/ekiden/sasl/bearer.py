"""The mechanisms that bring an OAuth 2.0 bearer token: OAUTHBEARER (RFC 7628), and XOAUTH2, which came before it.

A refused token is answered with a challenge that says what is wanted, and only the client's answer to that, which is
empty of meaning, ends the exchange (RFC 7628 §3.2.3).
"""

from __future__ import annotations

import re

import msgspec

from ekiden.sasl.accounts import Accounts, AccountTrouble
from ekiden.sasl.admission import admit, refused
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismTraits, Step
from ekiden.sasl.tokens import Tokens

OAUTHBEARER = MechanismTraits("OAUTHBEARER", plaintext=True, active=True)
XOAUTH2 = MechanismTraits("XOAUTH2", plaintext=True, active=True)

# RFC 7628 §3.1
#   kvsep          = %x01
#   client-resp    = (gs2-header kvsep *kvpair kvsep) / kvsep
#   gs2-header     = gs2-cb-flag "," [ "a=" saslname ] ","      (RFC 5801 §4)
# We bind no channel to a token: whoever asks for that ("p=...") is refused.
_OAUTHBEARER = re.compile(r"[ny],(?:a=((?:[^\0=,\x01]|=2C|=3D)+))?,\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01")
_XOAUTH2 = re.compile(r"user=([^\x01\0]*)\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01")
# RFC 6750 §2.1
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)")


class BearerServer:
    def __init__(self, accounts: Accounts, tokens: Tokens) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._mechanism = OAUTHBEARER.name
        self._failure: Failure | None = None  # what the client learns when it has answered our challenge

    async def start(self, mechanism: str, initial: bytes | None, _facts: Facts) -> Step:
        self._mechanism = mechanism
        return Challenge() if initial is None else await self.respond(initial)

    async def respond(self, data: bytes) -> Step:
        if self._failure is not None:
            return self._failure
        message = self._parsed(data)
        if message is None:
            return Failure("malformed message", malformed=True)
        name, token = message
        step = await self._judged(name, token)
        if not isinstance(step, Failure) or step.temporary:
            return step
        self._failure = step
        return Challenge(self._error())

    async def _judged(self, name: str, token: str) -> Step:
        if not token:
            return Failure("no token", account=name)
        try:
            verdict = await self._tokens.verify_token(token, name)
        except AccountTrouble as trouble:
            return Failure(str(trouble), temporary=True, account=name)
        if not verdict.accepted:
            return refused(verdict, name)
        return await admit(self._accounts, verdict.account, name)

    def _parsed(self, data: bytes) -> tuple[str, str] | None:
        """Name and token; the token is "" where there is none that could be one."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return None
        found = (_XOAUTH2 if self._mechanism == XOAUTH2.name else _OAUTHBEARER).fullmatch(text)
        if found is None:
            return None
        name = (found[1] or "").replace("=2C", ",").replace("=3D", "=") if self._mechanism != XOAUTH2.name else found[1]
        pairs = [pair.partition("=") for pair in found[2].split("\x01") if pair]
        values = [value for key, _, value in pairs if key.lower() == "auth"]
        bearer = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
        return name, "" if bearer is None else bearer[1]

    def _error(self) -> bytes:
        if self._mechanism == XOAUTH2.name:
            return msgspec.json.encode({"status": "401", "schemes": "bearer", "scope": self._tokens.scope})
        error = {"status": "invalid_token"}
        if self._tokens.scope:
            error["scope"] = self._tokens.scope
        if self._tokens.discovery:
            error["openid-configuration"] = self._tokens.discovery
        return msgspec.json.encode(error)

    def abandon(self) -> None:
        self._failure = None
