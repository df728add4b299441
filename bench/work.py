"""The work that is measured, the same for every server: who sends, who receives, and when it is done."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench.processes import cpu_seconds
from bench.servers import SBIN, Server, free_port, wait_for_banner

# Work that takes longer than this is not slow, it hangs.
DEADLINE_S = 180


class Measured(Struct, frozen=True):
    messages: int
    seconds: float
    cpu_s: float  # of the server's own processes

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_ms_a_message(self) -> float:
        return self.cpu_s / self.messages * 1000


def _source(server: Server, messages: int, size: int, connections: int, recipient: str) -> subprocess.Popen[bytes]:
    # -d is not given: a new connection for each message.
    return subprocess.Popen(
        [
            SBIN / "smtp-source",
            *("-s", str(connections), "-m", str(messages), "-l", str(size)),
            *("-f", "sender@client.example", "-t", recipient, f"127.0.0.1:{server.port}"),
        ]
    )


def relay(server: Server, *, messages: int, size: int, connections: int = 50, warm_up: int = 200) -> Measured:
    """smtp-source -> server -> smtp-sink, until the last message has arrived at the sink."""
    port = free_port()

    def sink(count: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [SBIN / "smtp-sink", "-u", "nobody", "-M", str(count), f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_banner(port)
        return process

    server.start({"relayhost": f"[127.0.0.1]:{port}", "message_size_limit": "0"})
    try:

        def run(count: int) -> None:
            receiving = sink(count)
            try:
                _source(server, count, size, connections, "recipient@next.example").wait(DEADLINE_S)
                receiving.wait(DEADLINE_S)
            finally:
                receiving.kill()

        if warm_up:
            run(warm_up)
        return measure(server, messages, lambda: run(messages))
    finally:
        server.stop()


def maildir(server: Server, *, messages: int, size: int, connections: int = 50, uid: int = 5000) -> Measured:
    """smtp-source -> server -> one virtual Maildir, until the last message lies in new/."""
    base = server.directory.parent / f"{server.name}-mailboxes"
    subprocess.run(["rm", "-rf", base], check=True)
    base.mkdir()
    new = base / "box" / "new"
    subprocess.run(["chown", f"{uid}:{uid}", base], check=True)
    server.start(
        {
            "virtual_mailbox_domains": "box.example",
            "virtual_mailbox_base": str(base),
            "virtual_mailbox_maps": "static:box/",
            "virtual_uid_maps": f"static:{uid}",
            "virtual_gid_maps": f"static:{uid}",
        }
    )
    try:

        def run() -> None:
            before = _files(new)
            _source(server, messages, size, connections, "user@box.example").wait(DEADLINE_S)
            end = time.monotonic() + DEADLINE_S
            while _files(new) - before < messages:
                if time.monotonic() > end:
                    raise TimeoutError(f"{_files(new) - before} of {messages} messages are in the mailbox")
                time.sleep(0.02)

        return measure(server, messages, run)
    finally:
        server.stop()


def _files(folder: Path) -> int:
    try:
        return sum(1 for _ in folder.iterdir())
    except FileNotFoundError:
        return 0


def measure(server: Server, messages: int, run: Callable[[], None]) -> Measured:
    cpu, start = _cpu_seconds(server), time.monotonic()
    run()
    return Measured(messages, time.monotonic() - start, _cpu_seconds(server) - cpu)


def _cpu_seconds(server: Server) -> float:
    return sum(cpu_seconds(pid) for pid in server.pids)
