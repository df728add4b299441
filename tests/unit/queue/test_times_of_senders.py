"""What a sender sets: a time to be held until (RFC 4865), one to be delivered by (RFC 2852), a priority (RFC 6710)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from ekiden.message.content import InlineContent
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, deferred, relayed
from ekiden.message.envelope import DeliverBy, Notify
from ekiden.message.queued import QueuedMessage, QueueState
from ekiden.message.status import Status
from ekiden.observe.events import Attempted, Notified
from ekiden.queue.store import Change, QueueEntry
from ekiden.runtime.requests import message_line
from support.fake_clock import settle_down, until
from support.queue_world import World

DAY = 86400.0
GONE = deferred(Status(4, 4, 1), "connect to far.example[192.0.2.1]:25: Connection refused")


def held(world: World, seconds: float) -> QueuedMessage:
    """As the SMTP server makes it of HOLDFOR."""
    message = world.message("bob@far.example")
    at = world.clock.time() + seconds
    return replace(message, due=at, envelope=replace(message.envelope, held_until=at))


def by(world: World, seconds: float, *, returns: bool, notify: Notify | None = None) -> QueuedMessage:
    message = world.message("bob@far.example", notify=notify)
    wanted = DeliverBy(world.clock.time() + seconds, returns)
    return replace(message, envelope=replace(message.envelope, deliver_by=wanted))


# -- FUTURERELEASE


@pytest.mark.parametrize("seconds", [600.0, 3 * DAY])
def test_a_held_message_is_not_tried_before_its_time(seconds: float) -> None:
    """Not by a look at the queue, not by a flush, not when the next time is further off than any retry would be."""
    world = World()

    async def story() -> None:
        await world.scheduler.accept(held(world, seconds))
        world.scheduler.flush()
        claims = len(world.store.claims)
        await world.clock.advance(seconds - 1)
        assert not world.requests
        assert len(world.store.claims) - claims < seconds / 100 + 20
        await world.clock.advance(2)
        await until(lambda: not world.store.messages)
        assert len(world.requests) == 1

    world.run(story)


def test_a_restart_does_not_let_it_go_early() -> None:
    world = World()

    async def story() -> None:
        await world.scheduler.accept(held(world, 3600.0))

    async def after() -> None:
        await world.clock.advance(3000)
        assert not world.requests
        await world.clock.advance(700)
        await until(lambda: not world.store.messages)

    world.run(story)
    world.scheduler = world.new_scheduler()
    world.run(after)


def test_an_administrator_may_send_it_now() -> None:
    world = World()

    async def story() -> None:
        message = held(world, 3600.0)
        await world.scheduler.accept(message)
        assert await world.store.change([message.queue_id], Change.RELEASE, world.clock.time()) == [message.queue_id]
        world.scheduler.wake()
        await until(lambda: not world.store.messages)

    world.run(story)


def test_what_is_too_old_counts_from_its_release() -> None:
    world = World(maximal_queue_lifetime="1d", delay_warning_time="4h")
    world.answers(GONE)

    async def story() -> None:
        await world.scheduler.accept(held(world, 2 * DAY))
        await world.clock.advance(2 * DAY + 3 * 3600)
        assert world.requests
        assert not world.seen.of(Notified)
        await world.clock.advance(3 * 3600)
        assert [each.kind for each in world.seen.of(Notified)] == ["delay"]
        await world.clock.advance(DAY)
        assert [each.kind for each in world.seen.of(Notified)] == ["delay", "non-delivery"]

    world.run(story)


def test_people_see_until_when_it_is_held() -> None:
    world = World()
    message = held(world, 3600.0)
    line = message_line(QueueEntry(QueueState.INCOMING, message, "0"))
    assert line.reason.startswith("held until ")
    assert line.reason.endswith(", as its sender wants")
    released = replace(message, due=message.arrived)
    for state, other in ((QueueState.INCOMING, released), (QueueState.DEFERRED, message), (QueueState.ACTIVE, message)):
        assert message_line(QueueEntry(state, other, "0")).reason == ""


# -- DELIVERBY


def test_mode_r_is_returned_when_the_time_is_over() -> None:
    """RFC 2852 §4.1.2: with 5.4.7, at that time and not at the next retry; the last attempt's words are there."""
    world = World()
    world.answers(GONE)

    async def story() -> None:
        await world.scheduler.accept(by(world, 400.0, returns=True))
        await world.clock.advance(399)
        assert not world.seen.of(Notified)
        attempts = len(world.requests)
        await world.clock.advance(2)
        await until(lambda: bool(world.seen.of(Notified)))
        tried = [each for each in world.requests if not each.envelope.sender.is_null]
        assert len(tried) == attempts  # the time is over, so nothing is tried
        [notified] = world.seen.of(Notified)
        assert notified.kind == "non-delivery"
        content = world.store.born[0].content
        assert isinstance(content, InlineContent)
        assert b"\r\nAction: failed\r\nStatus: 5.4.7\r\n" in content.data
        assert b"the time that the sender set for its delivery is over: connect" in content.data.replace(b"\r\n ", b" ")

    world.run(story)


