"""Names without a domain are completed (``smtpd_sasl_local_domain``), whichever place the accounts live in."""

from __future__ import annotations

from ekiden.sasl.accounts import Accounts, HashName, ScramKeys, Verdict


class RealmAccounts:
    def __init__(self, accounts: Accounts, realm: str) -> None:
        self._accounts = accounts
        self._realm = realm

    @property
    def scram_hashes(self) -> frozenset[HashName]:
        return self._accounts.scram_hashes

    async def verify(self, name: str, password: str) -> Verdict:
        return await self._accounts.verify(self._whole(name), password)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        return await self._accounts.scram_keys(self._whole(name), hash_name)

    async def authorize(self, account: str, wanted: str) -> bool:
        return await self._accounts.authorize(self._whole(account), self._whole(wanted))

    async def aclose(self) -> None:
        await self._accounts.aclose()

    def _whole(self, name: str) -> str:
        return f"{name}@{self._realm}" if name and "@" not in name else name
