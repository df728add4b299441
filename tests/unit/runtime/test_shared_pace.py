from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from ekiden.queue.pace import LocalPace, Pace
from ekiden.runtime.shared_pace import SharedPace
from support.fake_clock import FakeClock


class HandClock(FakeClock):
    def move(self, seconds: float) -> None:
        self._mono += seconds


def check(pace: Pace, clock: HandClock) -> None:
    both = [("slow", 10.0), ("slow:far.example", 30.0)]
    assert pace.claim(both) == [0, 0]
    assert pace.claim(both) == [10, 30]
    assert pace.claim([("other", 5.0), ("slow:far.example", 30.0)]) == [0, 30]
    assert pace.claim([("other", 5.0)]) == [0]  # a claim that was not granted changed nothing
    clock.move(10)
    assert pace.claim([("slow", 10.0), ("slow:near.example", 0.0)]) == [0, 0]
    assert pace.claim([("slow:near.example", 0.0)]) == [0]  # without a delay nobody waits
    clock.move(15)
    pace.hold("slow:far.example", 30.0)
    assert pace.claim(both) == [0, 30]
    clock.move(30)
    assert pace.claim(both) == [0, 0]


def test_a_pace_of_one_worker() -> None:
    clock = HandClock()
    check(LocalPace(clock), clock)


def test_a_pace_of_all_workers(tmp_path: Path) -> None:
    clock = HandClock()
    check(SharedPace(tmp_path / "lock", clock.monotonic), clock)


def _claim_often(pace: SharedPace, pipe: Connection) -> None:
    granted = 0
    pipe.recv()
    for _ in range(2000):
        granted += not any(pace.claim([("slow", 3600.0)]))
        granted += not any(pace.claim([("slow:x", 3600.0), ("slow:y", 3600.0)]))
    pipe.send(granted)


def test_of_all_workers_one_is_granted_the_time(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    pace = SharedPace(tmp_path / "lock")
    pipes, workers = [], []
    for _ in range(4):
        ours, theirs = fork.Pipe()
        worker = fork.Process(target=_claim_often, args=(pace, theirs))
        worker.start()
        pipes.append(ours)
        workers.append(worker)
    for pipe in pipes:
        pipe.send("go")
    assert sum(pipe.recv() for pipe in pipes) == 2
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
