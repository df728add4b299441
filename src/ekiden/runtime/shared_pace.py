"""The rate delays of transports and destinations, kept to by all workers of a host together.

A table in memory that all workers share (mmap(2), made before they are forked) has, for each slot, the time from which
on the next delivery may begin: CLOCK_MONOTONIC, which is the same for all processes of a host. A name's slot is a
keyed hash; two names that share one wait for each other, so the pace may be slower than asked for and never faster.
A worker that reads and sets slots holds the lock of a file (fcntl(2)): it goes with its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

_SLOTS = 16_384
_SLOT_BYTES = 8


class SharedPace:
    """A Pace (queue.pace). Made by the supervisor and used by each worker as it is.

    ``lock_file`` is opened, and made, by the worker that first needs it.
    """

    def __init__(self, lock_file: Path, clock: Callable[[], float] = monotonic) -> None:
        # Fresh for each server, so that nobody can choose destinations that share slots.
        self._key = os.urandom(16)
        self._clock = clock
        lock_file.unlink(missing_ok=True)  # that of a server that ran as another user
        self._lock_file = lock_file
        self._lock_fd = -1
        self._free_at = memoryview(mmap.mmap(-1, _SLOTS * _SLOT_BYTES)).cast("d")

    def claim(self, delays: Sequence[tuple[str, float]]) -> list[float]:
        slots = [self._slot(name) for name, _ in delays]
        self._lock()
        try:
            now = self._clock()
            waits = [
                max(0.0, self._free_at[slot] - now) if delay_s else 0.0
                for slot, (_, delay_s) in zip(slots, delays, strict=True)
            ]
            if not any(waits):
                self._set(slots, delays, now)
        finally:
            self._unlock()
        return waits

    def hold(self, name: str, delay_s: float) -> None:
        self._lock()
        try:
            self._set((self._slot(name),), ((name, delay_s),), self._clock())
        finally:
            self._unlock()

    def _set(self, slots: Sequence[int], delays: Sequence[tuple[str, float]], now: float) -> None:
        for slot, (_, delay_s) in zip(slots, delays, strict=True):
            if delay_s:
                self._free_at[slot] = max(self._free_at[slot], now + delay_s)

    def _lock(self) -> None:
        if self._lock_fd < 0:
            self._lock_fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # Held for microseconds, and by nobody that does anything else meanwhile.
        fcntl.lockf(self._lock_fd, fcntl.LOCK_EX)

    def _unlock(self) -> None:
        fcntl.lockf(self._lock_fd, fcntl.LOCK_UN)

    def _slot(self, name: str) -> int:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") % _SLOTS
