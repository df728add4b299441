"""All places where accounts live, asked as one: who decides, what is remembered, what a refusal gives away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ekiden.config.errors import ConfigError
from ekiden.sasl import account_list as account_list_module
from ekiden.sasl import file_place, place
from ekiden.sasl.account_changes import ScramPolicy, with_app_password, with_password, with_totp, without_app_password
from ekiden.sasl.account_file import AccountFile
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.accounts import AccountTrouble, Outcome, ScramKeys, ScramPair, Verdict
from ekiden.sasl.hash_pool import HashPool
from ekiden.sasl.last_used import LastUsed
from ekiden.sasl.scram_secret import derive
from ekiden.sasl.verify_cache import VerifyCache
from support.accounts import DAY, FakePlace, account_list, add_account, change_account, cheap_hashing, says
from support.fake_clock import FakeClock, settle_down

_NOTHING = ScramPolicy()


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


def trouble(_name: str, _password: str) -> Verdict:
    raise AccountTrouble("down")


def listed(
    *places: FakePlace, clock: FakeClock | None = None, delay_s: float = 0.0, cache_s: float = 60
) -> AccountList:
    clock = clock or FakeClock()
    cache = VerifyCache(cache_s, 100, clock.monotonic)
    return AccountList(places, pool=HashPool(2, 100), cache=cache, clock=clock, failure_delay_s=delay_s)


def verified(accounts: AccountList, name: str, password: str) -> Verdict:
    async def ask() -> Verdict:
        return await accounts.verify(name, password)

    return asyncio.run(ask())


def outcome(accounts: AccountList, name: str, password: str) -> Outcome:
    return verified(accounts, name, password).outcome


# --- our own file


def test_right_and_wrong(tmp_path: Path) -> None:
    add_account(tmp_path / "accounts", "anna@example.com", "pässword")
    accounts = account_list(tmp_path)
    assert verified(accounts, "Anna@EXAMPLE.com", "pa\u0308ssword") == Verdict(
        Outcome.OK, "anna@example.com", known=True
    )
    for name, password in [
        ("anna@example.com", "password"), ("anna@example.com", "pässword "), ("bert", "pässword"), ("", "pässword"),
        ("anna@example.com", ""), ("anna@example.com\0", "pässword"), ("anna@example.com", "pässword\0"),
        ("anna@example.com", "\udcff"), ("\udcff", "x"), ("x" * 1_000_000, "y"), ("anna@example.com", "x" * 1_000_000),
        ("anna@example.com", "\x07"), ("a b", "x"),
    ]:  # fmt: skip
        assert outcome(accounts, name, password) is Outcome.WRONG, (name[:20], password[:20])


def test_what_ekiden_user_changes_counts_at_the_next_login(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    accounts = account_list(tmp_path)
    assert outcome(accounts, "anna", "secret-1") is Outcome.WRONG
    add_account(path, "anna", "secret-1")
    assert outcome(accounts, "anna", "secret-1") is Outcome.OK
    change_account(path, "anna", lambda anna: with_password(anna, "secret-2", _NOTHING, DAY))
    assert outcome(accounts, "anna", "secret-1") is Outcome.WRONG
    assert outcome(accounts, "anna", "secret-2") is Outcome.OK
    change_account(path, "anna", lambda anna: replace(anna, disabled=True))
    assert outcome(accounts, "anna", "secret-2") is Outcome.DISABLED
    assert outcome(accounts, "anna", "wrong") is Outcome.WRONG
    change_account(path, "anna", lambda anna: replace(anna, disabled=False))
    assert outcome(accounts, "anna", "secret-2") is Outcome.OK
    path.unlink()
    assert outcome(accounts, "anna", "secret-2") is Outcome.WRONG


def test_a_file_that_cannot_be_understood_is_a_temporary_error(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    add_account(path, "anna", "secret-1")
    accounts = account_list(tmp_path)
    assert outcome(accounts, "anna", "secret-1") is Outcome.OK
    good = path.read_text()
    path.write_text(good + "x\n")
    verdict = verified(accounts, "anna", "secret-1")
    assert verdict.outcome is Outcome.UNAVAILABLE
    assert "line 3: not an account" in verdict.detail
    assert accounts.check() == [f"{path}, line 3: not an account: JSON is malformed: invalid character (byte 0)"]
    path.write_text(good)
    assert outcome(accounts, "anna", "secret-1") is Outcome.OK
    path.chmod(0o644)
    assert accounts.check() == [f"{path}: others may read it; correct it with: chmod 600 {path}"]


def test_app_passwords_and_the_day_of_their_use(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    (tmp_path / "run").mkdir()
    add_account(path, "anna", "secret-1")
    shown = ""

    def add(anna: object) -> object:
        nonlocal shown
        changed, shown = with_app_password(anna, "phone", _NOTHING, DAY)  # type: ignore[arg-type]
        return changed

    change_account(path, "anna", add)  # type: ignore[arg-type]
    clock = FakeClock(1_795_953_600.0)
    accounts = account_list(tmp_path, clock)
    assert verified(accounts, "anna", shown) == Verdict(Outcome.OK, "anna", app_password="phone", known=True)
    assert LastUsed(tmp_path / "run" / "app-passwords-used", clock.time).read() == {"anna": {"phone": "2026-11-29"}}
    assert outcome(accounts, "anna", "secret-1") is Outcome.OK
    change_account(path, "anna", with_totp)
    assert outcome(accounts, "anna", shown) is Outcome.OK
    verdict = verified(accounts, "anna", "secret-1")
    assert verdict.outcome is Outcome.WRONG
    assert "TOTP" in verdict.detail
    change_account(path, "anna", lambda anna: without_app_password(anna, "phone"))
    assert outcome(accounts, "anna", shown) is Outcome.WRONG


def test_a_place_for_the_day_that_cannot_be_written_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    add_account(path, "anna", "secret-1")
    changed, shown = with_app_password(AccountFile(path).read()["anna"], "phone", _NOTHING, DAY)
    change_account(path, "anna", lambda _: changed)
    assert outcome(account_list(tmp_path), "anna", shown) is Outcome.OK  # there is no directory run


# --- what is remembered


class Hashes:
    """Counts how often a password is hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for module, name in ((file_place, "_which"), (account_list_module, "spend_a_hash"), (place, "_fits")):
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            self.count += 1
            return function(*arguments)

        return counted


