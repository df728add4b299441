"""``table:TYPE:NAME``: any lookup table that gives the stored password of a name: SQL, cdb ...

With ``table:mysql:/etc/ekiden/users.cf`` the query of mysql_table(5) finds it. The value is ``{SCHEME}text`` or a hash
of crypt(5), as in a passwd file.
"""

from __future__ import annotations

from collections.abc import Hashable

from ekiden.sasl.accounts import AccountTrouble, HashName, ScramKeys, Verdict
from ekiden.sasl.open import Opening
from ekiden.sasl.place import StoredAccount, StoredPasswords
from ekiden.tables.open import open_table
from ekiden.tables.table import Table, TableTrouble


def open_place(where: str, opening: Opening) -> TablePlace:
    """Raises ConfigError."""
    table = open_table(where, parameters=opening.parameters)
    return TablePlace(table, StoredPasswords(opening.pool, opening.parameters.sasl_password_schemes))


class TablePlace:
    def __init__(self, table: Table, passwords: StoredPasswords) -> None:
        self.name = f"table:{table.name}"
        self._table, self._passwords = table, passwords

    async def _find(self, name: str) -> StoredAccount | None:
        """Tables know no case, so an account's canonical name has none. Raises AccountTrouble."""
        account = name.casefold()
        try:
            stored = await self._table.lookup(account)
        except TableTrouble as error:
            raise AccountTrouble(str(error)) from error
        return None if stored is None else StoredAccount(account, stored)

    async def verify(self, name: str, password: str) -> Verdict:
        return await self._passwords.verify(await self._find(name), name, password)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        return self._passwords.scram_keys(await self._find(name), hash_name)

    async def is_disabled(self, name: str) -> bool | None:
        return None

    async def stamp(self, name: str) -> Hashable | None:
        found = await self._find(name)
        return ("",) if found is None else (found.stored,)

    def check(self) -> list[str]:
        try:
            return [f"{each.file}, line {each.line}: {each.text}" for each in self._table.check()]
        except TableTrouble as error:
            return [str(error)]

    async def aclose(self) -> None:
        await self._table.close()
