from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, Route, deferred, failed
from ekiden.message.envelope import Notify
from ekiden.message.queued import QueuedMessage, QueueState
from ekiden.message.status import Status
from ekiden.observe.events import Activated, Attempted, Expired, Note, Notified, Removed
from ekiden.queue.scheduler import SchedulerStatus
from ekiden.queue.store import Change, StoreTrouble
from support.fake_clock import settle_down, until
from support.fake_store import FakeBatchStore
from support.honours import honours
from support.queue_world import OK, World

DAY = 86400.0
GONE = deferred(Status(4, 4, 1), "connect to far.example[192.0.2.1]:25: Connection refused")
LATER = deferred(Status(4, 2, 2), "452 4.2.2 mailbox full")
NOBODY = failed(Status(5, 1, 1), "550 5.1.1 no such user", diagnostic="smtp; 550 5.1.1 no such user")


def test_a_message_goes_through() -> None:
    world = World()

    async def story() -> None:
        message = world.message("bob@far.example")
        await world.scheduler.accept(message)
        assert message.queue_id in world.store.messages  # durable before anything else
        await until(lambda: not world.store.messages)
        kinds = [type(event) for event in world.seen.events]
        assert kinds == [Activated, Attempted, Removed]
        attempt = world.seen.of(Attempted)[0]
        assert (attempt.transport, attempt.recipient, attempt.result) == ("smtp", "bob@far.example", OK)
        assert world.scheduler.status().messages == 0
        assert world.store.claims == world.store.claims[:1]  # it was not read again

    world.run(story)


def test_nothing_is_in_the_queue_when_the_store_refuses() -> None:
    world = World()

    async def story() -> None:
        world.store.trouble = lambda verb, queue_id: verb == "put"
        with pytest.raises(StoreTrouble):
            await world.scheduler.accept(world.message())
        await settle_down()
        assert not world.requests
        assert world.scheduler.status().messages == 0

    world.run(story)


def test_recipients_are_grouped_by_next_hop_and_limited() -> None:
    world = World()

    async def story() -> None:
        to = [f"u{n}@a.example" for n in range(120)] + ["x@b.example", "y@b.example"]
        await world.scheduler.accept(world.message(*to))
        await until(lambda: not world.store.messages)
        sizes = sorted((request.next_hop, len(request.recipients)) for request in world.requests)
        assert sizes == [("a.example", 20), ("a.example", 50), ("a.example", 50), ("b.example", 2)]
        assert len(world.seen.of(Attempted)) == 122

    world.run(story)


def test_a_recipient_limit_of_one_makes_the_recipient_the_destination() -> None:
    world = World()
    world.route = lambda to: Route("local", "here.example", to)

    async def story() -> None:
        await world.scheduler.accept(world.message("a@here.example", "b@here.example"))
        await until(lambda: not world.store.messages)
        assert [len(request.recipients) for request in world.requests] == [1, 1]
        assert world.scheduler.status().destinations == 2

    world.run(story)


def test_retries_until_it_expires_and_is_returned() -> None:
    world = World()
    world.answers(LATER)

    async def story() -> None:
        message = world.message("bob@far.example")
        await world.scheduler.accept(message)
        await until(lambda: world.store.states[message.queue_id] is QueueState.DEFERRED)
        assert 300 <= world.store.messages[message.queue_id].due - world.clock.time() <= 330
        await world.clock.advance(299)
        assert len(world.requests) == 1
        await world.clock.advance(32)
        assert len(world.requests) == 2
        await world.clock.advance(5 * DAY - 600)
        assert message.queue_id in world.store.messages
        assert not world.store.born
        assert 100 < len(world.requests) < 120
        world.answers(OK)  # the next hop of ann's notification; bob's message is tried no more than once again

        async def by_recipient(request: DeliveryRequest) -> Sequence[DeliveryResult]:
            return [LATER if each.address.local == "bob" else OK for each in request.recipients]

        world.peer = by_recipient
        await world.clock.advance(9000)
        assert message.queue_id in world.store.removed
        assert [str(each.envelope.recipients[0].address) for each in world.store.born] == ["ann@example.com"]
        assert world.seen.of(Expired)[0].sender == "ann@example.com"
        assert not world.store.messages  # the notification went too

    world.run(story)


