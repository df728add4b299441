"""Any bytes, in any chunking, give the same replies or the same trouble, within the limits.

Never another exception, never a control character in a text, never a status that contradicts its code.
"""

from __future__ import annotations

from ekiden.message.reply import Reply
from ekiden.protocol.smtp.replies import ReplyLimits, ReplyReader, ReplyTrouble, status_of

LIMITS = ReplyLimits(line_bytes=64, lines=8, reply_bytes=256)

SEEDS = [
    b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n",
    b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n",
    b"550-5.7.1 no\r\n550 5.7.1 way\r\n",
    b"550 5.7.2\r\n",
    b"550 2.0.0 liar\r\n250-a\r\n550 b\r\n",
    b"421\n250\r\n",
    b"250" + b"x" * 80 + b"\r\n",
]


def heard(data: bytes, chunk: int) -> list[Reply | str]:
    reader = ReplyReader(LIMITS)
    found: list[Reply | str] = []
    for at in range(0, len(data), chunk):
        reader.receive(data[at : at + chunk])
        try:
            while (reply := reader.next()) is not None:
                found.append(reply)
        except ReplyTrouble as trouble:
            return [*found, str(trouble)]
    return found


def one_input(data: bytes) -> None:
    whole = heard(data, max(1, len(data)))
    for chunk in (1, 2, 3, 7, 64):
        assert heard(data, chunk) == whole
    for one in whole:
        if isinstance(one, str):
            assert one.isprintable()
            continue
        assert len(one.lines) <= LIMITS.lines
        assert one.text.isprintable()
        assert one.status is None or one.status.klass == one.code // 100
        assert status_of(one).klass == one.code // 100
