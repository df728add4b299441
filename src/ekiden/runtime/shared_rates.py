"""What clients did in the present unit of time, counted across all workers of a host.

Tables in shared memory as in shared_counts.py: each worker writes columns of its own, so there is nothing to lock. A
slot holds the number of the unit of time that it counts for, so that a slot of an older unit counts as empty and
nobody has to clear a table. What is counted by another unit of time has a table of its own: where two share a slot,
each would be the other's older unit, and be forgotten.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable
from functools import lru_cache
from time import monotonic

from msgspec import Struct

from ekiden.policy.client_limits import Deed

_ROWS = 3
_REMEMBERED = 1024  # clients, whose slots need no hash when they come again
_SLOT_NUMBERS = 2  # the unit of time, the count
_NUMBER_BYTES = 4


class _Table(Struct, frozen=True):
    """Where a table begins in a worker's columns, and how many slots a row of it has (a power of 2, to 2**24)."""

    begin: int
    slots: int

    @property
    def end(self) -> int:
        return self.begin + _ROWS * self.slots * _SLOT_NUMBERS


_RATES = _Table(0, 16_384)  # by anvil_rate_time_unit
_FAILURES = _Table(_RATES.end, 16_384)  # by smtpd_auth_failure_time
_LOGINS = _Table(_FAILURES.end, 131_072)  # by the day, in which many come
_BY_DEED = {Deed.LOGIN_FAILURE: _FAILURES, Deed.LOGIN: _LOGINS}
_WORKER_NUMBERS = _LOGINS.end


class SharedRates:
    """Made by the supervisor; each worker uses it through ``of_worker``. ``clock`` is the same for all processes."""

    def __init__(self, workers: int, clock: Callable[[], float] = monotonic) -> None:
        self._workers = workers
        self._clock = clock
        # Fresh for each server, so that nobody can choose addresses that share slots.
        self._key = os.urandom(16)
        self._numbers = memoryview(mmap.mmap(-1, workers * _WORKER_NUMBERS * _NUMBER_BYTES)).cast("I")

    def of_worker(self, index: int) -> WorkerRates:
        return WorkerRates(self._numbers, self._key, index, self._workers, self._clock)


class WorkerRates:
    """The rates as one worker sees and changes them (policy.client_limits.ClientRates)."""

    __slots__ = ("_base", "_clock", "_key", "_numbers", "_slots", "_workers")

    def __init__(self, numbers: memoryview, key: bytes, index: int, workers: int, clock: Callable[[], float]) -> None:
        self._numbers, self._key, self._workers, self._clock = numbers, key, workers, clock
        self._base = index * _WORKER_NUMBERS
        self._slots = lru_cache(_REMEMBERED)(self._find_slots)

    def count(self, deed: Deed, client: str, unit_s: float) -> int:
        numbers = self._numbers
        window = int(self._clock() / unit_s) & 0xFFFF_FFFF
        slots = self._slots(deed, client)
        for slot in slots:
            own = self._base + slot
            numbers[own + 1] = numbers[own + 1] + 1 if numbers[own] == window else 1
            numbers[own] = window
        return self._smallest(slots, window)

    def present(self, deed: Deed, client: str, unit_s: float) -> int:
        """As count, without counting one in."""
        return self._smallest(self._slots(deed, client), int(self._clock() / unit_s) & 0xFFFF_FFFF)

    def _smallest(self, slots: list[int], window: int) -> int:
        numbers, end, smallest = self._numbers, self._workers * _WORKER_NUMBERS, -1
        for slot in slots:
            total = 0
            for at in range(slot, end, _WORKER_NUMBERS):
                if numbers[at] == window:
                    total += numbers[at + 1]
            if not total:
                return 0
            if smallest < 0 or total < smallest:
                smallest = total
        return smallest

    def _find_slots(self, deed: Deed, client: str) -> list[int]:
        """One slot in each row of the deed's table."""
        table = _BY_DEED.get(deed, _RATES)
        name = f"{deed.value} {client}".encode()
        digest = hashlib.blake2b(name, digest_size=3 * _ROWS, key=self._key).digest()
        return [
            table.begin
            + (row * table.slots + int.from_bytes(digest[3 * row : 3 * row + 3], "big") % table.slots) * _SLOT_NUMBERS
            for row in range(_ROWS)
        ]
