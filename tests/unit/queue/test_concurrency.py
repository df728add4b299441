from __future__ import annotations

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryResult, deferred, failed, relayed
from ekiden.message.status import Status
from ekiden.queue.concurrency import TransportLimits, Window, is_unreachable, transport_limits
from ekiden.queue.fair_queue import FairQueue
from support.honours import honours


def limits_of(transport: str = "smtp", **settings: str) -> TransportLimits:
    return transport_limits(Parameters(settings), transport)


def test_the_window_opens_by_one_a_delivery_up_to_the_limit() -> None:
    window = Window(limits_of())
    assert window.size == 5
    sizes = []
    for _ in range(20):
        window.succeeded(busy=window.size)
        sizes.append(window.size)
    assert sizes[:3] == [6, 7, 8]
    assert sizes[-1] == 20


def test_the_window_does_not_run_away_from_what_is_in_use() -> None:
    window = Window(limits_of())
    for _ in range(100):
        window.succeeded(busy=1)
    assert window.size == 6  # 1 in use + 5


@honours("default_destination_concurrency_positive_feedback")
def test_feedback_by_concurrency_opens_by_one_a_round() -> None:
    window = Window(limits_of(default_destination_concurrency_positive_feedback="1/concurrency"))
    for _ in range(5):
        window.succeeded(busy=5)
    assert window.size == 6


def test_no_limit() -> None:
    window = Window(limits_of(default_destination_concurrency_limit="0"))
    for _ in range(100):
        window.succeeded(busy=window.size)
    assert window.size == 105


def test_a_cohort_of_failures_is_death() -> None:
    window = Window(limits_of())
    deaths = [window.failed() for _ in range(4)]
    assert deaths == [False, False, False, True]  # 1/5 + 1/4 + 1/3 + 1/2 > 1
    window.reset()
    assert window.size == 5


def test_success_forgives() -> None:
    window = Window(limits_of())
    for _ in range(30):
        assert not window.failed()
        window.succeeded(busy=window.size)


@honours("default_destination_concurrency_failed_cohort_limit")
def test_no_death_when_the_cohort_limit_is_0_and_one_delivery_always_runs() -> None:
    window = Window(limits_of(default_destination_concurrency_failed_cohort_limit="0"))
    assert not any(window.failed() for _ in range(50))
    assert window.size == 1


@pytest.mark.parametrize(
    ("transport", "settings", "concurrency", "recipients"),
    [
        ("smtp", {}, 20, 50),
        ("local", {}, 2, 1),
        ("slow", {}, 20, 50),
        ("slow", {"slow_destination_concurrency_limit": "1"}, 1, 50),
        ("slow", {"slow_destination_recipient_limit": "$mine", "mine": "7"}, 20, 7),
        ("slow", {"slow_destination_recipient_limit": "lots"}, 20, 50),
        ("smtp", {"default_destination_concurrency_limit": "9"}, 9, 50),
    ],
)
def test_limits_of_a_transport(transport: str, settings: dict[str, str], concurrency: int, recipients: int) -> None:
    limits = transport_limits(Parameters(settings), transport)
    assert (limits.concurrency, limits.recipients) == (concurrency, recipients)


GONE = deferred(Status(4, 4, 1), "connection refused")
FULL = deferred(Status(4, 2, 2), "mailbox full")
BUSY = deferred(Status(4, 7, 0), "host said: 421 busy", diagnostic="smtp; 421 4.7.0 busy")
FINE = relayed(Status(2, 0, 0), "ok")
NOBODY = failed(Status(5, 1, 1), "no such user")


@pytest.mark.parametrize(
    ("results", "unreachable"),
    [
        ([GONE], True), ([GONE, GONE], True), ([BUSY], True), ([FULL], False), ([FINE], False), ([NOBODY], False),
        ([GONE, FINE], False), ([GONE, FULL], False), ([], False), ([deferred(Status(4, 3, 2), "shutting down")], True),
    ],
)  # fmt: skip
def test_what_says_that_a_destination_does_not_answer(results: list[DeliveryResult], unreachable: bool) -> None:
    assert is_unreachable(results) is unreachable


class Piece:
    def __init__(self, sender: str, number: int, bulky: bool = False, priority: int = 0) -> None:
        self.priority = priority
        self.sender = Address(sender, "example.com")
        self.number = number
        self.is_bulky = bulky

    def __repr__(self) -> str:
        return f"{self.sender.local}{self.number}"


