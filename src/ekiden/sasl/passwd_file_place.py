"""``passwd-file:/path``: a file in the form of passwd(5), or of Dovecot's passwd-file.

    name:{SCHEME}hash:uid:gid:gecos:home:shell:extra_field=... ...

All behind the second colon is left alone, except for extra fields that would keep an account from logging in.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from ekiden.sasl.accounts import HashName, ScramKeys, Verdict
from ekiden.sasl.open import Opening, full_path
from ekiden.sasl.password_hash import SchemeTrouble, parse_stored
from ekiden.sasl.place import StoredAccount, StoredPasswords
from ekiden.sasl.watched_file import WatchedFile

# Extra fields that narrow who may log in, in ways that are not followed here.
_NARROWING = ("allow_nets", "allow_real_nets", "nopassword", "allow_user")


def open_place(where: str, opening: Opening) -> PasswdFilePlace:
    """Raises ConfigError."""
    allowed = opening.parameters.sasl_password_schemes
    return PasswdFilePlace(full_path(where), StoredPasswords(opening.pool, allowed), allowed)


def parse_passwd_file(text: str) -> dict[str, StoredAccount]:
    """By name, and by the name without regard to case where no other account has that."""
    found: dict[str, StoredAccount] = {}
    folded: dict[str, StoredAccount] = {}
    for line in text.split("\n"):
        line = line.rstrip("\r")
        name, colon, rest = line.partition(":")
        if not colon or not name or line.startswith("#"):
            continue
        fields = rest.split(":")
        stored = fields[0]
        extra = ":".join(fields[6:]).split() if len(fields) > 6 else []
        narrowing = [word for word in extra if word.partition("=")[0].removeprefix("userdb_") in _NARROWING]
        disabled = f"{narrowing[0].partition('=')[0]} is not supported" if narrowing else ""
        account = StoredAccount(name, stored, disabled)
        found.setdefault(name, account)
        folded.setdefault(name.casefold(), account)
    return folded | found


class PasswdFilePlace:
    def __init__(self, path: Path, passwords: StoredPasswords, allowed: tuple[str, ...]) -> None:
        self.name = f"passwd-file:{path}"
        self._path, self._passwords, self._allowed = path, passwords, allowed
        self._watched = WatchedFile(path, self._read)

    def _read(self) -> dict[str, StoredAccount]:
        return parse_passwd_file(self._path.read_text("utf-8", "surrogateescape"))

    def _find(self, name: str) -> StoredAccount | None:
        """Raises AccountTrouble; a file that is not there is trouble, too."""
        accounts = self._watched.get()
        return accounts.get(name) or accounts.get(name.casefold())

    async def verify(self, name: str, password: str) -> Verdict:
        return await self._passwords.verify(self._find(name), name, password)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        return self._passwords.scram_keys(self._find(name), hash_name)

    async def is_disabled(self, name: str) -> bool | None:
        found = self._find(name)
        return None if found is None else bool(found.disabled)

    async def stamp(self, name: str) -> Hashable | None:
        found = self._find(name)
        return ("",) if found is None else (found.account, found.stored, found.disabled)

    def check(self) -> list[str]:
        try:
            accounts = self._read()
        except OSError as error:
            return [f"{self._path}: {error.strerror}"]
        problems = [
            f"{self._path}: {account.account}: {account.disabled}" for account in _each(accounts) if account.disabled
        ]
        for account in _each(accounts):
            try:
                parse_stored(account.stored, self._allowed)
            except SchemeTrouble as trouble:
                problems.append(f"{self._path}: {account.account}: {trouble}")
        return problems[:20]

    async def aclose(self) -> None:
        pass


def _each(accounts: dict[str, StoredAccount]) -> list[StoredAccount]:
    return list({account.account: account for account in accounts.values()}.values())
