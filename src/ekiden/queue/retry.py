"""When a deferred message is tried again, when its sender hears of the delay, and when it is given up.

In:   the rules of the configuration and times; nothing here reads a clock.
Out:  times. Ages and delays are in seconds, ``now``, ``arrived`` and due times in seconds since the epoch.
"""

from __future__ import annotations

from msgspec import Struct

from ekiden.config.snapshot import Parameters


class RetryRules(Struct, frozen=True):
    """The parameters that count, in seconds; ``jitter`` is the part of a delay that chance may add (0.1: a tenth)."""

    minimal_backoff_s: float
    maximal_backoff_s: float
    lifetime_s: float
    bounce_lifetime_s: float
    delay_warning_s: float  # 0: senders are not warned
    jitter: float

    @property
    def longest_wait_s(self) -> float:
        """No message is ever due later than this from now."""
        return max(self.minimal_backoff_s, self.maximal_backoff_s) * (1 + self.jitter)


def retry_rules(parameters: Parameters) -> RetryRules:
    return RetryRules(
        minimal_backoff_s=parameters.minimal_backoff_time,
        maximal_backoff_s=parameters.maximal_backoff_time,
        lifetime_s=parameters.maximal_queue_lifetime,
        bounce_lifetime_s=parameters.bounce_queue_lifetime,
        delay_warning_s=parameters.delay_warning_time,
        jitter=parameters.backoff_jitter_percent / 100,
    )


def backoff_s(rules: RetryRules, age_s: float) -> float:
    """The time to the next attempt: as long as the message is old, between the minimal and the maximal time.

    An age below zero (the clock was set back) counts as new.
    """
    return min(rules.maximal_backoff_s, max(rules.minimal_backoff_s, age_s))


def due(rules: RetryRules, now: float, age_s: float, chance: float) -> float:
    """When a message that was just deferred is due again. ``chance`` is a random number from 0 to 1."""
    return now + backoff_s(rules, age_s) * (1 + rules.jitter * chance)


def lifetime_s(rules: RetryRules, *, null_sender: bool) -> float:
    return rules.bounce_lifetime_s if null_sender else rules.lifetime_s


def is_expired(rules: RetryRules, age_s: float, *, null_sender: bool) -> bool:
    """The message was deferred once more and is too old. A lifetime of 0 leaves it one attempt."""
    return age_s >= lifetime_s(rules, null_sender=null_sender)


def expires_at(rules: RetryRules, arrived: float, *, null_sender: bool) -> float:
    """RFC 3464 §2.3.9 Will-Retry-Until."""
    return arrived + lifetime_s(rules, null_sender=null_sender)


def warns(rules: RetryRules, age_s: float, *, warned: bool) -> bool:
    """The sender of a message that was just deferred is to hear of it now, for the first and only time."""
    return not warned and 0 < rules.delay_warning_s <= age_s
