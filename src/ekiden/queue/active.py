"""The active set: the messages in memory, what is known of each in its delivery round, and the room there is."""

from __future__ import annotations

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.queue.notice import tells_success
from ekiden.queue.store import Settlement


class ActiveMessage:
    """A message in one delivery round: it ends when ``open_jobs`` falls to 0.

    ``results`` goes with ``message.pending``: None is a recipient that has had no attempt in this round.
    """

    __slots__ = (
        "before_s",
        "entered",
        "final",
        "is_claimed",
        "is_done",
        "is_flushed",
        "is_in_line",
        "is_withdrawn",
        "jobs",
        "lease_s",
        "message",
        "needs_notice",
        "open_jobs",
        "partly_settled",
        "results",
        "size",
        "unfinished",
        "was_claimed_again",
    )

    def __init__(self, message: QueuedMessage, entered: float, before_s: float, *, is_claimed: bool) -> None:
        self.message = message
        self.size = message.content.size
        self.is_claimed = is_claimed  # it came from the store, not straight from its client
        self.entered = entered  # monotonic
        self.before_s = before_s  # the log's delays a: from arrival to entered
        self.results: list[DeliveryResult | None] = [None] * len(message.pending)
        self.open_jobs = 1  # one for the look for routes
        self.jobs: list[Job] = []
        self.unfinished = 0  # recipients that stay: delayed ones
        # A recipient failed, or its success is to be reported; who set a time (RFC 2852) may want to hear of all.
        self.needs_notice = message.envelope.deliver_by is not None
        self.final: Settlement | None = None  # the round is over and this is its end
        self.partly_settled = 0  # recipients that the store knows to be delivered
        self.is_withdrawn = False
        self.is_in_line = False  # the settler has it to offer
        self.is_flushed = False  # an administrator's flush brought it in: defer_transports do not hold it back
        self.is_done = False  # the final settlement is durable
        self.was_claimed_again = False  # the store gave it out once more while it was here
        self.lease_s = 0.0

    def is_silent_success(self, pending: Pending, result: DeliveryResult) -> bool:
        """The recipient has its mail, and nobody is to be told so."""
        return result.status.klass == 2 and not tells_success(self.message.envelope, pending.recipient, result)


class Job:
    """One delivery: some recipients of one message (by their index) to one destination."""

    __slots__ = (
        "active",
        "indexes",
        "is_bulky",
        "is_dropped",
        "is_started",
        "priority",
        "request",
        "sender",
        "started",
    )

    def __init__(self, active: ActiveMessage, request: DeliveryRequest, indexes: tuple[int, ...], bulky: bool) -> None:
        self.active = active
        self.request = request
        self.indexes = indexes
        self.sender: Address = request.envelope.sender
        self.priority = request.envelope.priority
        self.is_bulky = bulky
        self.is_started = False
        self.started = 0.0  # monotonic
        self.is_dropped = False


class ActiveLimits(Struct, frozen=True):
    messages: int
    recipients: int
    content_bytes: int


def active_limits(parameters: Parameters) -> ActiveLimits:
    return ActiveLimits(
        parameters.qmgr_message_active_limit,
        parameters.qmgr_message_recipient_limit,
        parameters.qmgr_active_content_limit,
    )


class _Usage:
    """What some messages take of the active set."""

    __slots__ = ("content_bytes", "messages", "recipients")

    def __init__(self) -> None:
        self.messages = self.recipients = self.content_bytes = 0


def _is_below(usage: _Usage | ActiveLimits, limits: ActiveLimits) -> bool:
    return (
        usage.messages < limits.messages
        and usage.recipients < limits.recipients
        and usage.content_bytes < limits.content_bytes
    )


# New mail and mail from the store may each fill this part of the active set, so that neither keeps the other out.
_SHARE = 0.75


class ActiveSet:
    """Which messages are in memory, and how much room they take: it is taken before they are made durable.

    A limit is met when what is there already reaches it, so the last message may pass that of content, and a batch of
    claimed ones that of recipients.
    """

    __slots__ = ("_claimed", "_limits", "_new", "_share", "messages")

    def __init__(self, limits: ActiveLimits) -> None:
        self.messages: dict[str, ActiveMessage] = {}
        self._new, self._claimed = _Usage(), _Usage()
        self.limits = limits

    @property
    def limits(self) -> ActiveLimits:
        return self._limits

    @limits.setter
    def limits(self, limits: ActiveLimits) -> None:
        self._limits = limits
        self._share = ActiveLimits(*(max(1, int(getattr(limits, name) * _SHARE)) for name in limits.__struct_fields__))

    def has_room_for_new(self) -> bool:
        # Every message asks: both answers of _is_below(), without its calls.
        limits, share, new, claimed = self._limits, self._share, self._new, self._claimed
        return (
            new.messages + claimed.messages < limits.messages
            and new.recipients + claimed.recipients < limits.recipients
            and new.content_bytes + claimed.content_bytes < limits.content_bytes
            and new.messages < share.messages
            and new.recipients < share.recipients
            and new.content_bytes < share.content_bytes
        )

    def room_for_claimed(self, content_bytes: int) -> int:
        """How many messages of the store may come in, if each has up to ``content_bytes`` of content in memory."""
        limits, total = self._limits, self.counts
        if not (_is_below(total, limits) and _is_below(self._claimed, self._share)):
            return 0
        return min(
            limits.messages - total.messages,
            self._share.messages - self._claimed.messages,
            max(1, (limits.content_bytes - total.content_bytes) // max(1, content_bytes)),
        )

    def take_room(self, message: QueuedMessage, *, claimed: bool) -> None:
        usage, content = self._claimed if claimed else self._new, message.content
        usage.messages += 1
        usage.recipients += len(message.pending)
        if isinstance(content, InlineContent):
            usage.content_bytes += len(content.data)

    def give_room(self, message: QueuedMessage, *, claimed: bool) -> None:
        usage, content = self._claimed if claimed else self._new, message.content
        usage.messages -= 1
        usage.recipients -= len(message.pending)
        if isinstance(content, InlineContent):
            usage.content_bytes -= len(content.data)

    @property
    def counts(self) -> ActiveLimits:
        """What is taken."""
        new, claimed = self._new, self._claimed
        return ActiveLimits(
            new.messages + claimed.messages,
            new.recipients + claimed.recipients,
            new.content_bytes + claimed.content_bytes,
        )
