"""Queue ids: unique across workers and restarts, and sorting by the time of arrival.

The form is that of Postfix's long queue ids, so that log tools know it: seconds and microseconds in base 52
(digits and consonants, in ASCII order), the letter ``z``, the shard's number in base 51.
"""

from __future__ import annotations

_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
# All numbers of two digits, so that the microseconds of an id are two look-ups.
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)


def _encode(number: int, base: int, width: int) -> str:
    out: list[str] = []
    while number or len(out) < width:
        number, digit = divmod(number, base)
        out.append(_DIGITS[digit])
    return "".join(reversed(out))


class QueueIds:
    """Makes the ids of one shard; ``last_us`` is the time of the newest id that the shard has ever given."""

    __slots__ = ("_last_us", "_second", "_second_text", "_tail")

    def __init__(self, shard: int, last_us: int = 0) -> None:
        self._tail = "z" + _encode(shard, 51, 1)
        self._last_us = last_us
        self._second = -1  # the second that the text below stands for
        self._second_text = ""

    def new(self, now: float) -> str:
        """A fresh id for a message that arrives at ``now`` (seconds since the epoch).

        A clock that stands still or steps back does not repeat an id: time as the ids tell it only grows.
        """
        us = int(now * 1_000_000)
        if us <= self._last_us:
            us = self._last_us + 1
        self._last_us = us
        seconds, micros = us // 1_000_000, us % 1_000_000
        if seconds != self._second:
            self._second, self._second_text = seconds, _encode(seconds, 52, 6)
        return self._second_text + _PAIRS[micros // 2704] + _PAIRS[micros % 2704] + self._tail


def arrival_us(queue_id: str) -> int:
    """The microseconds since the epoch that a queue id tells. Raises ValueError when it is not one of ours."""
    seconds = micros = 0
    for char in queue_id[:6]:
        seconds = seconds * 52 + _DIGITS.index(char)
    for char in queue_id[6:10]:
        micros = micros * 52 + _DIGITS.index(char)
    return seconds * 1_000_000 + micros