def test_a_hundred_logins_cost_one_hash_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hashes = tmp_path / "accounts", Hashes(monkeypatch)
    add_account(path, "anna", "secret-1")
    clock = FakeClock()
    accounts = account_list(tmp_path, clock, sasl_verify_cache_time="60s")

    async def scene() -> None:
        for _ in range(100):
            assert (await accounts.verify("anna", "secret-1")).accepted
        assert hashes.count == 1
        add_account(path, "bert", "secret-2")  # another account's change is none of this one's
        assert (await accounts.verify("anna", "secret-1")).accepted
        assert hashes.count == 1
        await clock.advance(61)
        assert (await accounts.verify("anna", "secret-1")).accepted
        assert hashes.count == 2
        change_account(path, "anna", lambda anna: replace(anna, disabled=True))
        assert (await accounts.verify("anna", "secret-1")).outcome is Outcome.DISABLED
        assert hashes.count == 3
        for _ in range(3):  # what is wrong is never remembered
            assert not (await accounts.verify("bert", "x")).accepted
        assert hashes.count == 6

    asyncio.run(scene())


def test_without_a_time_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_account(tmp_path / "accounts", "anna", "secret-1")
    hashes = Hashes(monkeypatch)
    accounts = account_list(tmp_path, sasl_verify_cache_time="0s")
    for _ in range(3):
        assert outcome(accounts, "anna", "secret-1") is Outcome.OK
    assert hashes.count == 3


def test_a_place_that_cannot_tell_of_changes_is_always_asked() -> None:
    asked = FakePlace("pam:x", says(Outcome.OK), stamp=lambda: None)
    accounts = listed(asked)
    for _ in range(3):
        assert outcome(accounts, "anna", "x") is Outcome.OK
    assert len(asked.asked) == 3
    # ... and so is one behind it, for the first may have got the account meanwhile
    first, second = FakePlace("pam:x", says(Outcome.WRONG), stamp=lambda: None), FakePlace("file:x", says(Outcome.OK))
    accounts = listed(first, second)
    for _ in range(3):
        assert outcome(accounts, "anna", "x") is Outcome.OK
    assert len(second.asked) == 3
    # ... but not one before it
    first, second = FakePlace("file:x", says(Outcome.OK)), FakePlace("pam:x", says(Outcome.WRONG), stamp=lambda: None)
    accounts = listed(first, second)
    for _ in range(3):
        assert outcome(accounts, "anna", "x") is Outcome.OK
    assert len(first.asked) == 1


