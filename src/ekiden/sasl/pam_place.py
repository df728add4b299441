"""``pam:SERVICE``: passwords that PAM checks, in a thread, by the file SERVICE in /etc/pam.d.

The server's workers are not root: what a module of PAM may read, they must be able to read. For pam_unix that is the
file of shadow(5) (the group shadow); where they shall not, use saslauthd. The library is an extra: ekiden[pam].
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Hashable
from pathlib import Path

from ekiden.config.errors import ConfigError
from ekiden.sasl.accounts import AccountTrouble, HashName, Outcome, ScramKeys, Verdict
from ekiden.sasl.hash_pool import HashPool
from ekiden.sasl.open import Opening

# Linux-PAM's _pam_types.h: what says that this user may not, as against "I cannot tell".
_WRONG = frozenset({
    6,  # PAM_PERM_DENIED
    7,  # PAM_AUTH_ERR
    10,  # PAM_USER_UNKNOWN
    11,  # PAM_MAXTRIES
    12,  # PAM_NEW_AUTHTOK_REQD
    13,  # PAM_ACCT_EXPIRED
    16,  # PAM_CRED_EXPIRED
    27,  # PAM_AUTHTOK_EXPIRED
})  # fmt: skip
_WAITING = 50

Authenticate = Callable[[str, str, str], tuple[int, str]]


def open_place(where: str, opening: Opening) -> PamPlace:
    """Raises ConfigError."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", where) is None:
        raise ConfigError("write pam:SERVICE, the name of a file in /etc/pam.d, such as pam:smtp")
    parameters = opening.parameters
    return PamPlace(where, parameters.sasl_pam_threads, parameters.sasl_server_timeout, system_pam())


def system_pam() -> Authenticate:
    """A question to PAM: user, password, service; the code and the reason. Raises ConfigError without the library."""
    try:
        import pam
    except ImportError:
        raise ConfigError("PAM needs a library that is not there: pip install 'ekiden[pam]'") from None

    def authenticate(user: str, password: str, service: str) -> tuple[int, str]:
        # One object a call: they are not for several threads.
        conversation = pam.PamAuthenticator()
        conversation.authenticate(user, password, service, resetcreds=False)
        return int(conversation.code), str(conversation.reason)

    return authenticate


class PamPlace:
    """A thread that PAM does not give back within the time keeps its place: ``threads`` bounds them."""

    def __init__(self, service: str, threads: int, timeout_s: float, authenticate: Authenticate) -> None:
        self.name = f"pam:{service}"
        self._service, self._timeout_s, self._authenticate = service, timeout_s, authenticate
        self._pool = HashPool(threads, _WAITING)

    async def verify(self, name: str, password: str) -> Verdict:
        try:
            async with asyncio.timeout(self._timeout_s):
                code, reason = await self._pool.run(lambda: self._authenticate(name, password, self._service))
        except TimeoutError:
            raise AccountTrouble("PAM does not answer") from None
        except (OSError, ValueError) as error:
            raise AccountTrouble(f"PAM: {error}") from error
        if code == 0:
            return Verdict(Outcome.OK, name)
        if code not in _WRONG:
            raise AccountTrouble(f"PAM: {reason}")
        return Verdict(Outcome.WRONG, name, f"PAM: {reason}")

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        return None

    async def is_disabled(self, name: str) -> bool | None:
        return None

    async def stamp(self, name: str) -> Hashable | None:
        return None

    def check(self) -> list[str]:
        file = Path("/etc/pam.d") / self._service
        return [] if file.exists() else [f"{file} is not there: PAM would ask its service other, which refuses all"]

    async def aclose(self) -> None:
        self._pool.close()
