"""The mechanisms that a configuration gives, the realm of names, and the secret that all workers share."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.runtime.logins import Logins
from ekiden.runtime.system_clock import SystemClock
from ekiden.sasl.login_secret import LoginSecret
from ekiden.sasl.realm import RealmAccounts
from support.honours import honours
from support.sasl import KnownAccounts


@honours("smtpd_sasl_local_domain")
def test_names_without_a_domain_are_completed() -> None:
    known = KnownAccounts({"bob@here.example": "secret", "al@there.example": "secret"})
    accounts = RealmAccounts(known, "here.example")

    async def run() -> None:
        assert (await accounts.verify("bob", "secret")).account == "bob@here.example"
        assert (await accounts.verify("al@there.example", "secret")).account == "al@there.example"
        assert not (await accounts.verify("al", "secret")).accepted
        keys = await accounts.scram_keys("bob", "sha256")
        assert keys is not None
        assert keys.account == "bob@here.example"
        assert await accounts.authorize("bob@here.example", "bob")
        assert await accounts.authorize("bob@here.example", "")
        assert not await accounts.authorize("bob@here.example", "al")

    asyncio.run(run())


def test_services_share_what_is_the_same(tmp_path: Path) -> None:
    logins = Logins(SystemClock())
    settings = {"smtpd_sasl_auth_enable": "yes", "sasl_accounts": f"file:{tmp_path}/accounts"}
    first = logins.of(Parameters(settings))
    assert logins.of(Parameters({**settings, "smtpd_sasl_mechanism_filter": "plain"})) is first
    assert logins.of(Parameters({**settings, "smtpd_sasl_local_domain": "here.example"})) is not first
    assert logins.of(Parameters({**settings, "smtpd_sasl_auth_enable": "no"})) is None
    asyncio.run(logins.close())


def test_the_secret_is_one_for_all_workers_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "login-secret"
    first, second = LoginSecret(path), LoginSecret(path)
    assert first.value == second.value == LoginSecret(path).value
    assert len(first.value) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["login-secret"]
    assert LoginSecret(tmp_path / "other").value != first.value


def test_a_secret_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "login-secret"
    path.write_bytes(b"short")
    assert len(LoginSecret(path).value) == 32
    assert len(path.read_bytes()) == 32


def test_without_a_place_for_it_each_process_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "login-secret"
    assert LoginSecret(path).value != LoginSecret(path).value
