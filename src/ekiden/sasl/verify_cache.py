"""Passwords that were right a moment ago, so that a client with a hundred messages does not cost a hundred hashes.

An entry is a keyed digest of name and password (the key is of this process alone and nowhere else), the verdict, and
the stamp of what the verdict depends on: when a password or a flag changes, the stamp does, and the entry is of no use
from that moment on. Wrong passwords are not remembered.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable

from msgspec import Struct

from ekiden.sasl.accounts import Verdict


class _Entry(Struct, frozen=True):
    verdict: Verdict
    stamp: Hashable
    until: float


class VerifyCache:
    """``monotonic`` gives seconds; ``time_s`` 0 remembers nothing."""

    def __init__(self, time_s: float, size: int, monotonic: Callable[[], float]) -> None:
        self._time_s, self._size, self._monotonic = time_s, size, monotonic
        self._key = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __bool__(self) -> bool:
        return self._time_s > 0

    def __len__(self) -> int:
        return len(self._entries)

    def digest(self, name: str, password: str) -> bytes:
        """What stands for name and password here."""
        written = name.encode("utf-8", "surrogateescape")
        message = len(written).to_bytes(8, "big") + written + password.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(message, key=self._key, digest_size=32).digest()

    def get(self, digest: bytes, stamp: Hashable) -> Verdict | None:
        """The verdict, if it was given with this stamp and is not too old."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry.stamp != stamp or self._monotonic() >= entry.until:
            del self._entries[digest]
            return None
        return entry.verdict

    def put(self, digest: bytes, stamp: Hashable, verdict: Verdict) -> None:
        if not verdict.accepted or not self._time_s:
            return
        self._entries[digest] = _Entry(verdict, stamp, self._monotonic() + self._time_s)
        self._entries.move_to_end(digest)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