def test_a_failure_is_returned_in_the_same_transaction() -> None:
    world = World()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        return [NOBODY if each.address.local == "nobody" else OK for each in request.recipients]

    world.peer = peer

    async def story() -> None:
        message = world.message("nobody@far.example", "bob@far.example")
        await world.scheduler.accept(message)
        await until(lambda: not world.store.messages)
        settlement = next(each for each in world.store.settlements if each.queue_id == message.queue_id)
        assert not settlement.pending
        dsn = settlement.born[0]
        assert dsn.envelope.sender.is_null
        notified = world.seen.of(Notified)[0]
        assert (notified.queue_id, notified.kind, notified.notification_id) == (
            message.queue_id,
            "non-delivery",
            dsn.queue_id,
        )
        assert [request.queue_id for request in world.requests] == [message.queue_id, dsn.queue_id]

    world.run(story)


def test_never_a_bounce_for_a_bounce() -> None:
    world = World()
    world.answers(NOBODY)

    async def story() -> None:
        await world.scheduler.accept(world.message(sender=""))
        await world.scheduler.accept(world.message("nobody@far.example"))
        await until(lambda: not world.store.messages)
        assert len(world.store.born) == 1  # for ann's message; it failed itself, and that was the end
        assert len([note for note in world.seen.of(Note) if "dropped" in note.text]) == 2

    world.run(story)


def test_notify_never_means_no_word() -> None:
    world = World()
    world.answers(NOBODY)

    async def story() -> None:
        await world.scheduler.accept(world.message(notify=Notify.NEVER))
        await until(lambda: not world.store.messages)
        assert not world.store.born

    world.run(story)


def test_routing_gives_results_too() -> None:
    world = World()
    world.route = lambda to: NOBODY if to.domain == "null.example" else Route("smtp", to.domain, to)

    async def story() -> None:
        await world.scheduler.accept(world.message("a@null.example"))
        await until(lambda: not world.store.messages)
        assert world.attempts("a@null.example")[0].result.action is Action.FAILED
        assert len(world.store.born) == 1

    world.run(story)


@honours("delay_warning_time")
def test_delay_warning_comes_once() -> None:
    world = World(delay_warning_time="1h")

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        return [LATER if each.address.local == "bob" else OK for each in request.recipients]

    world.peer = peer

    async def story() -> None:
        message = world.message("bob@far.example")
        await world.scheduler.accept(message)
        await world.clock.advance(3000)
        assert not world.store.born
        await world.clock.advance(DAY)
        assert [notified.kind for notified in world.seen.of(Notified)] == ["delay"]
        assert world.store.messages[message.queue_id].delay_warned

    world.run(story)


def test_a_dead_destination_is_left_alone() -> None:
    world = World()
    world.answers(GONE)

    async def story() -> None:
        for number in range(50):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        await settle_down(200)
        assert set(world.store.states.values()) == {QueueState.DEFERRED}
        assert len(world.requests) <= 9
        texts = [event.result.text for event in world.seen.of(Attempted)]
        assert sum(text.startswith("delivery temporarily suspended: connect to") for text in texts) >= 41
        assert world.scheduler.status().dead[0].destination == "far.example"
        attempts = len(world.requests)
        await world.scheduler.accept(world.message("late@far.example"))
        await settle_down()
        assert len(world.requests) == attempts
        world.answers(OK)
        await world.clock.advance(400)  # alone for minimal_backoff_time, then tried again
        assert not world.store.messages

    world.run(story)


def test_flush_tries_all_at_once() -> None:
    world = World()
    world.answers(GONE)

    async def story() -> None:
        for number in range(20):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        await settle_down(200)
        world.answers(OK)
        world.scheduler.flush()
        await until(lambda: not world.store.messages)

    world.run(story)


def held(world: World, seconds: float) -> QueuedMessage:
    """A message that its sender wants to go in so many seconds (RFC 4865)."""
    message = world.message("bob@far.example")
    until = world.clock.time() + seconds
    return structs.replace(message, due=until, envelope=structs.replace(message.envelope, held_until=until))


