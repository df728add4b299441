"""The real supervisor, with small children in place of the mail server, and what it does when they or it die."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.honours import honours
from support.requirements import require_root
from support.running import RunningServer, free_port, open_directory, wait_for

FAKE = Path(__file__).parent.parent / "support" / "fake_server.py"


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with open_directory() as directory:
        made = RunningServer(directory, program=(sys.executable, str(FAKE)))
        try:
            yield made
        finally:
            made.close()


def alive(pid: int) -> bool:
    """Running, and not just a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_serves_with_all_workers_and_stops_when_told(server: RunningServer) -> None:
    server.start()
    assert sorted(server.children()) == ["deliverer", "worker 0", "worker 1"]
    seen: set[str] = set()

    def both_answered() -> bool:
        seen.add((server.banner() or "")[:17])
        return seen == {"220 fake worker 0", "220 fake worker 1"}

    wait_for(both_answered, "answers of both workers")
    children = server.children()
    assert server.stop() == 0
    assert not any(alive(pid) for pid in children.values())
    assert server.banner() is None
    assert "serving on 127.0.0.1" in server.log


def test_ctrl_c_stops_all_of_it(server: RunningServer) -> None:
    server.start()
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(10) == 0
    assert server.output == ""


def test_children_die_with_a_supervisor_that_is_killed(server: RunningServer) -> None:
    server.start()
    children = server.children()
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: not any(alive(pid) for pid in children.values()), "the end of all children")
    server.log_file.unlink()
    server.start()  # neither pid file nor sockets are in the way
    assert server.stop() == 0


def test_a_worker_that_dies_is_started_again_and_meets_the_others(server: RunningServer) -> None:
    server.start()
    before = server.children()
    os.kill(before["worker 0"], signal.SIGKILL)
    wait_for(lambda: server.children().get("worker 0") not in (None, before["worker 0"]), "a new worker 0")
    server.wait_for_log("worker-0 died: killed by SIGKILL")
    after = server.children()
    assert {name: pid for name, pid in after.items() if name != "worker 0"} == {
        name: pid for name, pid in before.items() if name != "worker 0"
    }
    answers: list[str] = []

    def answered() -> bool:
        answers.append(server.banner() or "")
        return answers[-1].startswith(f"220 fake worker 0 {after['worker 0']}")

    wait_for(answered, "an answer of the new worker")
    assert answers[-1].endswith(" deliverer")


def test_all_workers_meet_a_new_deliverer(server: RunningServer) -> None:
    server.start()
    os.kill(server.children()["deliverer"], signal.SIGKILL)
    server.wait_for_log("deliverer died: killed by SIGKILL")
    met: set[str] = set()

    def all_met() -> bool:
        answer = server.banner() or ""
        if answer.endswith("deliverer,deliverer"):
            met.add(answer[16])
        return met == {"0", "1"}

    wait_for(all_met, "both workers with a second deliverer")


def test_a_process_that_keeps_dying_is_restarted_ever_later(server: RunningServer) -> None:
    trigger = server.directory / "die"
    server.environment["FAKE_TROUBLE"] = str(trigger)
    server.start()
    trigger.touch()
    wait_for(lambda: server.log.count("died: exit code 3") >= 6, "deaths of workers")
    deaths = server.log.count("died: exit code 3")
    assert server.process is not None
    assert server.process.poll() is None
    # 0.1, 0.2, 0.4 ... seconds: 6 deaths of two workers take 0.3 s of waiting at least; without back-off it were 100.
    assert deaths < 20
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("trouble", "text"),
    [("fails", "did not start: the shard is locked"), ("raises", "did not start: RuntimeError: a bug")],
)
def test_a_child_that_cannot_start_ends_the_start(server: RunningServer, trouble: str, text: str) -> None:
    server.environment["FAKE_TROUBLE"] = trouble
    assert server.spawn().wait(10) == os.EX_UNAVAILABLE
    assert text in server.output
    assert text in server.log


def test_a_child_that_ignores_the_stop_is_killed_at_the_deadline(server: RunningServer) -> None:
    server.environment["FAKE_TROUBLE"] = "ignores-stop"
    server.main_cf.update({"stop_timeout": "1s", "process_kill_delay": "1s"})
    server.write_configuration()
    server.start()
    children = server.children()
    assert server.stop() == 0, server.output
    assert not any(alive(pid) for pid in children.values())
    assert "still running: sending SIGTERM" in server.log
    assert "still running: sending SIGKILL" in server.log


def test_a_second_request_to_stop_hurries(server: RunningServer) -> None:
    server.environment["FAKE_TROUBLE"] = "ignores-stop"
    server.main_cf.update({"stop_timeout": "1h", "process_kill_delay": "1h"})
    server.write_configuration()
    server.start()
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("stopping")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("sending SIGTERM")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0


def test_a_reload_opens_and_closes_listeners_and_keeps_the_workers(server: RunningServer) -> None:
    server.start()
    assert server.process is not None
    before, old = server.children(), server.port
    fresh = free_port()
    server.services = [f"127.0.0.1:{fresh} inet n - n - - smtpd"]
    server.main_cf["worker_processes"] = "5"
    server.write_configuration()
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("configuration reloaded")
    wait_for(lambda: server.banner(fresh), "a banner on the new port")
    wait_for(lambda: server.banner(old) is None, "silence on the old port")
    assert "worker_processes has changed: this takes effect at the next restart" in server.log
    assert server.children() == before
    # A worker that starts later has the new listeners too.
    os.kill(before["worker 0"], signal.SIGKILL)
    wait_for(lambda: (server.banner(fresh) or "").startswith("220 fake worker 0"), "the new worker 0 on the new port")
    server.port = fresh
    assert server.stop() == 0


