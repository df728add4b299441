"""What goes on to another host gets our ARC seal on its way out, where arc_seal asks for that (RFC 8617 §5.1).

In:   the content as it leaves, its addresses replaced already.
Out:  the same, with a set of ARC fields before it; or as it is, where there is nothing to seal.
Never: holds more of a large message in memory than its header; changes a byte of what was there.
"""

from __future__ import annotations

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.cleanup.header_scan import HeaderScan
from ekiden.message.clock import Clock
from ekiden.message.content import InlineContent, OutgoingContent, SplicedContent
from ekiden.observe.events import Note, Observer
from ekiden.policy.arc_sealing import ArcSealer
from ekiden.queue.content import chunks

_OURS = b"authentication-results"  # what is sealed is told in a field of that name: most mail of our own has none


class OutgoingSeals:
    def __init__(self, sealer: ArcSealer, *, clock: Clock, observer: Observer, header_limit: int, program: str) -> None:
        """``header_limit``: header_size_limit; ``program``: whose lines in the log these are."""
        self._sealer = sealer
        self._clock = clock
        self._observer = observer
        self._header_limit = header_limit
        self._program = program

    async def apply(self, content: OutgoingContent, queue_id: str) -> OutgoingContent:
        """Raises StoreTrouble."""
        scan = HeaderScan(self._header_limit)
        hashes = BodyHashes()
        self._sealer.prepare(hashes)
        begun = False
        async for piece in chunks(content):
            behind = scan.feed(piece)
            if scan.complete and not begun:
                if scan.too_long or _OURS not in scan.header.lower():
                    return content
                begun, behind = True, behind.removeprefix(b"\r\n")
            hashes.feed(behind)
        if not begun:
            return content
        hashes.finish()
        sealed = self._sealer.seal_forwarded(scan.header, hashes, now=self._clock.time())
        if sealed.trouble:
            self._observer.emit(Note(self._program, sealed.trouble, "warning", queue_id))
        return with_head(sealed.fields, content) if sealed.fields else content


def with_head(head: bytes, content: OutgoingContent) -> OutgoingContent:
    if isinstance(content, InlineContent):
        return InlineContent(head + content.data)
    if isinstance(content, SplicedContent):
        return SplicedContent(head + content.head, content.file, content.skipped)
    return SplicedContent(head, content, 0)