def test_a_message_is_held_until_its_time_and_no_flush_sends_it_earlier() -> None:
    world = World()

    async def story() -> None:
        await world.scheduler.accept(held(world, 10 * DAY))
        for _ in range(9):
            await world.clock.advance(DAY)
            world.scheduler.flush()
            await settle_down()
        assert not world.requests
        await world.clock.advance(DAY - 60)
        assert not world.requests
        await world.clock.advance(61)
        assert len(world.requests) == 1
        assert not world.store.messages

    world.run(story)


def test_the_queue_is_not_looked_through_all_the_time_while_it_only_holds_mail() -> None:
    world = World()

    async def story() -> None:
        await world.scheduler.accept(held(world, 10 * DAY))
        before = len(world.store.claims)
        await world.clock.advance(3000)
        assert len(world.store.claims) - before <= 11  # once in queue_run_delay

    world.run(story)


def test_the_lifetime_of_a_held_message_begins_with_its_time() -> None:
    world = World(maximal_queue_lifetime="5d")
    world.answers(LATER)

    async def story() -> None:
        await world.scheduler.accept(held(world, 10 * DAY))
        await world.clock.advance(10 * DAY + 10)
        assert len(world.requests) == 1
        assert world.store.messages
        world.answers(OK)
        await world.clock.advance(2 * DAY)
        assert not world.store.messages
        assert not world.store.born

    world.run(story)


@honours("qmgr_message_active_limit")
def test_the_active_set_is_bounded_and_the_rest_comes_from_the_store() -> None:
    world = World(qmgr_message_active_limit="8")
    gate = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await gate.wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        for number in range(40):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        await settle_down()
        assert world.scheduler.status().messages == 8
        assert len(world.store.messages) == 40
        gate.set()
        await until(lambda: not world.store.messages)
        assert len(world.requests) == 40
        await settle_down()
        assert world.scheduler.status() == SchedulerStatus(0, 0, 0, 0, 0, 0, 1, 0, [])

    world.run(story)


def test_content_in_memory_is_bounded() -> None:
    world = World(qmgr_active_content_limit="100000")

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await asyncio.Event().wait()
        raise AssertionError

    world.peer = peer

    async def story() -> None:
        for _ in range(10):
            await world.scheduler.accept(world.message(content=b"x" * 30_000))
        await settle_down()
        assert world.scheduler.status().content_bytes < 100_000 + 30_000

    world.run(story)


@pytest.mark.parametrize("kind", [None, FakeBatchStore])
def test_results_that_the_store_refuses_are_kept_and_nothing_is_delivered_twice(kind: type[FakeBatchStore]) -> None:
    world = World(store=kind) if kind else World()

    async def story() -> None:
        world.store.trouble = lambda verb, queue_id: verb == "settle"
        for number in range(5):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        await settle_down(200)
        assert world.scheduler.status().unwritten == 5
        await world.clock.advance(2 * DAY)  # the leases run out meanwhile
        assert len(world.store.messages) == 5
        assert len(world.requests) == 5
        world.store.trouble = lambda verb, queue_id: False
        await world.clock.advance(61)
        assert not world.store.messages
        assert len(world.requests) == 5
        assert world.scheduler.status().unwritten == 0

    world.run(story)


def test_one_refused_settlement_does_not_stop_the_others() -> None:
    world = World(store=FakeBatchStore)

    async def story() -> None:
        bad = world.message("bad@far.example")
        world.store.trouble = lambda verb, queue_id: verb == "settle" and queue_id == bad.queue_id
        await world.scheduler.accept(bad)
        for number in range(5):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        await settle_down(200)
        assert list(world.store.messages) == [bad.queue_id]

    world.run(story)


