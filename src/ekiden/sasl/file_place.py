"""``file:/path``: our own accounts (sasl.account_file)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import msgspec

from ekiden.sasl.account_file import Account, AccountFile, AccountFileTrouble, folded_name
from ekiden.sasl.accounts import AccountTrouble, HashName, Outcome, ScramKeys, Verdict
from ekiden.sasl.hash_pool import HashPool
from ekiden.sasl.last_used import LastUsed
from ekiden.sasl.open import Opening, full_path
from ekiden.sasl.password_hash import parse_stored
from ekiden.sasl.place import no_keys, spend_a_hash
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.scram_secret import ScramSecret, parse_secret
from ekiden.sasl.watched_file import WatchedFile


def open_place(where: str, opening: Opening) -> FilePlace:
    """Raises ConfigError."""
    return FilePlace(full_path(where), opening.pool, opening.last_used)


class FilePlace:
    def __init__(self, path: Path, pool: HashPool, last_used: LastUsed | None = None) -> None:
        self.name = f"file:{path}"
        self._file = AccountFile(path)
        self._pool = pool
        self._last_used = last_used
        self._watched = WatchedFile(path, self._read)

    def _read(self) -> dict[str, Account]:
        """Raises AccountTrouble."""
        try:
            return self._file.read()
        except AccountFileTrouble as trouble:
            raise AccountTrouble(str(trouble)) from trouble

    def _find(self, name: str) -> Account | None:
        """Raises AccountTrouble."""
        try:
            wanted = folded_name(name)
        except ValueError:
            return None
        return self._watched.get().get(wanted)

    async def verify(self, name: str, password: str) -> Verdict:
        account = self._find(name)
        if account is None:
            return Verdict(Outcome.WRONG, name, "no such account")
        fitting = await self._pool.run(lambda: _which(account, password))
        if fitting is None:
            return Verdict(Outcome.WRONG, account.name, _why_wrong(account), known=True)
        if account.disabled:
            return Verdict(Outcome.DISABLED, account.name, "the account is disabled", known=True)
        if fitting and self._last_used is not None and not self._last_used.is_noted(account.name, fitting):
            await self._pool.run(lambda: self._note(account.name, fitting))
        return Verdict(Outcome.OK, account.name, app_password=fitting, known=True)

    def _note(self, account: str, app_password: str) -> None:
        assert self._last_used is not None
        self._last_used.note(account, app_password)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        account = self._find(name)
        if account is None:
            return None
        if account.disabled:
            return no_keys(account.name)
        own = () if account.totp else account.scram
        secrets: list[tuple[str, ScramSecret]] = [("", parse_secret(text)) for text in own]
        secrets += [(each.name, parse_secret(text)) for each in account.app_passwords for text in each.scram]
        secrets = [(label, secret) for label, secret in secrets if secret.hash_name == hash_name]
        if not secrets:
            return no_keys(account.name)
        first = secrets[0][1]
        pairs = tuple(
            msgspec.structs.replace(secret.pair, app_password=label)
            for label, secret in secrets
            if (secret.salt, secret.iterations) == (first.salt, first.iterations)
        )
        return ScramKeys(account.name, first.salt, first.iterations, pairs)

    async def is_disabled(self, name: str) -> bool | None:
        account = self._find(name)
        return None if account is None else account.disabled

    async def stamp(self, name: str) -> Hashable | None:
        """All that is written of the account, or that nothing is."""
        return self._find(name) or ""

    def check(self) -> list[str]:
        try:
            self._file.read()
        except AccountFileTrouble as trouble:
            return [str(trouble)]
        try:
            mode = self._file.path.stat().st_mode
        except OSError:
            return []
        if mode & 0o077:
            return [f"{self._file.path}: others may read it; correct it with: chmod 600 {self._file.path}"]
        return []

    async def aclose(self) -> None:
        pass


def _which(account: Account, password: str) -> str | None:
    """The name of the app password that fits, "" for the account's own; None when none does. For a thread.

    It takes the time of one argon2 unless an app password fits.
    """
    fitting = [each.name for each in account.app_passwords if each.fits(password)]
    if fitting:
        return fitting[0]
    try:
        prepared = saslprep(password)
    except ValueError:
        prepared = ""
    if account.totp or not account.password or not prepared:
        spend_a_hash()
        return None
    return "" if parse_stored(account.password).fits(prepared) else None


def _why_wrong(account: Account) -> str:
    if account.totp:
        return "no app password of the account, and with TOTP its own password is not for protocols"
    return "wrong password"
