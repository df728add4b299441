"""What a transport of master.cf may have of its own: limits, delays, slots; and transports that wait."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, Route, failed
from ekiden.message.status import Status
from ekiden.observe.events import Attempted, Notified
from ekiden.queue.active import ActiveMessage, Job
from ekiden.queue.concurrency import transport_limits
from support.fake_clock import settle_down, until
from support.honours import honours
from support.queue_world import OK, World


def by_name(world: World) -> None:
    """Each domain's first label is its transport."""
    world.route = lambda to: Route(to.domain.partition(".")[0], to.domain, to)


@honours(
    "default_destination_rate_delay",
    "default_transport_rate_delay",
    "initial_destination_concurrency",
    "default_destination_concurrency_limit",
    "default_destination_recipient_limit",
    "default_destination_concurrency_failed_cohort_limit",
    "default_destination_concurrency_positive_feedback",
    "default_destination_concurrency_negative_feedback",
    "default_delivery_slot_cost",
    "default_process_limit",
)
def test_each_value_may_be_the_transports_own() -> None:
    own = {
        "amavis_destination_rate_delay": "0",
        "amavis_transport_rate_delay": "3s",
        "amavis_initial_destination_concurrency": "2",
        "amavis_destination_concurrency_limit": "4",
        "amavis_destination_recipient_limit": "7",
        "amavis_destination_concurrency_failed_cohort_limit": "9",
        "amavis_destination_concurrency_positive_feedback": "0.5",
        "amavis_destination_concurrency_negative_feedback": "1 / concurrency",
        "amavis_delivery_slot_cost": "3",
        "default_process_limit": "11",
        "default_destination_rate_delay": "5s",
    }
    parameters = Parameters(own)
    limits = transport_limits(parameters, "amavis")
    assert (limits.destination_delay_s, limits.transport_delay_s) == (0, 3)
    assert (limits.initial, limits.concurrency, limits.recipients, limits.failed_cohorts) == (2, 4, 7, 9)
    assert (limits.positive.at(2), limits.negative.at(2), limits.slot_cost, limits.deliveries) == (0.5, 0.5, 3, 11)
    other = transport_limits(parameters, "smtp", process_limit=2)
    assert (other.destination_delay_s, other.concurrency, other.deliveries) == (5, 1, 2)
    assert transport_limits(parameters, "smtp", process_limit=0).deliveries == 0


@honours("relay_destination_concurrency_limit", "relay_destination_recipient_limit")
def test_the_relay_transport_has_limits_of_its_own() -> None:
    settings = {"relay_destination_concurrency_limit": "3", "relay_destination_recipient_limit": "6"}
    limits = transport_limits(Parameters(settings), "relay")
    assert (limits.concurrency, limits.recipients) == (3, 6)
    assert transport_limits(Parameters({"default_destination_recipient_limit": "8"}), "relay").recipients == 8


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (0, 12)])
def test_maxproc_bounds_the_deliveries_of_a_transport(limit: int, most: int) -> None:
    world = World(default_process_limit="4")
    world.scheduler.reload(Parameters(world.settings), {"slow": limit})
    world.route = lambda to: Route("slow", to.domain, to)

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await world.clock.sleep(1)
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        await world.scheduler.accept(world.message(*[f"x@d{number}.example" for number in range(12)]))
        await world.clock.advance(20)
        assert not world.store.messages
        assert world.most_running == most

    world.run(story)


def loops() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "Dispatcher._serve"]  # type: ignore[union-attr]


def test_an_idle_loop_takes_the_next_message_and_holds_none() -> None:
    world = World()

    async def story() -> None:
        seen = []
        messages = [world.message() for _ in range(3)]
        for message in messages:
            await world.scheduler.accept(message)
            await until(lambda: not world.store.messages)
            await settle_down()
            seen += loops()
            status = world.scheduler.status()
            assert (status.in_flight, status.resolving) == (0, 0)
        assert len(seen) == 3
        assert len(set(seen)) == 1
        gc.collect()
        holders = gc.get_referrers(*messages, *world.requests)
        assert not [each for each in holders if isinstance(each, ActiveMessage | Job)]

    world.run(story)


def test_a_transport_keeps_few_idle_loops() -> None:
    world = World()
    answers = asyncio.Event()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await answers.wait()
        return [OK]

    world.peer = peer

    async def story() -> None:
        for number in range(40):
            await world.scheduler.accept(world.message(f"u@d{number}.example"))
        await until(lambda: world.running == 40)
        answers.set()
        await until(lambda: not world.store.messages)
        await settle_down()
        assert len(loops()) == 20

    world.run(story)


