"""One place where accounts live, as sasl_accounts lists them; AccountList asks them in order."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Protocol

from msgspec import Struct

from ekiden.sasl.accounts import HashName, Outcome, ScramKeys, ScramPair, Verdict
from ekiden.sasl.hash_pool import HashPool
from ekiden.sasl.password_hash import DUMMY, SchemeTrouble, StoredPassword, parse_stored
from ekiden.sasl.saslprep import saslprep


class Place(Protocol):
    """Names and passwords come checked: not empty, no NUL, valid UTF-8, of a bounded length.

    What ``verify`` says as ``known`` has cost the time of a hash: whoever asks need not spend it again.
    """

    name: str  # as in sasl_accounts

    async def verify(self, name: str, password: str) -> Verdict:
        """Raises AccountTrouble when the place cannot be asked, HashingBusy."""

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        """None where the place does not have the account; one that may not log in so has no pairs.

        Raises AccountTrouble.
        """

    async def is_disabled(self, name: str) -> bool | None:
        """Of an account that the place has; None where it does not have it or cannot tell. Raises AccountTrouble."""

    async def stamp(self, name: str) -> Hashable | None:
        """What a verdict on ``name`` depends on: it holds as long as this is the same. None: that cannot be told.

        Raises AccountTrouble.
        """

    def check(self) -> list[str]:
        """What is wrong with the place, in words; it is looked at now."""

    async def aclose(self) -> None: ...


class StoredAccount(Struct, frozen=True):
    """An account as a file or a table has it: its stored password in one of the forms of sasl.password_hash."""

    account: str
    stored: str
    disabled: str = ""  # the reason, where it is

    def __repr__(self) -> str:
        return f"StoredAccount({self.account!r}, ***)"


class StoredPasswords:
    """What all places do that have stored passwords of others."""

    def __init__(self, pool: HashPool, allowed: Collection[str]) -> None:
        self._pool = pool
        self._allowed = allowed

    async def verify(self, found: StoredAccount | None, name: str, password: str) -> Verdict:
        """Raises HashingBusy."""
        if found is None:
            return Verdict(Outcome.WRONG, name, "no such account")
        try:
            stored = parse_stored(found.stored, self._allowed)
            fits = await self._pool.run(lambda: _fits(stored, password))
        except SchemeTrouble as trouble:
            await self._pool.run(spend_a_hash)
            return Verdict(Outcome.WRONG, found.account, str(trouble), known=True)
        if not fits:
            return Verdict(Outcome.WRONG, found.account, "wrong password", known=True)
        if found.disabled:
            return Verdict(Outcome.DISABLED, found.account, found.disabled, known=True)
        return Verdict(Outcome.OK, found.account, known=True)

    def scram_keys(self, found: StoredAccount | None, hash_name: HashName) -> ScramKeys | None:
        """As Place has it, of a verifier only: made of a plain password it would have another salt each time."""
        if found is None:
            return None
        nothing = no_keys(found.account)
        try:
            secret = parse_stored(found.stored, self._allowed).scram
        except SchemeTrouble:
            return nothing
        if secret is None or secret.hash_name != hash_name or found.disabled:
            return nothing
        pair = ScramPair(secret.pair.stored_key, secret.pair.server_key)
        return ScramKeys(found.account, secret.salt, secret.iterations, (pair,))


def no_keys(account: str) -> ScramKeys:
    """An account that has none."""
    return ScramKeys(account, b"", 0, ())


def _fits(stored: StoredPassword, password: str) -> bool:
    """As the client wrote it, and as SASLprep has it where that is something else: nobody knows which was hashed."""
    if stored.fits(password):
        return True
    try:
        prepared = saslprep(password)
    except ValueError:
        return False
    return prepared != password and bool(prepared) and stored.fits(prepared)


_DUMMY = parse_stored(DUMMY)


def spend_a_hash() -> None:
    """Takes as long as the check of a password that is wrong."""
    _DUMMY.fits("x")
