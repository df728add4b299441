"""The tree of the queue, the pid file and the stop: what can be tested without a server."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.runtime import pidfile
from ekiden.runtime.child import Child
from ekiden.runtime.pidfile import AlreadyRunning, PidFile
from ekiden.runtime.privileges import Owner
from ekiden.runtime.queue_directory import DirectoryTrouble, prepare
from ekiden.runtime.stopping import Stopping
from ekiden.runtime.supervisor import keep_restart_parameters
from support.honours import honours

# More than any kernel gives.
NOBODY = 99_999_999
ME = Owner("me", os.geteuid(), os.getegid())


def test_the_tree_is_made_and_modes_are_corrected(tmp_path: Path) -> None:
    queue = tmp_path / "a" / "queue"
    prepare(queue, ME)
    (queue / "run").chmod(0o777)
    prepare(queue, ME)
    modes = {entry.name: entry.stat().st_mode & 0o7777 for entry in queue.iterdir()}
    assert modes == {
        "shards": 0o700,
        "maildrop": 0o1733,
        "run": 0o700,
        "tls": 0o700,
        "reports": 0o700,
        "public": 0o755,
        "private": 0o700,
    }


def test_a_tree_that_others_may_change_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(DirectoryTrouble, match="chmod go-w"):
        prepare(tmp_path, ME)


def test_a_symbolic_link_in_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("/etc")
    before = os.stat("/etc")
    with pytest.raises(DirectoryTrouble, match="/run: "):
        prepare(tmp_path, ME)
    assert os.stat("/etc") == before


def test_one_server_a_queue(tmp_path: Path) -> None:
    with PidFile(tmp_path):
        assert pidfile.running_pid(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunning, match=f"already running .process {os.getpid()}"):
            PidFile(tmp_path)
    assert pidfile.running_pid(tmp_path) is None
    with PidFile(tmp_path):
        pass


def test_a_pid_file_of_a_dead_server_is_none(tmp_path: Path) -> None:
    (tmp_path / pidfile.NAME).write_text("1\n")
    assert pidfile.running_pid(tmp_path) is None


def test_restarts_come_ever_later_until_a_process_lives_long() -> None:
    child = Child("worker-0", index=0, owner=None)
    waits = []
    with socket.socket() as sock:
        for lived_s in [1.0] * 12 + [60.0]:
            child.started(NOBODY, sock, 100.0)
            child.died(100.0 + lived_s, 60.0)
            assert child.restart_at is not None
            waits.append(round(child.restart_at - 100.0 - lived_s, 3))
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-2:] == [60.0, 0.1]


def test_a_stop_goes_group_by_group() -> None:
    workers, services = [Child("worker-0", index=0, owner=None)], [Child("deliverer", owner=None)]
    workers[0].pid = services[0].pid = NOBODY
    stopping = Stopping([workers, services], 10.0, 5.0, lambda text: None)
    assert not stopping.advance(0.0)
    assert stopping.deadline == 15.0
    workers[0].pid = 0
    assert not stopping.advance(3.0)
    assert stopping.deadline == 18.0
    services[0].pid = 0
    assert stopping.advance(4.0)
    assert not stopping.forced


def test_a_reload_keeps_what_only_a_restart_can_change() -> None:
    old = Parameters({"worker_processes": "2", "smtpd_timeout": "10s"})
    new = Parameters({"queue_directory": "/elsewhere", "smtpd_timeout": "20s"})
    kept, changed = keep_restart_parameters(old, new)
    assert changed == ["queue_directory", "worker_processes"]
    assert (kept.queue_directory, kept.worker_processes, kept.smtpd_timeout) == (old.queue_directory, 2, 20.0)


@honours("service_throttle_time")
@pytest.mark.parametrize(
    ("longest", "waits"), [("1s", [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]), ("3s", [0.1, 0.2, 0.4, 0.8, 1.6, 3.0])]
)
def test_a_process_that_dies_again_and_again_is_started_later_and_later(longest: str, waits: list[float]) -> None:
    longest_s = Parameters({"service_throttle_time": longest}).service_throttle_time
    child = Child("worker", owner=None)
    found: list[float] = []
    for _ in waits:
        child.died(0.0, longest_s)
        assert child.restart_at is not None
        found.append(child.restart_at)
    assert found == pytest.approx(waits)
