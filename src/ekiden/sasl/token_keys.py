"""The keys that an issuer signs its tokens with (RFC 7517): fetched, kept for a time, fetched anew for an unknown one.

joserfc checks the signatures; this is the only module that imports it (``pip install 'ekiden[oidc]'``).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import warnings
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from ekiden.config.errors import ConfigError
from ekiden.sasl.accounts import AccountTrouble

# Signatures by a key that is public: never a MAC, never none (RFC 8725 §3.1).
ALGORITHMS = MappingProxyType({
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP", "Ed25519": "OKP",
})  # fmt: skip
_REFETCH_S = 30.0
_KEY_LIMIT = 100
_STALE = 10  # times the keys' time: so long they count while they cannot be fetched

Fetch = Callable[[], Awaitable[bytes]]


class TokenProblem(Exception):
    """The token is not one of the issuer's; the text is for the log."""


class TokenKeys:
    """``fetch`` gives the document with the keys, and raises AccountTrouble. ``monotonic`` is in seconds."""

    def __init__(self, fetch: Fetch, keep_s: float, monotonic: Callable[[], float]) -> None:
        """Raises ConfigError without the library."""
        try:
            from joserfc import jwk, jwt
            from joserfc.errors import JoseError, SecurityWarning
        except ImportError:
            raise ConfigError("tokens need a library that is not there: pip install 'ekiden[oidc]'") from None
        self._jwk, self._jwt = jwk, jwt
        self._errors: tuple[type[Exception], ...] = (JoseError, ValueError, KeyError, TypeError)
        self._warning = SecurityWarning
        self._fetch, self._keep_s, self._monotonic = fetch, keep_s, monotonic
        self._keys: list[tuple[Mapping[str, object], Any]] = []
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def claims(self, token: str) -> dict[str, object]:
        """What the token says, once its signature is right. Raises TokenProblem, AccountTrouble."""
        header = _header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise TokenProblem(f"it is signed by {str(algorithm)[:20]!r}")
        if "crit" in header or "b64" in header:  # RFC 7515 §4.1.11: what we do not know must not be passed over
            raise TokenProblem("its header asks for what is not there")
        for key in await self._candidates(algorithm, key_id):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", self._warning)  # of the name EdDSA, which all use
                    found = self._jwt.decode(token, key, algorithms=[algorithm])
            except self._errors:
                continue
            return dict(found.claims)
        raise TokenProblem("its signature is wrong")

    async def _candidates(self, algorithm: str, key_id: object) -> list[Any]:
        """The keys that may have signed it; at most one where the token names it."""
        await self._refresh(self._keep_s)
        found = self._fitting(algorithm, key_id)
        if not found:  # the issuer may have a new one
            await self._refresh(_REFETCH_S)
            found = self._fitting(algorithm, key_id)
        if not found:
            raise TokenProblem("its key is unknown")
        return found

    def _fitting(self, algorithm: str, key_id: object) -> list[Any]:
        return [
            key
            for facts, key in self._keys
            if facts.get("kty") == ALGORITHMS[algorithm]
            and facts.get("use", "sig") == "sig"
            and facts.get("alg", algorithm) == algorithm
            and (key_id is None or facts.get("kid") == key_id)
        ]

    async def _refresh(self, older_s: float) -> None:
        """Fetch the keys if they are older; who comes meanwhile waits for the same answer. Raises AccountTrouble."""
        async with self._fetching:
            now = self._monotonic()
            if now - self._fetched < older_s or now - self._tried < min(older_s, _REFETCH_S):
                if not self._keys and now - self._fetched >= older_s:
                    raise AccountTrouble("the issuer's keys could not be fetched a moment ago")
                return
            self._tried = now
            try:
                self._keys = self._parsed(await self._fetch())
                self._fetched = now
            except AccountTrouble:
                if now - self._fetched > _STALE * self._keep_s:
                    self._keys = []
                    raise

    def _parsed(self, document: bytes) -> list[tuple[Mapping[str, object], Any]]:
        """Keys that we cannot use are passed over (RFC 7517 §5). Raises AccountTrouble."""
        try:
            found = msgspec.json.decode(document)
            listed = found["keys"]
            if not isinstance(listed, list):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise AccountTrouble("the issuer's keys cannot be understood") from None
        keys: list[tuple[Mapping[str, object], Any]] = []
        for facts in listed[:_KEY_LIMIT]:
            if not isinstance(facts, dict) or facts.get("kty") not in ("RSA", "EC", "OKP"):
                continue
            public = {name: value for name, value in facts.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
            try:
                keys.append((public, self._jwk.import_key(public)))
            except self._errors:
                continue
        return keys


def _header(token: str) -> dict[str, object]:
    """Raises TokenProblem."""
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenProblem("it is no signed JWT")
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise TokenProblem("its header cannot be read") from None
    if not isinstance(found, dict):
        raise TokenProblem("its header cannot be read")
    return found
