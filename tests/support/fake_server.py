"""The real supervisor with tiny children, for its own tests: ``python fake_server.py serve -c DIR``.

A worker greets every connection with ``220 fake worker N PID`` and echoes one line; the deliverer only waits.
FAKE_TROUBLE in the environment makes them misbehave; a path there: workers die as soon as it exists.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path

from ekiden.config.load import Configuration
from ekiden.runtime import control
from ekiden.runtime.control import (
    AddListeners,
    AddPeer,
    Failed,
    Ready,
    RemoveListeners,
    Stop,
)
from ekiden.runtime.serve import serve
from ekiden.runtime.supervisor import Programs
from ekiden.runtime.worker_context import WorkerContext

TROUBLE = os.environ.get("FAKE_TROUBLE", "")


def worker_main(context: WorkerContext) -> int:
    if TROUBLE == "fails":
        control.send(context.control, Failed("the shard is locked"))
        return 1
    if TROUBLE == "raises":
        raise RuntimeError("a bug")
    if TROUBLE == "ignores-stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listeners = {listener.key: listener.socket for listener in context.listeners}
    peers: list[str] = []
    control.send(context.control, Ready())
    while True:
        if TROUBLE.startswith("/") and Path(TROUBLE).exists():
            return 3
        for sock in select.select([context.control, *listeners.values()], [], [], 0.02)[0]:
            if sock is not context.control:
                connection, _ = sock.accept()
                with connection:
                    facts = f"{context.index} {os.getpid()} {','.join(peers)}"
                    connection.sendall(f"220 fake worker {facts}\r\n".encode())
                continue
            received = control.receive(context.control)
            if received is None:
                return 1
            message, fds = received
            if isinstance(message, AddPeer):
                peers.append(message.role)
                control.close_all(fds)
            elif isinstance(message, AddListeners):
                for key, fd in zip(message.listeners, fds, strict=True):
                    listeners[key] = socket.socket(fileno=fd)
            elif isinstance(message, RemoveListeners):
                for key in message.listeners:
                    listeners.pop(key).close()
            elif isinstance(message, Stop) and TROUBLE != "ignores-stop":
                return 0


def deliverer_main(configuration: Configuration, sock: socket.socket) -> int:
    control.send(sock, Ready())
    while (received := control.receive(sock)) is not None:
        message, fds = received
        control.close_all(fds)
        if isinstance(message, Stop):
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[3]), programs=Programs(worker_main, deliverer_main)))
