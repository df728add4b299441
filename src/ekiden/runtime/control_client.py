"""The commands' side of the control sockets: asks every worker of a running server and puts the answers together.

Blocking and without a loop, so that a command starts fast.
"""

from __future__ import annotations

import heapq
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ekiden.config.snapshot import Parameters
from ekiden.queue.store import Change
from ekiden.runtime.requests import (
    LENGTH_BYTES,
    Answer,
    AskStatus,
    BadMessage,
    Changed,
    ChangeMessages,
    Filter,
    FlushQueue,
    Listed,
    ListQueue,
    MessageLine,
    Refused,
    ReportSubject,
    Request,
    SendReports,
    ShowMessage,
    Shown,
    WorkerStatus,
    decode_answer,
    frame,
)
from ekiden.runtime.short_path import short_path

A = TypeVar("A")


class ServerTrouble(Exception):
    """A worker does not answer, or refuses; the text is one line for who gave the command."""


class NotAllowed(ServerTrouble):
    """It is not for this user to ask."""


class NotRunning(ServerTrouble):
    """No worker listens."""


class WorkerConnection:
    """A connection to one worker."""

    def __init__(self, path: Path, timeout_s: float, limit_bytes: int) -> None:
        """Raises OSError: FileNotFoundError and ConnectionRefusedError mean that no worker is there."""
        self.name = path.stem
        self._limit_bytes = limit_bytes
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            with short_path(path) as name:
                self._socket.connect(name)
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def ask(self, request: Request, expected: type[A]) -> A:
        """Raises ServerTrouble."""
        answer = self._exchange(request)
        if isinstance(answer, Refused) and answer.denied:
            raise NotAllowed(answer.text)
        if isinstance(answer, Refused):
            raise ServerTrouble(f"{self.name}: {answer.text}")
        if not isinstance(answer, expected):
            raise ServerTrouble(f"{self.name}: answered something else")
        return answer

    def _exchange(self, request: Request) -> Answer:
        try:
            self._socket.sendall(frame(request))
            head = self._file.read(LENGTH_BYTES)
            size = int.from_bytes(head, "big")
            if len(head) < LENGTH_BYTES or size > self._limit_bytes:
                raise ServerTrouble(f"{self.name}: closed the connection")
            data = self._file.read(size)
            if len(data) < size:
                raise ServerTrouble(f"{self.name}: closed the connection")
            return decode_answer(data)
        except TimeoutError:
            raise ServerTrouble(f"{self.name}: no answer within control_timeout") from None
        except OSError as error:
            raise ServerTrouble(f"{self.name}: {error.strerror}") from error
        except BadMessage as error:
            raise ServerTrouble(f"{self.name}: {error}") from error

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class RunningServer:
    """All workers of a running server. ``absent``: workers whose socket is there but who do not listen just now."""

    def __init__(self, queue_directory: Path, parameters: Parameters) -> None:
        """Raises NotRunning. A user who may not enter ``run/`` gets the sockets that are for everybody."""
        self.workers: list[WorkerConnection] = []
        self.absent: list[str] = []
        for path in _sockets(queue_directory):
            try:
                connection = WorkerConnection(path, parameters.control_timeout, parameters.control_message_limit)
            except (FileNotFoundError, ConnectionRefusedError):
                self.absent.append(path.stem)
            except OSError as error:
                self.absent.append(f"{path.stem} ({error.strerror or error})")
            else:
                self.workers.append(connection)
        if not self.workers:
            raise NotRunning("the server does not run")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def messages(self, wanted: Filter) -> Iterator[MessageLine]:
        """All messages that match, oldest first. Holds one page a worker in memory. Raises ServerTrouble."""
        return heapq.merge(*(_pages(worker, wanted) for worker in self.workers), key=lambda line: line.queue_id)

    def show(self, queue_id: str) -> Shown:
        """Raises ServerTrouble."""
        for worker in self.workers:
            shown = worker.ask(ShowMessage(queue_id), Shown)
            if shown.message is not None:
                return shown
        return Shown()

    def change(self, change: Change, queue_ids: Sequence[str], wanted: Filter) -> Changed:
        """Change the named messages or, without names, all that match. Raises ServerTrouble."""
        answers = [worker.ask(ChangeMessages(change, tuple(queue_ids), wanted), Changed) for worker in self.workers]
        return Changed(
            sum(answer.count for answer in answers), tuple(done for answer in answers for done in answer.queue_ids)
        )

    def flush(self) -> int:
        """Try everything deferred now; how many messages that is. Raises ServerTrouble."""
        return sum(worker.ask(FlushQueue(), Changed).count for worker in self.workers)

    def send_reports(self, subject: ReportSubject = "tls") -> int:
        """Send the reports on that subject that are due; how many went out. Raises ServerTrouble."""
        # The first worker sends them; the others write down what they have counted before.
        return sum(worker.ask(SendReports(subject), Changed).count for worker in reversed(self.workers))

    def status(self) -> list[WorkerStatus]:
        """Raises ServerTrouble."""
        return [worker.ask(AskStatus(), WorkerStatus) for worker in self.workers]


def _sockets(queue_directory: Path) -> list[Path]:
    """The workers' sockets in their order. Raises ServerTrouble."""
    names: list[str] = []
    for folder in (queue_directory / "run", queue_directory / "public"):
        try:
            names = [name for name in os.listdir(folder) if name.startswith("worker-") and name.endswith(".sock")]
        except FileNotFoundError:
            return []
        except PermissionError:
            continue
        except OSError as error:
            raise ServerTrouble(f"{folder}: {error.strerror}") from error
        return [folder / name for name in sorted(names, key=lambda name: (len(name), name))]
    raise NotAllowed(f"{queue_directory}: Permission denied")


def _pages(worker: WorkerConnection, wanted: Filter) -> Iterator[MessageLine]:
    after = ""
    while True:
        page = worker.ask(ListQueue(wanted, after), Listed)
        yield from page.messages
        if not page.after:
            return
        after = page.after