def test_a_notification_that_is_not_durable_keeps_the_message() -> None:
    world = World()
    world.answers(NOBODY)

    async def story() -> None:
        message = world.message("nobody@far.example")
        world.store.trouble = lambda verb, queue_id: verb == "settle"
        await world.scheduler.accept(message)
        await settle_down(200)
        assert message.queue_id in world.store.messages
        assert not world.store.born
        world.store.trouble = lambda verb, queue_id: False
        await world.clock.advance(120)
        assert len(world.store.born) == 1
        assert len([each for each in world.requests if each.queue_id == message.queue_id]) == 1

    world.run(story)


def test_a_permanent_failure_is_not_tried_again_after_a_crash() -> None:
    """What is known of a recipient is in the store before its notification can be."""
    world = World(qmgr_interim_settle_recipients="1")
    slow = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        if request.next_hop == "slow.example":
            await slow.wait()
        return [NOBODY if each.address.local == "nobody" else OK for each in request.recipients]

    world.peer = peer

    async def story() -> None:
        message = world.message("nobody@far.example", "bob@far.example", "eve@slow.example")
        await world.scheduler.accept(message)
        await until(lambda: bool(world.store.settlements))
        left = world.store.messages[message.queue_id].pending
        assert [str(each.recipient.address) for each in left] == ["nobody@far.example", "eve@slow.example"]
        assert world.store.states[message.queue_id] is QueueState.ACTIVE
        # A crash: another scheduler takes up what the store has.
        world.store.restart()
        world.requests.clear()
        slow.set()
        other = world.new_scheduler()
        other.start()
        await until(lambda: message.queue_id not in world.store.messages)
        assert {str(r.address) for each in world.requests for r in each.recipients} <= {
            "eve@slow.example",
            "ann@example.com",
        }
        await other.stop(0.0)

    asyncio.run(_without_stop(world, story))