def drained(queue: FairQueue[Piece], *, bulky: bool = True) -> str:
    out = []
    while (job := queue.take(bulky=bulky)) is not None:
        out.append(repr(job))
    return " ".join(out)


def test_senders_take_turns() -> None:
    queue: FairQueue[Piece] = FairQueue(5)
    for number in range(4):
        queue.put(Piece("list", number))
    queue.put(Piece("ann", 0))
    queue.put(Piece("ann", 1))
    queue.put(Piece("bob", 0))
    assert drained(queue) == "list0 ann0 bob0 list1 ann1 list2 list3"
    assert len(queue) == 0


def test_one_that_waited_alone_keeps_its_place() -> None:
    queue: FairQueue[Piece] = FairQueue(5)
    for first in (Piece("ann", 0), Piece("ann", 0, bulky=True), Piece("ann", 0, priority=1)):
        queue.put(first)
        assert (len(queue), queue.small, queue.bulky) == (1, not first.is_bulky, first.is_bulky)
        assert drained(queue, bulky=first.is_bulky) == "ann0"
        queue.put(first)
        queue.put(Piece("bob", 0, bulky=first.is_bulky))
        queue.put(Piece("ann", 1, bulky=first.is_bulky))
        assert (len(queue), queue.small + queue.bulky) == (3, 3)
        assert drained(queue) == "ann0 bob0 ann1"


def test_a_bulky_one_goes_after_some_small_ones() -> None:
    queue: FairQueue[Piece] = FairQueue(2)
    for number in range(3):
        queue.put(Piece("B", number, bulky=True))
    for number in range(5):
        queue.put(Piece("s", number))
    assert drained(queue) == "s0 s1 B0 s2 s3 B1 s4 B2"


def test_a_higher_priority_goes_first_and_starves_nobody() -> None:
    """RFC 6710 §5.3: priorities are honoured; the rest has a turn after so many of them."""
    queue: FairQueue[Piece] = FairQueue(5, 3)
    for number in range(3):
        queue.put(Piece("n", number))
    for number in range(2):
        queue.put(Piece("l", number, priority=-4))
    for number in range(8):
        queue.put(Piece("h", number, priority=6))
    queue.put(Piece("top", 0, priority=9))
    assert len(queue) == 14
    assert drained(queue) == "top0 h0 h1 n0 h2 h3 h4 l0 h5 h6 h7 l1 n1 n2"
    assert len(queue) == 0
    # Nobody is overtaken for longer than so many jobs, whatever keeps coming.
    for number in range(40):
        queue.put(Piece("h", number, priority=1))
    queue.put(Piece("low", 0, priority=-9))
    order = drained(queue).split()
    assert order.index("low0") == 3


def test_priorities_and_bulky_jobs_together() -> None:
    queue: FairQueue[Piece] = FairQueue(1, 2)
    queue.put(Piece("B", 0, bulky=True, priority=5))
    queue.put(Piece("s", 0))
    assert (queue.small, queue.bulky) == (1, 1)
    assert drained(queue, bulky=False) == "s0"
    assert drained(queue) == "B0"


def test_no_place_for_bulky_ones() -> None:
    queue: FairQueue[Piece] = FairQueue(5)
    queue.put(Piece("B", 0, bulky=True))
    queue.put(Piece("s", 0))
    assert drained(queue, bulky=False) == "s0"
    assert len(queue) == 1


@honours(
    "local_destination_concurrency_limit",
    "local_destination_recipient_limit",
    "lmtp_destination_concurrency_limit",
    "lmtp_destination_recipient_limit",
    "smtp_destination_concurrency_limit",
    "smtp_destination_recipient_limit",
    "virtual_destination_concurrency_limit",
    "virtual_destination_recipient_limit",
)
@pytest.mark.parametrize("transport", ["local", "lmtp", "smtp", "virtual"])
def test_each_transport_that_postfix_has_limits_of_its_own(transport: str) -> None:
    settings = {f"{transport}_destination_concurrency_limit": "3", f"{transport}_destination_recipient_limit": "4"}
    limits = transport_limits(Parameters(settings), transport)
    assert (limits.concurrency, limits.recipients) == (3, 4)
    other = transport_limits(Parameters(settings), "other")
    assert (other.concurrency, other.recipients) == (20, 50)
