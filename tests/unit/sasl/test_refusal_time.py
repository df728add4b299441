"""What a refusal costs does not tell whether there is such an account: the time of the processor, by real hashes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from msgspec.structs import replace

from ekiden.sasl.account_changes import with_totp
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.accounts import Outcome
from support.accounts import account_list, add_account, change_account


def test_all_refusals_cost_about_the_same(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    for name in ("anna", "totp", "off"):
        add_account(path, name, "secret-1")
    change_account(path, "totp", with_totp)
    change_account(path, "off", lambda account: replace(account, disabled=True))
    accounts = account_list(tmp_path)
    took = {name: min(_timed(accounts, name) for _ in range(3)) for name in ("anna", "nobody", "totp", "off")}
    assert max(took.values()) < 4 * min(took.values()), took


def _timed(accounts: AccountList, name: str) -> float:
    begin = time.process_time()
    assert asyncio.run(accounts.verify(name, "wrong")).outcome is Outcome.WRONG
    return time.process_time() - begin