@honours("default_destination_rate_delay")
def test_a_destination_rests_between_deliveries_and_others_do_not() -> None:
    world = World(slow_destination_rate_delay="10s")
    by_name(world)
    times: list[tuple[str, float]] = []
    begin = world.clock.monotonic()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        times.append((request.next_hop, world.clock.monotonic() - begin))
        await world.clock.sleep(1)
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        for _ in range(3):
            await world.scheduler.accept(world.message("x@slow.example", "x@slow.test", "x@smtp.example"))
        await world.clock.advance(40)
        assert not world.store.messages
        for domain in ("slow.example", "slow.test"):
            assert [at for name, at in times if name == domain] == [0, 11, 22]
        assert [at for name, at in times if name == "smtp.example"] == [0, 0, 0]

    world.run(story)


@honours("default_transport_rate_delay")
def test_a_transport_rests_between_deliveries_wherever_they_go() -> None:
    world = World(slow_transport_rate_delay="10s")
    by_name(world)
    times: list[float] = []
    begin = world.clock.monotonic()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        times.append(world.clock.monotonic() - begin)
        await world.clock.sleep(25)
        return [OK] * len(request.recipients)

    world.peer = peer

    async def story() -> None:
        await world.scheduler.accept(world.message("x@slow.example", "x@slow.test", "x@slow.other"))
        await world.clock.advance(60)
        assert times == [0, 10, 20]  # from beginning to beginning, though each takes longer
        assert not world.store.messages

    world.run(story)


def test_a_stop_does_not_wait_for_a_rest() -> None:
    world = World(slow_destination_rate_delay="1h")
    by_name(world)

    async def story() -> None:
        for _ in range(2):
            await world.scheduler.accept(world.message("x@slow.example"))
        await until(lambda: len(world.store.messages) == 1)

    world.run(story)
    assert len(world.requests) == 1


@honours("defer_transports")
def test_a_deferred_transport_waits_for_a_flush() -> None:
    world = World(defer_transports="smtp hold", minimal_backoff_time="300s")
    world.route = lambda to: Route("smtp" if to.domain == "far.example" else "local", to.domain, to)

    async def story() -> None:
        await world.scheduler.accept(world.message("x@far.example", "y@here.example"))
        await until(lambda: len(world.seen.of(Attempted)) == 2)
        waits = world.attempts("x@far.example")[0].result
        assert (waits.action, str(waits.status), waits.text) == (Action.DELAYED, "4.3.2", "deferred transport")
        await world.clock.advance(1000)  # tries again by itself, and again in vain
        assert [request.transport for request in world.requests] == ["local"]
        world.scheduler.flush()
        await until(lambda: not world.store.messages)
        assert [request.transport for request in world.requests] == ["local", "smtp"]
        await world.scheduler.accept(world.message("z@far.example"))
        await until(lambda: len(world.attempts("z@far.example")) == 1)
        assert len(world.requests) == 2  # what comes after the flush waits for the next one

    world.run(story)


def test_what_a_flush_could_not_deliver_waits_for_the_next_one() -> None:
    world = World(defer_transports="smtp", minimal_backoff_time="300s")
    world.answers(failed(Status(5, 0, 0), "no"))

    async def fails_once(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await asyncio.sleep(0)
        return [DeliveryResult(Action.DELAYED, Status(4, 2, 0), "busy")] * len(request.recipients)

    world.peer = fails_once

    async def story() -> None:
        await world.scheduler.accept(world.message("x@far.example"))
        await settle_down()
        world.scheduler.flush()
        await until(lambda: len(world.requests) == 1)
        await world.clock.advance(2000)
        assert len(world.requests) == 1
        assert {attempt.result.text for attempt in world.attempts("x@far.example")[2:]} == {"deferred transport"}

    world.run(story)


@honours("soft_bounce")
@pytest.mark.parametrize("soft", ["yes", "no"])
def test_soft_bounces_stay_in_the_queue(soft: str) -> None:
    world = World(soft_bounce=soft)
    world.answers(failed(Status(5, 1, 1), "550 5.1.1 no such user"))

    async def story() -> None:
        message = world.message("x@far.example")
        await world.scheduler.accept(message)
        await until(lambda: len(world.seen.of(Attempted)) == 1)
        await settle_down()
        result = world.seen.of(Attempted)[0].result
        assert (result.action, str(result.status)) == (
            (Action.DELAYED, "4.1.1") if soft == "yes" else (Action.FAILED, "5.1.1")
        )
        assert (message.queue_id in world.store.messages) is (soft == "yes")
        assert bool(world.seen.of(Notified)) is (soft == "no")

    world.run(story)