def test_the_cache_is_bounded_and_holds_no_password() -> None:
    cache = VerifyCache(60, 10, lambda: 0.0)
    for number in range(1000):
        cache.put(cache.digest("anna", f"secret-{number}"), 1, Verdict(Outcome.OK, "anna"))
    assert len(cache) == 10
    assert "secret" not in repr(vars(cache))
    assert cache.digest("a", "bc") != cache.digest("ab", "c")
    assert cache.digest("a", "b") != VerifyCache(60, 10, lambda: 0.0).digest("a", "b")
    cache.put(cache.digest("bert", "x"), 1, Verdict(Outcome.WRONG, "bert"))
    assert cache.get(cache.digest("bert", "x"), 1) is None


def test_the_same_login_at_the_same_time_is_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_account(tmp_path / "accounts", "anna", "secret-1")
    hashes = Hashes(monkeypatch)
    accounts = account_list(tmp_path)

    async def scene() -> None:
        verdicts = await asyncio.gather(*(accounts.verify("anna", "secret-1") for _ in range(50)))
        assert all(verdict.accepted for verdict in verdicts)
        assert hashes.count == 1
        # One who goes away takes nobody along.
        first = asyncio.ensure_future(accounts.verify("anna", "secret-2"))
        second = asyncio.ensure_future(accounts.verify("anna", "secret-2"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).outcome is Outcome.WRONG

    asyncio.run(scene())


def test_more_logins_than_may_wait_are_a_temporary_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_account(tmp_path / "accounts", "anna", "secret-1")
    gate = threading.Event()
    monkeypatch.setattr(account_list_module, "spend_a_hash", gate.wait)
    accounts = account_list(tmp_path, sasl_hash_threads="1", sasl_hash_queue_limit="2")

    async def scene() -> None:
        tasks = [asyncio.ensure_future(accounts.verify(f"u{number}", "x")) for number in range(10)]
        await settle_down()
        assert sum(task.done() and task.result().outcome is Outcome.UNAVAILABLE for task in tasks) == 7
        gate.set()
        assert sum([(await task).outcome is Outcome.WRONG for task in tasks]) == 3

    asyncio.run(scene())


# --- who decides


def test_the_first_place_that_has_the_account_decides() -> None:
    second = FakePlace("b", says(Outcome.OK))
    for first, wanted in (
        (says(Outcome.WRONG, known=True), Outcome.WRONG),
        (says(Outcome.DISABLED, known=True), Outcome.DISABLED),
        (says(Outcome.WRONG), Outcome.OK),
        (says(Outcome.UNAVAILABLE), Outcome.OK),
        (trouble, Outcome.OK),
    ):
        assert outcome(listed(FakePlace("a", first), second), "anna", "x") is wanted
    assert len(second.asked) == 3


def test_a_place_that_cannot_be_asked_makes_a_no_temporary() -> None:
    verdict = verified(listed(FakePlace("a", trouble), FakePlace("b", says(Outcome.WRONG))), "anna", "x")
    assert verdict.outcome is Outcome.UNAVAILABLE
    assert verdict.detail == "a: down"
    assert outcome(listed(), "anna", "x") is Outcome.WRONG


@pytest.mark.parametrize(
    ("name", "password"), [("", "x"), ("x", ""), ("x\0y", "z"), ("x", "y\0z"), ("x", "\udc80"), ("x", "y" * 2000)]
)
def test_what_cannot_be_right_reaches_no_place(name: str, password: str) -> None:
    asked = FakePlace("ldap:x", says(Outcome.OK))
    assert outcome(listed(asked), name, password) is Outcome.WRONG
    assert not asked.asked


# --- what a refusal gives away


def test_an_account_that_does_not_exist_costs_as_many_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accounts"
    add_account(path, "anna", "secret-1")
    add_account(path, "totp", "secret-1")
    add_account(path, "off", "secret-1")
    change_account(path, "totp", with_totp)
    change_account(path, "off", lambda account: replace(account, disabled=True))
    accounts = account_list(tmp_path)
    for name in ("anna", "nobody", "totp", "off"):
        hashes = Hashes(monkeypatch)
        assert outcome(accounts, name, "wrong") is Outcome.WRONG
        assert hashes.count == 1, name
        monkeypatch.undo()


def test_a_refusal_comes_no_sooner_than_the_delay_whatever_it_is_for() -> None:
    async def scene(accounts: AccountList, clock: FakeClock, name: str, password: str) -> None:
        task = asyncio.ensure_future(accounts.verify(name, password))
        while not clock._sleepers:
            await asyncio.sleep(0)
        await clock.advance(1.9)
        assert not task.done()
        await clock.advance(0.2)
        assert not task.result().accepted

    for name, password in (("anna", "x"), ("", "x"), ("anna", "\0")):
        for answer in (
            says(Outcome.WRONG),
            says(Outcome.WRONG, known=True),
            says(Outcome.DISABLED, known=True),
            trouble,
        ):
            clock = FakeClock()
            asyncio.run(scene(listed(FakePlace("a", answer), clock=clock, delay_s=2.0), clock, name, password))
    assert outcome(listed(FakePlace("a", says(Outcome.OK)), delay_s=2.0), "anna", "x") is Outcome.OK


# --- SCRAM, authorization


def test_scram_keys_are_those_of_the_place_that_has_the_account(tmp_path: Path) -> None:
    path, policy = tmp_path / "accounts", ScramPolicy(["sha256"], 4096)
    add_account(path, "anna", "secret-1", scram=policy)
    add_account(path, "bert", "secret-1")
    shown = ""

    def add(anna: object) -> object:
        nonlocal shown
        changed, shown = with_app_password(anna, "phone", policy, DAY)  # type: ignore[arg-type]
        return changed

    change_account(path, "anna", add)  # type: ignore[arg-type]

    def keys(accounts: AccountList, name: str) -> ScramKeys | None:
        return asyncio.run(accounts.scram_keys(name, "sha256"))

    accounts = account_list(tmp_path, sasl_scram_hashes="sha256")
    assert accounts.scram_hashes == {"sha256"}
    found = keys(accounts, "ANNA")
    assert found is not None
    for password, label, pair in (("secret-1", "", found.pairs[0]), (shown, "phone", found.pairs[1])):
        expected = derive("sha256", password, found.salt, found.iterations).pair
        assert (pair.stored_key, pair.server_key, pair.app_password) == (
            expected.stored_key,
            expected.server_key,
            label,
        )
    assert asyncio.run(accounts.scram_keys("anna", "sha1")) is None
    for name in ("bert", "nobody", "", "a\0"):
        assert keys(accounts, name) is None
    change_account(path, "anna", with_totp)
    found = keys(accounts, "anna")
    assert found is not None
    assert [pair.app_password for pair in found.pairs] == ["phone"]
    change_account(path, "anna", lambda anna: replace(anna, disabled=True))
    assert keys(accounts, "anna") is None
    assert keys(account_list(tmp_path), "anna") is None  # sasl_scram_hashes is empty
    # One that is disabled in the first place is not let in by the second.
    other = FakePlace("b", says(Outcome.WRONG))
    other.keys = ScramKeys("anna", b"x", 4096, (ScramPair(b"", b""),))
    both = AccountList(
        (*accounts.places, other), pool=HashPool(1, 1), cache=VerifyCache(0, 1, lambda: 0.0), clock=FakeClock(),
        scram_hashes=frozenset({"sha256"}),
    )  # fmt: skip
    assert keys(both, "anna") is None
    assert keys(both, "nobody") == other.keys


def test_an_authorization_identity_is_oneself_or_what_the_maps_say(tmp_path: Path) -> None:
    accounts = account_list(
        tmp_path, sasl_authorization_maps="inline:{ {admin = anna@example.com, Bert}, carol = carol2 }"
    )

    def may(account: str, wanted: str) -> bool:
        return asyncio.run(accounts.authorize(account, wanted))

    for account, wanted in [
        ("anna", ""), ("anna", "anna"), ("anna", "Anna"), ("admin", "bert"), ("admin", "ANNA@example.com"),
        ("carol", "carol2"), ("a\u00adb", "ab"),
    ]:  # fmt: skip
        assert may(account, wanted), (account, wanted)
    for account, wanted in [
        ("anna", "admin"), ("bert", "admin"), ("admin", "carol"), ("anna", "anna\0"), ("anna", "an"), ("anna", "\x07"),
        ("admin", "anna@example.com, bert"), ("anna", "x" * 10_000), ("carol2", "carol"),
    ]:  # fmt: skip
        assert not may(account, wanted), (account, wanted)


def test_a_table_of_identities_that_cannot_be_asked_is_trouble(tmp_path: Path) -> None:
    accounts = account_list(tmp_path, sasl_authorization_maps="fail:x")
    with pytest.raises(AccountTrouble):
        asyncio.run(accounts.authorize("anna", "bert"))
    assert asyncio.run(accounts.authorize("anna", "anna"))


@pytest.mark.parametrize("word", ["file", "file:", "x:y", "/etc/accounts", "file:relative", ":x"])
def test_a_place_that_is_none_is_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConfigError, match="sasl_accounts: "):
        account_list(tmp_path, sasl_accounts=word)
