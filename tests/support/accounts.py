"""Account lists for tests: places that are scripted, files that are made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from ekiden.config.snapshot import Parameters
from ekiden.sasl import password_hash, place
from ekiden.sasl.account_changes import ScramPolicy, with_password
from ekiden.sasl.account_file import Account, AccountFile
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.accounts import HashName, Outcome, ScramKeys, Verdict
from ekiden.sasl.open import open_accounts
from support.fake_clock import FakeClock

DAY = "2026-11-29"


def cheap_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that cost next to nothing, for tests of anything but their cost."""
    monkeypatch.setattr(password_hash, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr(place, "_DUMMY", password_hash.parse_stored(password_hash.new_hash("x")))


class FakePlace:
    """``answer`` is what ``verify`` gives, or raises; ``asked`` is what came."""

    def __init__(
        self, name: str, answer: Callable[[str, str], Verdict], stamp: Callable[[], Hashable | None] = lambda: 1
    ) -> None:
        self.name = name
        self.answer, self._stamp = answer, stamp
        self.keys: ScramKeys | None = None
        self.asked: list[tuple[str, str]] = []

    async def verify(self, name: str, password: str) -> Verdict:
        self.asked.append((name, password))
        return self.answer(name, password)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        return self.keys

    async def is_disabled(self, name: str) -> bool | None:
        return None

    async def stamp(self, name: str) -> Hashable | None:
        return self._stamp()

    def check(self) -> list[str]:
        return []

    async def aclose(self) -> None:
        pass


def says(outcome: Outcome, *, known: bool = False) -> Callable[[str, str], Verdict]:
    return lambda name, _password: Verdict(outcome, name, known=known)


def account_list(directory: Path, clock: FakeClock | None = None, **settings: str) -> AccountList:
    """With sasl_accounts = file:DIRECTORY/accounts unless ``settings`` say otherwise; refusals do not wait."""
    given = {"config_directory": str(directory), "queue_directory": str(directory), "sasl_failure_delay": "0s"}
    return open_accounts(Parameters(given | settings), clock or FakeClock())


def add_account(path: Path, name: str, password: str, *, scram: ScramPolicy = ScramPolicy()) -> None:  # noqa: B008
    """As ``ekiden user add``."""

    def edit(accounts: dict[str, Account]) -> None:
        accounts[name] = with_password(Account(name), password, scram, DAY)

    AccountFile(path).change(edit)


def change_account(path: Path, name: str, edit: Callable[[Account], Account]) -> None:
    def edit_all(accounts: dict[str, Account]) -> None:
        accounts[name] = edit(accounts[name])

    AccountFile(path).change(edit_all)
