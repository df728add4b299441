"""Connections by client, counted across all workers of a host without a process or a message between them.

The table is memory that all workers share (mmap(2), MAP_SHARED, made before they are forked). Each worker has columns
of its own and is the only one that writes them; the sum over all workers is the number of connections that a client
has. So there is nothing to lock, and nothing that can be away.

A client's slot comes from a keyed hash of its address. Two clients may share a slot; therefore each client has one
slot in each of several rows, and the smallest sum counts (a count-min sketch): too high only when a client shares all
its slots with busy ones, and never too low.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from functools import lru_cache

_ROWS = 3
_SLOTS = 16_384
_REMEMBERED = 1024  # addresses, whose slots need no hash when they come again
_COUNTER_BYTES = 4
_WORKER_COUNTERS = _ROWS * _SLOTS


class SharedCounts:
    """Made by the supervisor; each worker uses it through ``of_worker``."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        # Fresh for each server, so that nobody can choose addresses that share slots.
        self._key = os.urandom(16)
        self._memory = mmap.mmap(-1, workers * _WORKER_COUNTERS * _COUNTER_BYTES)
        self._counters = memoryview(self._memory).cast("I")

    def of_worker(self, index: int) -> WorkerCounts:
        return WorkerCounts(self._counters, self._key, index, self._workers)

    def forget_worker(self, index: int) -> None:
        """A worker died, and its connections with it."""
        start = index * _WORKER_COUNTERS * _COUNTER_BYTES
        length = _WORKER_COUNTERS * _COUNTER_BYTES
        self._memory[start : start + length] = bytes(length)


class WorkerCounts:
    """The counts as one worker sees and changes them (policy.client_limits.ClientCounts)."""

    __slots__ = ("_base", "_counters", "_key", "_slots", "_workers")

    def __init__(self, counters: memoryview, key: bytes, index: int, workers: int) -> None:
        self._counters, self._key, self._workers = counters, key, workers
        self._base = index * _WORKER_COUNTERS
        self._slots = lru_cache(_REMEMBERED)(self._find_slots)

    async def connect(self, address: str) -> int:
        """Count a connection of ``address`` in; the number that it has now on this host, this one included."""
        counters, end = self._counters, self._workers * _WORKER_COUNTERS
        smallest = -1
        for slot in self._slots(address):
            counters[self._base + slot] += 1
            total = 0
            for at in range(slot, end, _WORKER_COUNTERS):
                total += counters[at]
            if smallest < 0 or total < smallest:
                smallest = total
        return smallest

    def disconnect(self, address: str) -> None:
        for slot in self._slots(address):
            at = self._base + slot
            if self._counters[at]:
                self._counters[at] -= 1

    def _find_slots(self, address: str) -> tuple[int, ...]:
        """One slot in each row."""
        digest = hashlib.blake2b(address.encode(), digest_size=2 * _ROWS, key=self._key).digest()
        return tuple(
            row * _SLOTS + int.from_bytes(digest[2 * row : 2 * row + 2], "big") % _SLOTS for row in range(_ROWS)
        )
