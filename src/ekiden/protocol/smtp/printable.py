"""What a peer said, as it may be shown in replies and logs."""

from __future__ import annotations

_PRINTABLE = bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in range(256))


def printable(text: bytes, limit: int = 64) -> str:
    """``text`` as ASCII without control characters, not longer than ``limit``."""
    return text[:limit].translate(_PRINTABLE).decode("ascii")
