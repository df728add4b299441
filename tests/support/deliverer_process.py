"""A real deliverer process for tests, forked from the test as the supervisor forks it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ekiden.config.load import Configuration
from ekiden.config.master_cf import read_master_cf
from ekiden.config.snapshot import Parameters
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.runtime import control
from ekiden.runtime.control import AddPeer, Ready, Stop
from ekiden.runtime.deliverer import deliverer_main

T = TypeVar("T")


class DelivererProcess:
    """The process and the supervisor's end of its control socket."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.control = sock
        self.status: int | None = None

    def new_worker(self) -> socket.socket:
        """The end of a fresh worker socket, the other end of which the deliverer has got."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            control.send(self.control, AddPeer("worker-0"), [there.fileno()])
        return here

    def writers(self) -> list[int]:
        """The process ids of the mailbox writers that are there now."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to stop; the exit status."""
        with contextlib.suppress(OSError):
            control.send(self.control, Stop(10.0))
        return self.wait()

    def wait(self) -> int:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


@contextlib.contextmanager
def running_deliverer(
    settings: Mapping[str, str], *, as_user: int | None = None, master_cf: str = ""
) -> Iterator[DelivererProcess]:
    """A deliverer under ``settings`` and the lines of ``master_cf``.

    ``as_user``: a user (and group) number it runs as instead of the test's own.
    """
    here, there = control.pair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            here.close()
            os.umask(0o077)
            if as_user is not None:
                os.setgroups([])
                os.setresgid(as_user, as_user, as_user)
                os.setresuid(as_user, as_user, as_user)
            services = read_master_cf(master_cf, "master.cf").services
            configuration = Configuration(Parameters(settings), services, Path(settings.get("config_directory", "/")))
            code = deliverer_main(configuration, there)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    there.close()
    process = DelivererProcess(pid, here)
    try:
        received = control.receive(here)
        assert received is not None
        assert isinstance(received[0], Ready), received
        yield process
    finally:
        if process.status is None:
            here.close()  # the end of the control socket ends the deliverer
            process.wait()
        here.close()


def with_channel(
    process: DelivererProcess, use: Callable[[MailboxChannel], Coroutine[Any, Any, T]], *, job_limit: int = 200
) -> T:
    """Run ``use`` with a channel to the deliverer."""

    async def run() -> T:
        channel = MailboxChannel(job_limit=job_limit, restart_wait_s=5.0)
        channel.attach(process.new_worker())
        try:
            return await asyncio.wait_for(use(channel), 60)
        finally:
            channel.close()

    return asyncio.run(run())


async def until(condition: Callable[[], T], what: str, deadline_s: float = 20.0) -> T:
    """Wait for a condition to be true; its value. Fails with ``what`` after the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"in vain waited for: {what}"
        await asyncio.sleep(0.005)
    return value


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    """A directory that every user can pass through; pytest's own are closed to all but their owner."""
    path = Path(tempfile.mkdtemp(prefix="ekiden-mailboxes-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def mails(maildir: Path) -> list[Path]:
    """The messages that lie in new/ of a Maildir, in the order of their names."""
    new = maildir / "new"
    return sorted(new.iterdir()) if new.is_dir() else []
