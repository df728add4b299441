"""How many deliveries run at once: the adaptive window of a destination, and the limits of a transport.

The window opens by the positive feedback of deliveries to a destination that answers, up to the limit, and closes by
the negative feedback of those to one that does not. When as many deliveries have failed as make up the allowed number
of whole windows ("cohorts"), with no success between, the destination is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

from ekiden.config.expand import ExpansionError
from ekiden.config.parameters.queue import FeedbackAmount
from ekiden.config.registry import Parameter
from ekiden.config.snapshot import Parameters
from ekiden.message.delivery import Action, DeliveryResult

T = TypeVar("T")


class TransportLimits(Struct, frozen=True):
    """What the parameters say for one transport. A limit of 0 is none."""

    deliveries: int
    concurrency: int
    initial: int
    recipients: int
    positive: FeedbackAmount
    negative: FeedbackAmount
    failed_cohorts: int
    slot_cost: int
    priority_cost: int
    destination_delay_s: float  # between two deliveries to one destination
    transport_delay_s: float  # between the starts of two deliveries of the transport
    is_paced: bool  # there is one of these delays


def transport_limits(parameters: Parameters, transport: str, process_limit: int | None = None) -> TransportLimits:
    """The limits of ``transport``: ``TRANSPORT_destination_...`` where it is set, else ``default_destination_...``.

    ``process_limit`` is what master.cf says of it (the column maxproc); None is default_process_limit, 0 no limit.
    """

    def own(name: str, default: str, kind: type[T]) -> T:
        return transport_value(parameters, f"{transport}_{name}", default, kind)

    def limit(name: str) -> int:
        return own(name, f"default_{name}", int)

    delay_s = own("destination_rate_delay", "default_destination_rate_delay", float)
    transport_delay_s = own("transport_rate_delay", "default_transport_rate_delay", float)
    feedback = "destination_concurrency_{}_feedback"
    return TransportLimits(
        deliveries=parameters.default_process_limit if process_limit is None else process_limit,
        # With a delay between deliveries there is never more than one at a time (qmgr(8)).
        concurrency=1 if delay_s else limit("destination_concurrency_limit"),
        initial=own("initial_destination_concurrency", "initial_destination_concurrency", int),
        recipients=limit("destination_recipient_limit"),
        positive=own(feedback.format("positive"), "default_" + feedback.format("positive"), FeedbackAmount),
        negative=own(feedback.format("negative"), "default_" + feedback.format("negative"), FeedbackAmount),
        failed_cohorts=limit("destination_concurrency_failed_cohort_limit"),
        slot_cost=limit("delivery_slot_cost"),
        priority_cost=parameters.qmgr_priority_cost,
        destination_delay_s=delay_s,
        transport_delay_s=transport_delay_s,
        is_paced=delay_s > 0 or transport_delay_s > 0,
    )


def transport_value(parameters: Parameters, name: str, default: str, kind: type[T]) -> T:
    """A value that a transport of master.cf may have for its own; such names cannot all be declared."""
    declared = parameters.declared()
    if name in declared:
        value = getattr(parameters, name)
    else:
        value = getattr(parameters, default)
        text = parameters.settings.get(name)
        if text is not None:
            value = _parsed(text, parameters, declared, default)
    if not isinstance(value, kind):
        raise TypeError(f"{name} is not of type {kind.__name__}")
    return value


def _parsed(text: str, parameters: Parameters, declared: dict[str, Parameter[object]], default: str) -> object:
    try:
        return declared[default].parse(parameters.expanded(text))
    except (ValueError, ExpansionError):
        # `ekiden check` complains of the value; a running server goes on with the default.
        return getattr(parameters, default)


class Window:
    """The concurrency of one destination."""

    __slots__ = ("_failed_cohorts", "_failure", "_success", "limits", "size")

    def __init__(self, limits: TransportLimits) -> None:
        self.limits = limits
        self.size = self._initial()
        self._success = 0.0
        self._failure = 0.0
        self._failed_cohorts = 0.0

    def _initial(self) -> int:
        limit = self.limits.concurrency
        return min(self.limits.initial, limit) if limit else self.limits.initial

    def succeeded(self, busy: int) -> None:
        """A delivery reached the destination; ``busy`` deliveries run there, this one included."""
        self._failed_cohorts = 0.0
        limits = self.limits
        if limits.concurrency and self.size >= limits.concurrency:
            self.size = limits.concurrency  # a reload may have lowered it
            return
        # The window stays near what is in use: one that opened far beyond it could not close in time.
        if self.size >= busy + limits.initial:
            return
        feedback = limits.positive.at(self.size)
        self._success += feedback
        while feedback and self._success + feedback / 2 >= 1:
            self.size += 1
            self._success -= 1
            self._failure = 0.0
        if limits.concurrency:
            self.size = min(self.size, limits.concurrency)

    def failed(self) -> bool:
        """A delivery could not reach the destination. True: the destination is dead now."""
        limits = self.limits
        self._failed_cohorts += 1 / self.size
        if limits.failed_cohorts and self._failed_cohorts >= limits.failed_cohorts:
            return True
        feedback = limits.negative.at(self.size)
        self._failure += feedback
        while feedback and self._failure + feedback / 2 >= 1:
            self.size -= 1
            self._success = 0.0
            self._failure -= 1
        self.size = max(self.size, 1)
        return False

    def reset(self) -> None:
        """Back from the dead: nothing is known of the destination."""
        self.size = self._initial()
        self._success = self._failure = self._failed_cohorts = 0.0


def is_unreachable(results: Sequence[DeliveryResult]) -> bool:
    """Whether the results of one delivery say that the destination as a whole did not answer.

    That is so when all recipients are delayed for a reason of network and routing (RFC 3463 §3.5: X.4.*), because the
    host takes no mail now (X.3.2), or because it closes the channel with 421 (RFC 5321 §3.8). A full mailbox or a
    greylisting of one recipient says nothing about the destination.
    """
    for result in results:
        if result.action is not Action.DELAYED:
            return False
        status = result.status
        if status.subject == 4 or (status.subject == 3 and status.detail == 2):
            continue
        if not result.diagnostic.startswith("smtp; 421"):
            return False
    return bool(results)
