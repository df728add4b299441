from __future__ import annotations

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.queue.retry import backoff_s, due, expires_at, is_expired, retry_rules, warns
from ekiden.queue.steady_time import SteadyTime
from support.fake_clock import FakeClock
from support.honours import honours

DAY = 86400.0
RULES = retry_rules(Parameters())


@pytest.mark.parametrize(
    ("age_s", "wait_s"),
    [(-DAY, 300), (0, 300), (299, 300), (300, 300), (301, 301), (1000, 1000), (4000, 4000), (4001, 4000), (DAY, 4000)],
)
def test_back_off_is_the_age_between_its_bounds(age_s: float, wait_s: float) -> None:
    assert backoff_s(RULES, age_s) == wait_s


@pytest.mark.parametrize(("chance", "added"), [(0.0, 0.0), (0.5, 15.0), (1.0, 30.0)])
def test_jitter_only_adds(chance: float, added: float) -> None:
    assert due(RULES, 5000.0, 10.0, chance) == pytest.approx(5300.0 + added)


def test_five_days_of_retries() -> None:
    """As Postfix does it: doubling from five minutes to 4000 s, about 110 attempts, then the end."""
    now, attempts = 0.0, [0.0]
    while not is_expired(RULES, now, null_sender=False):
        now = due(RULES, now, now, 0.0)
        attempts.append(now)
    assert attempts[:7] == [0.0, 300.0, 600.0, 1200.0, 2400.0, 4800.0, 8800.0]
    assert 5 * DAY <= attempts[-1] < 5 * DAY + 4000
    assert 100 < len(attempts) < 120


@honours("bounce_queue_lifetime", "maximal_queue_lifetime")
@pytest.mark.parametrize(
    ("settings", "age_s", "null", "over"),
    [
        ({}, 5 * DAY - 1, False, False),
        ({}, 5 * DAY, False, True),
        ({"bounce_queue_lifetime": "1d"}, DAY, True, True),
        ({"bounce_queue_lifetime": "1d"}, DAY, False, False),
        ({"maximal_queue_lifetime": "0"}, 0.0, False, True),
        ({"maximal_queue_lifetime": "1h"}, 3599.0, False, False),
        ({"maximal_queue_lifetime": "2"}, DAY * 2, False, True),  # the unit is days
    ],
)
def test_lifetime(settings: dict[str, str], age_s: float, null: bool, over: bool) -> None:
    assert is_expired(retry_rules(Parameters(settings)), age_s, null_sender=null) is over


@honours("delay_warning_time")
@pytest.mark.parametrize(
    ("time", "age_s", "warned", "now"),
    [("0h", DAY, False, False), ("4", 4 * 3600, False, True), ("4h", 14399, False, False), ("4h", DAY, True, False)],
)
def test_delay_warning(time: str, age_s: float, warned: bool, now: bool) -> None:
    assert warns(retry_rules(Parameters({"delay_warning_time": time})), age_s, warned=warned) is now


def test_will_retry_until() -> None:
    assert expires_at(RULES, 100.0, null_sender=False) == 100.0 + 5 * DAY


def test_steady_time_follows_forward_and_never_back() -> None:
    clock = FakeClock(1000.0)
    steady = SteadyTime(clock)
    assert steady.now() == 1000.0
    clock.step(DAY)
    assert steady.now() == 1000.0 + DAY
    clock.step(-2 * DAY)
    assert steady.now() == 1000.0 + DAY


def test_a_bad_feedback_is_refused() -> None:
    with pytest.raises(ValueError, match="number from 0 to 1"):
        Parameters({"default_destination_concurrency_positive_feedback": "2"})


def test_the_parameter_with_a_digit_in_front() -> None:
    assert getattr(Parameters(), "2bounce_notice_recipient") == "postmaster"
    assert getattr(Parameters({"2bounce_notice_recipient": "ops@x"}), "2bounce_notice_recipient") == "ops@x"


@honours("minimal_backoff_time", "maximal_backoff_time")
@pytest.mark.parametrize(("age_s", "wait_s"), [(0, 60), (100, 100), (DAY, 120)])
def test_the_bounds_of_back_off_are_parameters(age_s: float, wait_s: float) -> None:
    rules = retry_rules(Parameters({"minimal_backoff_time": "1m", "maximal_backoff_time": "2m"}))
    assert backoff_s(rules, age_s) == wait_s
