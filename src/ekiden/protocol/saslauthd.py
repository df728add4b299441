"""The protocol of saslauthd's socket (its manual saslauthd(8) and the library's pwcheck client).

request = 4 counted strings: user, password, service, realm
reply   = 1 counted string: "OK" or "NO", and perhaps a blank and a reason
counted = two bytes of length, the higher first, and so many bytes
"""

from __future__ import annotations

LIMIT = 256  # saslauthd takes no longer string, and closes without an answer (MAX_REQ_LEN)
REPLY_LIMIT = 65_537


def request(user: str, password: str, service: str, realm: str = "") -> bytes:
    """Raises ValueError for what saslauthd could not take or would cut off at a NUL."""
    parts = []
    for text in (user, password, service, realm):
        data = text.encode("utf-8", "surrogateescape")
        if len(data) > LIMIT:
            raise ValueError(f"longer than {LIMIT} bytes")
        if b"\0" in data:
            raise ValueError("a NUL")
        parts.append(len(data).to_bytes(2, "big") + data)
    return b"".join(parts)


def parse_reply(buffer: bytes | bytearray) -> tuple[tuple[bool, str], int] | None:
    """Whether it is right and the reason that is given, and the length of the reply; None when it is not whole.

    Raises ValueError.
    """
    if len(buffer) < 2:
        return None
    end = 2 + int.from_bytes(buffer[:2], "big")
    if len(buffer) < end:
        return None
    text = bytes(buffer[2:end]).decode("utf-8", "replace").rstrip("\0")
    if text[:2] not in ("OK", "NO") or text[2:3] not in ("", " "):
        raise ValueError("neither OK nor NO")
    return (text[:2] == "OK", text[3:]), end
