"""``saslauthd:/path``: passwords that saslauthd checks, with PAM, shadow, Kerberos or whatever it was started with.

It says yes or no, and nothing of whether there is such an account. One connection a question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from ekiden.protocol import saslauthd
from ekiden.sasl.accounts import AccountTrouble, HashName, Outcome, ScramKeys, Verdict
from ekiden.sasl.open import Opening, full_path
from ekiden.tables.server_pool import ServerTrouble
from ekiden.tables.stream import ServerAddress, Stream


def open_place(where: str, opening: Opening) -> SaslauthdPlace:
    """Raises ConfigError."""
    return SaslauthdPlace(str(full_path(where)), opening.parameters.sasl_server_timeout)


class SaslauthdPlace:
    """``service`` is the PAM service that saslauthd asks, where it asks PAM."""

    def __init__(self, path: str, timeout_s: float, service: str = "smtp") -> None:
        self.name = f"saslauthd:{path}"
        self._server = ServerAddress("", 0, path)
        self._timeout_s, self._service = timeout_s, service

    async def verify(self, name: str, password: str) -> Verdict:
        # As Cyrus SASL does it: what is after the @ is the realm.
        user, _, realm = name.rpartition("@") if "@" in name else (name, "", "")
        try:
            request = saslauthd.request(user, password, self._service, realm)
        except ValueError as error:
            return Verdict(Outcome.WRONG, name, str(error))
        try:
            async with asyncio.timeout(self._timeout_s):
                right, reason = await self._ask(request)
        except (OSError, ServerTrouble, TimeoutError) as error:
            text = "it does not answer" if isinstance(error, TimeoutError) else str(error)
            raise AccountTrouble(f"saslauthd: {text}") from error
        if not right:
            return Verdict(Outcome.WRONG, name, f"saslauthd: {reason or 'no'}"[:200])
        return Verdict(Outcome.OK, name)

    async def _ask(self, request: bytes) -> tuple[bool, str]:
        stream = await Stream.open(self._server, saslauthd.REPLY_LIMIT)
        try:
            stream.send(request)
            return await stream.receive(saslauthd.parse_reply)
        finally:
            stream.close()

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        return None

    async def is_disabled(self, name: str) -> bool | None:
        return None

    async def stamp(self, name: str) -> Hashable | None:
        return None

    def check(self) -> list[str]:
        return []

    async def aclose(self) -> None:
        pass
