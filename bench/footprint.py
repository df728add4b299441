"""How small the server stays: ten thousand idle sessions, twenty large messages at once, the time to its banner."""

from __future__ import annotations

import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable

from msgspec import Struct

from bench.processes import family, memory_bytes, process_memory_bytes
from bench.servers import SBIN, Ekiden, Server, free_port, wait_for_banner

_DEADLINE_S = 300


class Idle(Struct, frozen=True):
    sessions: int
    added_bytes: int


class Large(Struct, frozen=True):
    clients: int
    size: int
    added_bytes_a_worker: int
    seconds: float


def idle_sessions(server: Ekiden, sessions: int = 10_000) -> Idle:
    """Memory of the whole server that open, greeted, silent sessions add."""
    need = sessions + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(need, hard), hard))
    server.start({"smtpd_client_connection_count_limit": "0"})
    clients: list[socket.socket] = []
    try:
        time.sleep(0.5)
        before = memory_bytes(server.pid)
        for number in range(sessions):
            client = socket.socket()
            # One source address has too few ports for more than some ten thousand connections.
            client.bind((f"127.0.1.{1 + number % 8}", 0))
            client.connect(("127.0.0.1", server.port))
            clients.append(client)
            if number % 200 == 199:
                for waiting in clients[-200:]:
                    _hello(waiting)
        return Idle(len(clients), memory_bytes(server.pid) - before)
    finally:
        for client in clients:
            client.close()
        server.stop()


def _hello(client: socket.socket) -> None:
    client.settimeout(30)
    client.recv(512)
    client.sendall(b"EHLO idle.example\r\n")
    client.recv(1024)


def large_messages(server: Ekiden, clients: int = 20, size: int = 50_000_000) -> Large:
    """The highest memory of any worker while many clients send large messages, over what it had before."""
    port = free_port()
    sink = subprocess.Popen(
        [SBIN / "smtp-sink", "-u", "nobody", "-M", str(clients), f"127.0.0.1:{port}", "100"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_banner(port)
    server.start({"relayhost": f"[127.0.0.1]:{port}", "message_size_limit": "0"})
    try:
        start = time.monotonic()

        def run() -> None:
            senders = subprocess.Popen(
                [
                    SBIN / "smtp-source",
                    *("-s", str(clients), "-m", str(clients), "-l", str(size)),
                    *("-f", "sender@client.example", "-t", "recipient@next.example", f"127.0.0.1:{server.port}"),
                ]
            )
            senders.wait(_DEADLINE_S)
            sink.wait(_DEADLINE_S)

        added = peak_memory(server, run)
        return Large(clients, size, added, time.monotonic() - start)
    finally:
        sink.kill()
        server.stop()


def peak_memory(server: Server, run: Callable[[], None]) -> int:
    """The most bytes that any process of the server has while ``run`` runs, over what it had before."""
    pids = family(server.pid)
    before = {pid: process_memory_bytes(pid) for pid in pids}
    peak: dict[int, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for pid in pids:
                peak[pid] = max(peak.get(pid, 0), process_memory_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return max(peak.get(pid, 0) - before[pid] for pid in pids)


def seconds_to_banner(server: Ekiden) -> float:
    start = time.monotonic()
    server.start({})
    try:
        return time.monotonic() - start
    finally:
        server.stop()
