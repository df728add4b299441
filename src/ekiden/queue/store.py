"""The store interface: what a queue must promise, whichever database keeps it.

Every method returns only when its effect is durable; a method that raises has changed nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from ekiden.message.content import Content
from ekiden.message.queued import Pending, QueuedMessage, QueueState


class StoreTrouble(Exception):
    """The store could not do its work: disk full, I/O error, database away. Nothing was changed."""

    def __init__(self, text: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.full = full  # no space left: 452 4.3.1 for a client


class Settlement(Struct, frozen=True):
    """The end of one delivery round of one message, applied as one transaction.

    No pending recipient left means that the message is removed. ``born`` are messages that replace what
    left (a DSN, a forwarded copy): they are durable in the same instant, so that nothing is ever in neither place.
    """

    queue_id: str
    pending: tuple[Pending, ...] = ()
    due: float = 0.0
    delay_warned: bool = False
    born: tuple[QueuedMessage, ...] = ()
    # More than 0: only a part of the round is over. ``pending`` is what is left of it, the message stays active with
    # a lease of this many seconds, and ``due`` does not count.
    lease_s: float = 0.0
    # More than 0: ``born`` are the caller's to deliver at once (active with this lease), like put(lease_s=...).
    born_lease_s: float = 0.0


class QueueEntry(Struct, frozen=True):
    """A message in a listing: without its content."""

    state: QueueState
    message: QueuedMessage
    shard: str
    reason: str = ""  # why it is on hold or corrupt


class Change(enum.Enum):
    """What an administrator can do to a message."""

    HOLD = "hold"
    RELEASE = "release"  # from hold; and one that is held until its time (RFC 4865), by name only
    REQUEUE = "requeue"  # due now, if it is incoming or deferred
    DELETE = "delete"
    EXPIRE = "expire"  # give up: the next round returns it to its sender (not what is being delivered just now)


HEAD_LIMIT_BYTES = 131_072


class ContentWriter(Protocol):
    """Takes the content of a message as it arrives: small content stays in memory, larger goes to a file."""

    size: int

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Take the next bytes; True asks the caller to await drain() before it goes on reading."""

    async def drain(self) -> None:
        """Wait until what was written has left memory. Raises StoreTrouble (full=True when the disk is)."""

    async def finish(self, head: bytes = b"") -> Content:
        """All has been written: the content, durable if it lies in a file. Raises StoreTrouble.

        ``head`` goes before all of it: header fields that say what was found in the content. HEAD_LIMIT_BYTES at most.
        """

    async def discard(self) -> None:
        """Forget it all; safe to call at any time, also after finish()."""


@runtime_checkable
class BatchStore(Protocol):
    """What a store may offer beside Store: the scheduler uses it to save a wake-up a message."""

    async def settle_all(self, settlements: Sequence[Settlement]) -> None:
        """Several settlements in one transaction: all of them or, with StoreTrouble, none."""


class Store(Protocol):
    def content_writer(self, queue_id: str) -> ContentWriter: ...

    async def read_content(self, content: Content) -> bytes:
        """The whole content in memory: for messages known to be small (DSN headers use read_head)."""

    async def put(self, message: QueuedMessage, *, lease_s: float = 0.0) -> None:
        """Make a message durable. With a lease it is the caller's to deliver at once (active), else it is incoming."""

    async def claim(self, now: float, limit: int, lease_s: float) -> list[QueuedMessage]:
        """Up to ``limit`` messages that are due (incoming, deferred, or active with a lease that ran out), now leased.

        A message that cannot be read becomes corrupt and is not returned.
        """

    async def settle(self, settlement: Settlement) -> None: ...

    async def next_due(self) -> float | None:
        """When the next message that waits is due (seconds since the epoch), or None."""

    async def entries(
        self, *, states: frozenset[QueueState] | None = None, limit: int = 0, after: str = ""
    ) -> list[QueueEntry]:
        """Messages in the order of their ids, those beyond ``after``; no more than ``limit`` (0: all of them).

        A listing of a million messages goes page by page: ``after`` is the last id of the page before.
        """

    async def entry(self, queue_id: str) -> QueueEntry | None: ...

    async def change(self, queue_ids: Sequence[str], change: Change, now: float) -> list[str]:
        """Apply a change; an empty list of ids means all messages. Returns the ids that it applied to.

        A requeue of all leaves alone what its sender wants held until a later time (RFC 4865).
        """

    async def counts(self) -> dict[QueueState, int]: ...

    async def close(self) -> None: ...
