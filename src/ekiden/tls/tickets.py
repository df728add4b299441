"""The keys that session tickets are sealed with (RFC 8446 §4.6.1): all workers have the same.

They start from one secret, and say no word to each other. Each period has keys that follow from its secret, and the
secret of the next period follows from it by a hash: whoever steals one learns nothing of the periods before. (With TLS
1.3 a stolen key opens nothing that was said in any case, because a new key exchange goes with each ticket.)
"""

from __future__ import annotations

import hashlib
import os

_SECRET_BYTES = 32
PERIOD_S = 3600.0


class TicketKeys:
    """``started`` is monotonic seconds, on the clock that all processes of a host share (CLOCK_MONOTONIC)."""

    def __init__(self, started: float, secret: bytes = b"") -> None:
        self._secret = secret or os.urandom(_SECRET_BYTES)
        self._started = started
        self._period = 0

    def advance(self, now: float) -> int:
        """Forget the secrets of the periods that are over; the number of the one that ``now`` is in."""
        period = int((now - self._started) // PERIOD_S)
        while self._period < period:
            self._secret = hashlib.blake2b(b"next", key=self._secret, digest_size=_SECRET_BYTES).digest()
            self._period += 1
        return self._period

    def keys(self, now: float, service: str, size: int) -> bytes:
        """``size`` octets for the tickets of one service, which no other service takes."""
        self.advance(now)
        digest = hashlib.shake_256(self._secret + b"ticket keys of " + service.encode("utf-8", "surrogateescape"))
        return digest.digest(size)