def test_mode_r_ends_in_the_round_in_which_the_time_passes() -> None:
    world = World()

    async def slow(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await world.clock.sleep(50)
        return [GONE] * len(request.recipients)

    world.peer = slow

    async def story() -> None:
        await world.scheduler.accept(by(world, 20.0, returns=True))
        await world.clock.advance(51)
        await until(lambda: bool(world.seen.of(Notified)))
        assert [each.result.action for each in world.seen.of(Attempted)] == [Action.DELAYED]
        assert [each.kind for each in world.seen.of(Notified)] == ["non-delivery"]

    world.run(story)


@pytest.mark.parametrize(("notify", "told"), [(None, 1), (Notify.GIVEN | Notify.FAILURE, 1), (Notify.GIVEN, 0)])
def test_mode_n_tells_the_sender_once_and_goes_on(notify: Notify | None, told: int) -> None:
    """RFC 2852 §4.1.3."""
    world = World()
    world.answers(GONE)

    async def story() -> None:
        await world.scheduler.accept(by(world, 400.0, returns=False, notify=notify))
        await world.clock.advance(399)
        assert not world.seen.of(Notified)
        await world.clock.advance(2)
        await settle_down()
        assert [each.kind for each in world.seen.of(Notified)] == ["delay"] * told
        await world.clock.advance(6 * 3600)
        assert len(world.seen.of(Notified)) == told
        world.peer = world.all_fine
        await world.clock.advance(2 * 3600)
        await until(lambda: all(each.envelope.sender.is_null for each in world.store.messages.values()))

    world.run(story)


def test_what_arrives_in_time_is_told_only_where_the_time_is_lost() -> None:
    """RFC 2852 §4.1.4.2: the sender hears that it went to a system that knows nothing of the time."""
    for passed, kinds in ((True, []), (False, ["delivery status"])):
        world = World()
        world.answers(relayed(Status(2, 0, 0), "250 ok", by_passed=passed))

        async def story(world: World = world, kinds: list[str] = kinds) -> None:
            await world.scheduler.accept(by(world, 400.0, returns=True))
            await settle_down()
            await until(lambda: len(world.seen.of(Attempted)) >= 1)
            await settle_down()
            assert [each.kind for each in world.seen.of(Notified)] == kinds

        world.run(story)


# -- MT-PRIORITY


def test_a_higher_priority_overtakes_what_waits_at_its_destination() -> None:
    world = World(
        default_destination_concurrency_limit="1", initial_destination_concurrency="1", qmgr_priority_cost="2"
    )

    async def slow(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await world.clock.sleep(1)
        return await world.all_fine(request)

    world.peer = slow

    async def story() -> None:
        for name, priority in (
            ("first", 0),
            ("a", 0),
            ("b", 0),
            ("low", -3),
            ("h1", 4),
            ("h2", 4),
            ("h3", 4),
            ("top", 9),
        ):
            message = world.message(f"{name}@far.example")
            await world.scheduler.accept(replace(message, envelope=replace(message.envelope, priority=priority)))
        await settle_down()
        await world.clock.advance(20)
        order = [request.recipients[0].address.local for request in world.requests]
        assert order == ["first", "top", "h1", "a", "h2", "h3", "low", "b"]

    world.run(story)
