"""What a worker gets from the supervisor at its start."""

from __future__ import annotations

import socket
from pathlib import Path

from msgspec import Struct

from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.runtime.control import ListenerKey


class Listener(Struct, frozen=True):
    """A listening socket of this worker alone (SO_REUSEPORT), non-blocking, and the service it is for."""

    service: Service
    socket: socket.socket
    key: ListenerKey


class WorkerContext(Struct, frozen=True):
    """A worker runs already as ``mail_owner``, with umask 077, in the queue directory.

    The sockets to the deliverer and to the state process come over ``control`` as AddPeer; those there are at the
    start lie in it already, before anything else. The worker says Ready over it when it serves.
    """

    index: int  # 0 up; its shard
    workers: int
    directory: Path  # of main.cf and master.cf
    configuration: Configuration
    listeners: list[Listener]
    control: socket.socket
    started_as_root: bool
