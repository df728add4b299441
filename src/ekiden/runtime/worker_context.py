"""What a worker gets from the supervisor at its start."""

from __future__ import annotations

import socket
from pathlib import Path

from msgspec import Struct, field

from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.policy.client_limits import ClientCounts, ClientRates, LocalCounts
from ekiden.policy.login_failures import FailureCounts
from ekiden.policy.pop_before_smtp import MailboxLogins
from ekiden.queue.pace import Pace
from ekiden.runtime.control import ListenerKey
from ekiden.tls.key_files import KeyFiles
from ekiden.tls.tickets import TicketKeys


class Listener(Struct, frozen=True):
    """A listening socket of this worker alone (SO_REUSEPORT), non-blocking, and the service it is for."""

    service: Service
    socket: socket.socket
    key: ListenerKey


class WorkerContext(Struct, frozen=True):
    """A worker runs already as ``mail_owner``, with umask 077, in the queue directory.

    The socket to the deliverer comes over ``control`` as AddPeer, again after the deliverer died; at the start it lies
    there already, before anything else. The worker says Ready over it when it serves.
    """

    index: int  # 0 up; its shard
    workers: int
    directory: Path  # of main.cf and master.cf
    configuration: Configuration
    listeners: list[Listener]
    control: socket.socket
    started_as_root: bool
    pace: Pace | None = None  # of deliveries, common to all workers
    counts: ClientCounts = field(default_factory=LocalCounts)  # of connections by client, common to all workers
    key_files: KeyFiles = KeyFiles()  # what the files of keys and certificates held when it was started
    tickets: TicketKeys | None = None  # of TLS sessions, common to all workers
    rates: ClientRates | None = None  # of what clients do, common to all workers
    login_failures: FailureCounts | None = None  # common to all workers
    mailbox_logins: MailboxLogins | None = None  # common to all processes
