"""What a busy host does later: deliveries above a load average, and no more than so many a queue run."""

from __future__ import annotations

import asyncio

from ekiden.observe.events import Note
from ekiden.queue.load import LoadAverage
from support.fake_clock import FakeClock, settle_down, until
from support.honours import honours
from support.queue_world import World


@honours("queue_load_average_limit")
def test_under_load_mail_is_queued_and_delivered_when_the_load_has_fallen() -> None:
    world = World(queue_load_average_limit="12")

    async def story() -> None:
        world.load = 12.5
        await world.scheduler.accept(world.message())
        assert len(world.store.messages) == 1  # it is durable all the same
        await world.clock.advance(100)
        world.scheduler.flush()
        await settle_down()
        assert not world.requests
        world.load = 11.9
        await world.clock.advance(15)
        assert not world.store.messages
        assert [note.text for note in world.seen.of(Note)] == [
            "load average 12.50: mail is queued only",
            "load average 11.90: mail is delivered again",
        ]
        await world.scheduler.accept(world.message())
        await until(lambda: len(world.requests) == 2)

    world.run(story)


@honours("queue_run_message_limit")
def test_a_queue_run_takes_no_more_than_its_limit() -> None:
    world = World(queue_run_message_limit="3", queue_run_delay="300s")

    async def story() -> None:
        for _ in range(8):
            await world.store.put(world.message())
        world.scheduler.wake()
        seen = []
        for _ in range(4):
            await settle_down()
            seen.append(len(world.requests))
            await world.clock.advance(150)
        assert seen == [3, 3, 6, 6]
        world.scheduler.flush()  # a run that an administrator asks for is a new one
        await until(lambda: not world.store.messages)
        await world.scheduler.accept(world.message())  # and new mail is no part of any
        await until(lambda: len(world.requests) == 9)

    world.run(story)


def test_the_load_is_not_read_more_often_than_it_changes() -> None:
    async def work() -> None:
        clock, values = FakeClock(), iter([1.0, 2.0])
        load = LoadAverage(lambda: next(values), clock)
        assert [load.now(), load.now()] == [1.0, 1.0]
        await clock.advance(5)
        assert load.now() == 2.0

    asyncio.run(work())
