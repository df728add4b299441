"""Hashing beside the event loop: the loop goes on, and what does not fit is refused at once."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from ekiden.sasl.hash_pool import HashingBusy, HashPool


def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    async def scene() -> None:
        pool, gate = HashPool(1, 0), threading.Event()
        task = asyncio.ensure_future(pool.run(gate.wait))
        for _ in range(100):
            await asyncio.sleep(0)  # if the loop stood still, this would never come back
        assert not task.done()
        gate.set()
        assert await task
        pool.close()

    asyncio.run(scene())


def test_more_than_may_wait_is_refused_at_once_and_a_place_comes_back() -> None:
    async def scene() -> None:
        pool, gate = HashPool(1, 2), threading.Event()
        tasks = [asyncio.ensure_future(pool.run(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(HashingBusy):
            await pool.run(gate.wait)
        gate.set()
        await asyncio.gather(*tasks)
        assert await pool.run(lambda: 7) == 7
        pool.close()

    asyncio.run(scene())


def test_a_client_that_goes_away_leaves_its_place_only_when_the_thread_is_free() -> None:
    async def scene() -> None:
        pool, gate = HashPool(1, 0), threading.Event()
        task = asyncio.ensure_future(pool.run(gate.wait))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(HashingBusy):
            await pool.run(lambda: 1)
        gate.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await pool.run(lambda: 2) == 2
                    break
                except HashingBusy:
                    await asyncio.sleep(0)
        pool.close()

    asyncio.run(scene())


def test_a_session_that_outlives_its_configuration_is_told_to_come_back() -> None:
    async def scene() -> None:
        pool = HashPool(1, 1)
        pool.close()
        with pytest.raises(HashingBusy):
            await pool.run(lambda: 1)

    asyncio.run(scene())


def test_threads_do_not_keep_to_the_processor_of_the_loop() -> None:
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        pool = HashPool(1, 0)
        assert asyncio.run(pool.run(lambda: os.sched_getaffinity(0))) == every
        pool.close()
    finally:
        os.sched_setaffinity(0, every)


def test_what_the_work_raises_comes_out() -> None:
    async def scene() -> None:
        pool = HashPool(1, 0)
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        assert await pool.run(lambda: 3) == 3
        pool.close()

    asyncio.run(scene())
