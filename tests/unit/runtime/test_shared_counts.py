"""Connections by client, counted across processes."""

from __future__ import annotations

import asyncio
import os

from ekiden.runtime.shared_counts import SharedCounts


def test_workers_count_together() -> None:
    shared = SharedCounts(3)
    first, second = shared.of_worker(0), shared.of_worker(2)
    assert asyncio.run(first.connect("192.0.2.1")) == 1
    assert asyncio.run(second.connect("192.0.2.1")) == 2
    assert asyncio.run(second.connect("2001:db8::1")) == 1
    first.disconnect("192.0.2.1")
    assert asyncio.run(first.connect("192.0.2.1")) == 2


def test_a_forked_process_counts_too_and_what_it_counted_can_be_forgotten() -> None:
    shared = SharedCounts(2)
    pid = os.fork()
    if pid == 0:
        asyncio.run(shared.of_worker(1).connect("192.0.2.1"))
        os._exit(0)
    os.waitpid(pid, 0)
    worker = shared.of_worker(0)
    assert asyncio.run(worker.connect("192.0.2.1")) == 2
    shared.forget_worker(1)
    assert asyncio.run(worker.connect("192.0.2.1")) == 2
    worker.disconnect("192.0.2.1")
    worker.disconnect("192.0.2.1")
    assert asyncio.run(worker.connect("192.0.2.1")) == 1


def test_a_count_never_falls_below_nothing() -> None:
    worker = SharedCounts(1).of_worker(0)
    worker.disconnect("192.0.2.1")
    assert asyncio.run(worker.connect("192.0.2.1")) == 1


def test_ten_thousand_clients_do_not_get_into_each_others_way() -> None:
    worker = SharedCounts(1).of_worker(0)

    async def connect_all() -> int:
        return max([await worker.connect(f"10.0.{n // 256}.{n % 256}") for n in range(10_000)])

    assert asyncio.run(connect_all()) < 20
