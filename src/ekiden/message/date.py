"""Dates as mail headers write them (RFC 5322 §3.3), in English whatever the locale."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def header_date(at: float) -> str:
    """``at`` (seconds since the epoch) in the host's time zone: ``Sun, 22 Nov 2026 18:18:34 +0000``."""
    return _of_second(int(at))


@lru_cache(maxsize=4)
def _of_second(second: int) -> str:
    local = datetime.fromtimestamp(second, tz=UTC).astimezone()
    return (
        f"{_DAYS[local.weekday()]}, {local.day} {_MONTHS[local.month - 1]} {local.year}"
        f" {local:%H:%M:%S} {local.strftime('%z')[:5]}"
    )
