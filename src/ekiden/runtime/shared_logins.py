"""From which addresses mailboxes were logged in to, and when: for POP before SMTP (policy.pop_before_smtp).

A table in shared memory as in shared_counts.py: each process writes columns of its own. A slot has a fingerprint of 64
bits beside the time, so that nobody is taken for another who shares its slot; a newer login takes a slot over, and the
older address must log in again.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable
from time import monotonic

_SLOTS = 16_384
_SLOT_NUMBERS = 2  # the fingerprint, the time in milliseconds (0: none)
_NUMBER_BYTES = 8
_PROCESS_NUMBERS = _SLOTS * _SLOT_NUMBERS


class SharedLogins:
    """Made by the supervisor; each process uses it through ``of_process``. ``clock`` is the same for all of them."""

    def __init__(self, processes: int, clock: Callable[[], float] = monotonic) -> None:
        self._processes, self._clock = processes, clock
        self._key = os.urandom(16)
        self._numbers = memoryview(mmap.mmap(-1, processes * _PROCESS_NUMBERS * _NUMBER_BYTES)).cast("Q")

    def of_process(self, index: int) -> ProcessLogins:
        return ProcessLogins(self._numbers, self._key, index, self._processes, self._clock)


class ProcessLogins:
    """As one process sees and changes them (policy.pop_before_smtp.MailboxLogins)."""

    __slots__ = ("_base", "_clock", "_key", "_numbers", "_processes")

    def __init__(self, numbers: memoryview, key: bytes, index: int, processes: int, clock: Callable[[], float]) -> None:
        self._numbers, self._key, self._processes, self._clock = numbers, key, processes, clock
        self._base = index * _PROCESS_NUMBERS

    def note(self, address: str) -> None:
        slot, fingerprint = self._slot(address)
        at, numbers = self._base + slot, self._numbers
        numbers[at + 1] = 0  # nobody reads the old time with the new fingerprint
        numbers[at] = fingerprint
        numbers[at + 1] = max(1, int(self._clock() * 1000))

    def age_s(self, address: str) -> float | None:
        slot, fingerprint = self._slot(address)
        numbers = self._numbers
        times = [
            numbers[at + 1]
            for at in range(slot, self._processes * _PROCESS_NUMBERS, _PROCESS_NUMBERS)
            if numbers[at] == fingerprint and numbers[at + 1]
        ]
        return max(0.0, self._clock() - max(times) / 1000) if times else None

    def _slot(self, address: str) -> tuple[int, int]:
        digest = hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=10, key=self._key).digest()
        return int.from_bytes(digest[:2], "big") % _SLOTS * _SLOT_NUMBERS, int.from_bytes(digest[2:], "big")