async def _without_stop(world: World, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    world.scheduler.start()
    await settle_down()
    await story()


def test_a_slow_rest_does_not_keep_the_delivered_part_unwritten() -> None:
    world = World()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        if request.next_hop == "slow.example":
            await asyncio.Event().wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        message = world.message("bob@far.example", "eve@slow.example")
        await world.scheduler.accept(message)
        await settle_down()
        assert not world.store.settlements
        await world.clock.advance(1.5)
        assert [str(each.recipient.address) for each in world.store.messages[message.queue_id].pending] == [
            "eve@slow.example"
        ]

    world.run(story)


def test_stop_lets_deliveries_finish_and_leaves_the_rest() -> None:
    world = World(default_destination_concurrency_limit="1")
    gate = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await gate.wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        world.scheduler.start()
        first, second = world.message("a@far.example"), world.message("b@far.example")
        await world.scheduler.accept(first)
        await world.scheduler.accept(second)
        await settle_down()
        stopping = asyncio.ensure_future(world.scheduler.stop(30.0))
        await settle_down()
        assert not stopping.done()
        gate.set()
        await stopping
        assert world.store.removed == [first.queue_id]
        assert list(world.store.messages) == [second.queue_id]
        await world.scheduler.accept(world.message("c@far.example"))  # still durable, but not delivered
        assert len(world.store.messages) == 2

    asyncio.run(story())


def test_stop_ends_at_its_deadline() -> None:
    world = World()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        if request.next_hop == "slow.example":
            await asyncio.Event().wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        world.scheduler.start()
        message = world.message("bob@far.example", "eve@slow.example")
        await world.scheduler.accept(message)
        await settle_down()
        stopping = asyncio.ensure_future(world.scheduler.stop(30.0))
        await world.clock.advance(31)
        await stopping
        left = world.store.messages[message.queue_id]
        assert [str(each.recipient.address) for each in left.pending] == ["eve@slow.example"]
        assert left.due <= world.clock.time()

    asyncio.run(story())


def test_a_withdrawn_message_is_not_delivered_but_what_runs_ends() -> None:
    world = World(default_destination_concurrency_limit="1")
    gate = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await gate.wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        first = world.message("a@far.example", "b@other.example")
        second = world.message("c@far.example")
        await world.scheduler.accept(first)
        await world.scheduler.accept(second)
        await settle_down()
        ids = [first.queue_id, second.queue_id, "unknown"]
        assert world.scheduler.withdraw(ids) == [first.queue_id]
        await world.store.change(ids, Change.HOLD, world.clock.time())
        gate.set()
        await settle_down()
        assert len(world.requests) == 2
        assert first.queue_id in world.store.removed
        assert world.store.states == {second.queue_id: QueueState.HOLD}
        assert world.scheduler.status().messages == 0
        await world.store.change([second.queue_id], Change.RELEASE, world.clock.time())
        world.scheduler.wake()
        await until(lambda: not world.store.messages)

    world.run(story)


def test_what_is_withdrawn_before_the_loop_that_has_it_wakes_is_not_delivered() -> None:
    world = World()

    async def story() -> None:
        await world.scheduler.accept(world.message("a@far.example"))
        await until(lambda: not world.store.messages)  # a loop lies idle from now on
        message, plain, in_flight = world.message("b@far.example"), world.route, []

        def route(to: Address) -> Route | DeliveryResult:
            world.route = plain
            withdraw = world.scheduler.withdraw
            asyncio.get_running_loop().call_soon(lambda: in_flight.append(withdraw([message.queue_id])))
            return plain(to)

        world.route = route
        await world.scheduler.accept(message)
        await until(lambda: not world.store.messages)  # what is withdrawn is due at once
        assert in_flight == [[]]
        assert len([event for event in world.seen.of(Activated) if event.queue_id == message.queue_id]) == 2
        assert len(world.requests) == 2

    world.run(story)


def test_a_bulky_message_does_not_starve_small_ones() -> None:
    world = World()
    order: list[str] = []
    gate = asyncio.Semaphore(0)

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        order.append(request.envelope.sender.local)
        await gate.acquire()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        await world.scheduler.accept(world.message(*[f"u{n}@far.example" for n in range(1000)], sender="list@x"))
        await settle_down()
        assert order == ["list"] * 4  # one place is left
        await world.scheduler.accept(world.message("bob@far.example", sender="ann@x"))
        await settle_down()
        assert order[4] == "ann"
        for _ in range(40):
            gate.release()
        await until(lambda: not world.store.messages)

    world.run(story)


@honours("default_process_limit")
def test_destinations_take_turns_when_slots_are_short() -> None:
    world = World(default_process_limit="2")
    gate = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await gate.wait()
        await asyncio.sleep(0)
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        for number in range(30):
            await world.scheduler.accept(world.message(f"u{number}@big.example"))
        for number in range(3):
            await world.scheduler.accept(world.message(f"u{number}@small.example"))
        gate.set()
        await until(lambda: not world.store.messages)
        hops = [request.next_hop for request in world.requests]
        assert max(at for at, hop in enumerate(hops) if hop == "small.example") < 20
        assert world.most_running == 2

    world.run(story)


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_clock_steps_do_no_harm(step: float) -> None:
    world = World()
    world.answers(LATER)

    async def story() -> None:
        old = world.message("bob@far.example")
        await world.scheduler.accept(old)
        await settle_down()
        world.clock.step(step)
        new = world.message("eve@far.example")
        await world.scheduler.accept(new)
        await settle_down()
        before = len(world.attempts("bob@far.example"))
        await world.clock.advance(700)
        assert len(world.attempts("bob@far.example")) > before
        assert 2 <= len(world.attempts("eve@far.example")) <= 4
        assert all(event.delay_s >= 0 and min(event.delays_s) >= 0 for event in world.seen.of(Attempted))

    world.run(story)


def test_mail_that_a_fast_clock_deferred_is_found_at_start() -> None:
    world = World()
    world.answers(LATER)

    async def story() -> None:
        message = world.message("bob@far.example")
        await world.scheduler.accept(message)
        await settle_down()
        await world.scheduler.stop(0.0)
        world.clock.step(-DAY)  # a reboot with a clock that is right now
        world.answers(OK)
        other = world.new_scheduler()
        other.start()
        await world.clock.advance(1)
        assert not world.store.messages
        await other.stop(0.0)

    asyncio.run(_without_stop(world, story))


def test_agents_and_routes_that_raise_cost_an_attempt_not_the_server() -> None:
    world = World()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        if request.next_hop == "short.example":
            return []
        raise RuntimeError("bug")

    def route(to: Address) -> Route:
        if to.domain == "bad.example":
            raise KeyError("bug")
        return Route("smtp", to.domain, to)

    world.peer, world.route = peer, route

    async def story() -> None:
        await world.scheduler.accept(world.message("a@far.example", "b@bad.example", "c@short.example"))
        await settle_down()
        assert list(world.store.states.values()) == [QueueState.DEFERRED]
        assert [event.result.status for event in world.seen.of(Attempted)] == [Status(4, 3, 0)] * 3
        assert len(world.seen.of(Note)) == 3

    world.run(story)


def test_a_lying_result_is_corrected() -> None:
    world = World()
    world.answers(DeliveryResult(Action.FAILED, Status(2, 0, 0), "550 2.0.0 what"))

    async def story() -> None:
        await world.scheduler.accept(world.message(notify=Notify.NEVER))
        await until(lambda: not world.store.messages)
        assert world.seen.of(Attempted)[0].result.status == Status(5, 0, 0)

    world.run(story)


def test_the_store_comes_back_after_trouble_with_reading() -> None:
    world = World()
    world.store.trouble = lambda verb, queue_id: verb == "claim"

    async def story() -> None:
        await world.store.put(world.message())
        await world.clock.advance(10)
        assert not world.requests
        world.store.trouble = lambda verb, queue_id: False
        await world.clock.advance(61)
        assert not world.store.messages

    world.run(story)


def test_success_is_reported_when_asked() -> None:
    world = World()

    async def story() -> None:
        await world.scheduler.accept(world.message(notify=Notify.SUCCESS))
        await until(lambda: not world.store.messages)
        assert [event.kind for event in world.seen.of(Notified)] == ["delivery status"]

    world.run(story)


def test_reload_takes_new_limits() -> None:
    world = World(default_destination_concurrency_limit="1")
    gate = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await gate.wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        for number in range(9):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        await settle_down()
        assert world.most_running == 1
        world.settings["default_destination_concurrency_limit"] = "20"
        world.scheduler.reload(Parameters(world.settings))
        gate.set()
        world.peer = world.all_fine
        await until(lambda: not world.store.messages)
        assert world.most_running > 1

    world.run(story)


@honours("qmgr_message_recipient_limit")
def test_recipients_in_memory_are_bounded() -> None:
    world = World(qmgr_message_recipient_limit="10")
    gate = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await gate.wait()
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        for number in range(10):
            await world.scheduler.accept(world.message(*[f"u{n}@d{number}.example" for n in range(5)]))
        await settle_down()
        assert world.scheduler.status().messages == 2
        gate.set()
        await until(lambda: not world.store.messages)

    world.run(story)


@honours("queue_run_delay")
@pytest.mark.parametrize(("delay", "looks"), [("100s", 10), ("500s", 2)])
def test_the_queue_is_looked_through_so_often(delay: str, looks: int) -> None:
    world = World(queue_run_delay=delay)

    async def story() -> None:
        before = len(world.store.claims)
        for _ in range(10):
            await world.clock.advance(100)
        assert len(world.store.claims) - before == looks
        # What another process put there is found at the next look at the latest.
        await world.store.put(world.message())
        await world.clock.advance(500)
        assert len(world.requests) == 1

    world.run(story)


@honours("qmgr_clog_warn_time")
@pytest.mark.parametrize(("time", "warnings"), [("300s", 4), ("1h", 1), ("0", 0)])
def test_a_destination_that_fills_the_active_queue_is_named_every_so_often(time: str, warnings: int) -> None:
    world = World(qmgr_message_active_limit="100", qmgr_clog_warn_time=time)

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await asyncio.Event().wait()
        raise AssertionError

    world.peer = peer

    async def story() -> None:
        for number in range(200):
            await world.scheduler.accept(world.message(f"u{number}@far.example"))
        for _ in range(10):
            await world.clock.advance(100)
        texts = [note.text for note in world.seen.of(Note) if "fills the active queue" in note.text]
        assert len(texts) == warnings
        assert all(text.startswith("mail for smtp:far.example ") for text in texts)

    world.run(story)