@honours("helpful_warnings")
@pytest.mark.parametrize("wanted", ["yes", "no"])
def test_what_check_warns_of_is_in_the_log_if_that_is_wanted(wanted: str, server: RunningServer) -> None:
    server.main_cf |= {"helpful_warnings": wanted, "mydestinaton": "x"}
    server.write_configuration()
    server.start()
    assert ("unknown parameter mydestinaton; did you mean mydestination?" in server.log) == (wanted == "yes")


def test_a_broken_configuration_is_not_taken(server: RunningServer) -> None:
    server.start()
    assert server.process is not None
    before = server.children()
    server.main_cf["stop_timeout"] = "soon"
    server.write_configuration()
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("reload refused")
    assert server.banner()
    assert server.children() == before


def test_a_new_listener_that_cannot_be_had_refuses_the_reload(server: RunningServer) -> None:
    server.start()
    assert server.process is not None
    with socket.create_server(("127.0.0.1", 0)) as other:
        server.services.append(f"127.0.0.1:{other.getsockname()[1]} inet n - n - - smtpd")
        server.write_configuration()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reload refused: cannot listen on 127.0.0.1")
    assert server.banner()


def test_a_port_in_use_is_named(server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        assert server.spawn().wait(10) == os.EX_UNAVAILABLE
    assert server.output == (
        f"ekiden: cannot listen on 127.0.0.1:{server.port}: Address already in use (another program listens there)\n"
    )


def test_a_second_server_of_the_same_queue_is_told_so(server: RunningServer) -> None:
    server.start()
    assert server.process is not None
    again = subprocess.run(
        [*server.program, "serve", "-c", str(server.etc)], capture_output=True, text=True, timeout=20, check=False
    )
    assert again.returncode == os.EX_TEMPFAIL
    assert again.stderr == (
        f"ekiden: {server.queue}/ekiden.pid: the server is already running (process {server.process.pid})\n"
    )


def test_a_second_server_of_the_same_user_does_not_share_the_port(server: RunningServer) -> None:
    server.start()
    with open_directory() as directory:
        other = RunningServer(directory, program=server.program, port=server.port)
        assert other.spawn().wait(10) == os.EX_UNAVAILABLE
        assert "Address already in use" in other.output


def test_a_broken_configuration_does_not_start(server: RunningServer) -> None:
    server.main_cf["worker_processes"] = "many"
    server.write_configuration()
    assert server.spawn().wait(10) == os.EX_CONFIG
    assert re.search(r"main\.cf:\d+: error: worker_processes = many: must be a whole number", server.output)
    assert "Traceback" not in server.output


@honours("mail_owner")
def test_a_mail_owner_that_does_not_exist_names_the_command_that_makes_it(server: RunningServer) -> None:
    require_root()
    server.main_cf["mail_owner"] = "ekiden-nobody"
    server.write_configuration()
    assert server.spawn().wait(10) == os.EX_NOUSER
    assert "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin ekiden-nobody" in server.output


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_workers_of_root_are_somebody_else_for_good(server: RunningServer) -> None:
    require_root()
    server.start()
    children = server.children()
    worker = status_of(children["worker 0"])
    assert worker["Uid"].split() == ["65534"] * 4
    assert worker["Gid"].split() == ["65534"] * 4
    others = sorted(set(os.getgrouplist("nobody", 65534)) - {65534})
    assert [int(gid) for gid in worker["Groups"].split()] == others
    assert worker["NoNewPrivs"] == "1"
    assert int(worker["CapPrm"], 16) == int(worker["CapEff"], 16) == 0
    assert worker["Umask"] == "0077"
    assert status_of(children["deliverer"])["Uid"].split()[0] == "0"
    modes = {entry.name: (entry.stat().st_mode & 0o7777, entry.stat().st_uid) for entry in server.queue.iterdir()}
    assert modes == {
        "ekiden.pid": (0o644, 0),
        "srs.secret": (0o600, 0),
        "shards": (0o700, 65534),
        "maildrop": (0o1733, 65534),
        "run": (0o700, 65534),
        "public": (0o755, 65534),
        "private": (0o700, 65534),
        "tls": (0o700, 65534),
        "reports": (0o700, 65534),
    }


def test_a_worker_holds_only_its_own_descriptors(server: RunningServer) -> None:
    server.start()

    def held() -> dict[str, int]:
        return {
            name: sum(int(entry.name) > 2 for entry in Path(f"/proc/{pid}/fd").iterdir())
            for name, pid in server.children().items()
        }

    # Workers: the control socket and one listener (the fake closes its peers). Deliverer: the control socket.
    wait_for(lambda: held() == {"deliverer": 1, "worker 0": 2, "worker 1": 2}, "no foreign descriptors")


def test_an_ordinary_user_runs_a_server_too() -> None:
    require_root()
    with open_directory() as directory:
        os.chown(directory, 65534, 65534)
        program = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, str(FAKE))
        server = RunningServer(directory, program=program)
        try:
            server.main_cf.pop("mail_owner")
            server.write_configuration()
            server.start()
            children = server.children()
            assert {status_of(pid)["Uid"].split()[0] for pid in children.values()} == {"65534"}
            server.stop(signal.SIGKILL)
            wait_for(lambda: not any(alive(pid) for pid in children.values()), "the end of all children")
        finally:
            server.close()
