"""The DKIM signatures of mail that the server writes itself: notifications and reports (RFC 6376).

The same table decides as for other mail that leaves here (dkim_signing_table): MAILER-DAEMON's domain needs an entry.
"""

from __future__ import annotations

from collections.abc import Callable

from ekiden.policy.signing import MessageSigner
from ekiden.queue.store import StoreTrouble

# None: nothing is signed. It is asked each time, for a reload may change it.
HostSigner = Callable[[], MessageSigner | None]


def nothing() -> MessageSigner | None:
    return None


async def signed(content: bytes, signer: MessageSigner | None, warn: Callable[[str], None]) -> bytes:
    """``content`` in wire form, its signatures on top. Raises StoreTrouble where it must have one and cannot now."""
    if signer is None:
        return content
    end = content.find(b"\r\n\r\n")
    header, body = (content, b"") if end < 0 else (content[: end + 2], content[end + 4 :])
    signing = signer.of_host()
    signing.take_header(header, header)
    signing.feed(body)
    conclusion = await signing.conclude()
    for warning in conclusion.warnings:
        warn(warning)
    refusal = conclusion.decision.refusal
    if refusal is not None:
        raise StoreTrouble(f"{refusal.reply.text} {refusal.detail}".rstrip())
    return conclusion.head + content
