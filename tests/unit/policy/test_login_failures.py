"""Who guesses passwords is slowed and refused; who knows the password is not kept out by those who guess."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import Client
from ekiden.policy.client_limits import Deed, LocalRates
from ekiden.policy.login_failures import FailureCounts, LoginFailures
from ekiden.runtime.shared_rates import SharedRates

_BAD, _OTHER, _GOOD = (Client(address=f"192.0.2.{number}") for number in (1, 2, 3))


class Time:
    now = 86_400.0 * 1000

    def __call__(self) -> float:
        return self.now


def local(clock: Callable[[], float]) -> FailureCounts:
    return LocalRates(clock)


def shared(clock: Callable[[], float]) -> FailureCounts:
    return SharedRates(3, clock).of_worker(1)


def failures(counts: FailureCounts, **settings: str) -> LoginFailures:
    return LoginFailures(Parameters({"myhostname": "mx.test"} | settings), counts)


@pytest.mark.parametrize("table", [local, shared])
def test_a_client_that_guesses_is_slowed_then_refused_until_the_time_is_over(
    table: Callable[[Callable[[], float]], FailureCounts],
) -> None:
    time = Time()
    logins = failures(
        table(time), smtpd_auth_failure_limit="4", smtpd_auth_failure_time="100s", smtpd_auth_failure_sleep_time="2s"
    )
    waits = []
    for _ in range(4):
        assert logins.before(_BAD, "192.0.2.1") is None
        waits.append(logins.after(_BAD, "192.0.2.1", "anna", accepted=False).wait_s)
    assert waits == [0.0, 2.0, 4.0, 6.0]
    refusal = logins.before(_BAD, "192.0.2.1")
    assert refusal is not None
    assert (refusal.reply.code, str(refusal.reply.status), refusal.reply.closes) == (421, "4.7.0", True)
    assert refusal.reason == "login-failures"
    assert "anna" not in refusal.reply.lines[0]
    assert logins.before(_OTHER, "192.0.2.2") is None
    time.now += 100
    assert logins.before(_BAD, "192.0.2.1") is None


@pytest.mark.parametrize("table", [local, shared])
def test_an_account_that_many_guess_at_is_open_to_those_who_were_in_that_day(
    table: Callable[[Callable[[], float]], FailureCounts],
) -> None:
    time = Time()
    logins = failures(table(time), smtpd_auth_account_failure_limit="5", smtpd_auth_failure_time="100s")
    assert logins.after(_GOOD, "192.0.2.3", "Anna", accepted=True).refusal is None
    for number in range(5):
        assert logins.after(_BAD, f"198.51.100.{number}", "anna", accepted=False).refusal is None
    replies = [logins.after(_BAD, "192.0.2.1", "anna", accepted=accepted).refusal for accepted in (True, False)]
    assert [str(refusal and refusal.reply.code) for refusal in replies] == ["454", "454"]
    assert replies[0] is not None
    assert replies[1] is not None
    assert replies[0].reply == replies[1].reply  # a right password is not told
    assert logins.after(_GOOD, "192.0.2.3", "ANNA", accepted=True).refusal is None
    assert logins.after(_BAD, "192.0.2.1", "bert", accepted=True).refusal is None
    time.now += 100
    assert logins.after(_BAD, "192.0.2.1", "anna", accepted=True).refusal is None


def test_what_the_limits_do_not_bind() -> None:
    logins = failures(LocalRates(lambda: 0.0), smtpd_auth_failure_limit="1", smtpd_auth_account_failure_limit="0")
    for _ in range(50):
        assert logins.before(_BAD, "") is None
        assert logins.after(_BAD, "", "anna", accepted=False).wait_s == 0
    unlimited = failures(LocalRates(lambda: 0.0), smtpd_auth_failure_limit="0", smtpd_auth_account_failure_limit="0")
    for _ in range(50):
        assert unlimited.before(_BAD, "x") is None
        judgement = unlimited.after(_BAD, "x", "anna", accepted=False)
    assert judgement.wait_s == 10.0  # slowed all the same, and not without end
    assert judgement.refusal is None


def test_a_name_that_was_not_given_counts_for_no_account() -> None:
    logins = failures(LocalRates(lambda: 0.0), smtpd_auth_account_failure_limit="1")
    for number in range(5):
        assert logins.after(_BAD, str(number), "", accepted=False).refusal is None


def test_workers_count_together() -> None:
    rates = SharedRates(2, lambda: 0.0)
    pid = os.fork()
    if pid == 0:
        logins = failures(rates.of_worker(1), smtpd_auth_failure_limit="3")
        for _ in range(3):
            logins.after(_BAD, "192.0.2.1", "anna", accepted=False)
        os._exit(0)
    os.waitpid(pid, 0)
    assert failures(rates.of_worker(0), smtpd_auth_failure_limit="3").before(_BAD, "192.0.2.1") is not None
    assert failures(rates.of_worker(0), smtpd_auth_failure_limit="4").before(_BAD, "192.0.2.1") is None


def test_logins_are_not_forgotten_for_what_others_do() -> None:
    """What is counted by another unit of time may share no slot with them."""
    time = Time()
    rates = SharedRates(2, time).of_worker(0)
    rates.count(Deed.LOGIN, "192.0.2.3 account anna", 86_400.0)
    for number in range(60_000):
        rates.count(Deed.LOGIN_FAILURE if number % 2 else Deed.CONNECTION, f"client {number}", 600.0)
    assert rates.present(Deed.LOGIN, "192.0.2.3 account anna", 86_400.0) == 1
