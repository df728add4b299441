"""Commands that run with a message on their standard input, many at once, in a mailbox writer's poll loop.

Each is the leader of a session of its own, so that its time limit ends its children too. It need not read the message.
What it says is kept up to a limit and read beyond it, so that no command waits for us.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator

from ekiden.deliver.command import SHELL, default_signals, ended, not_started, timed_out
from ekiden.deliver.mailbox_jobs import Answer, RunJob, deferred
from ekiden.deliver.mailbox_text import ContentTrouble, Task, command_pieces

_PIECE_BYTES = 65_536


class _Run:
    """One command. ``fds`` are what the poll loop watches for it."""

    def __init__(self, task: Task[RunJob], process: subprocess.Popen[bytes], deadline: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.task = task
        self.process = process
        self.deadline = deadline
        self.ends = os.pidfd_open(process.pid)
        self.input, self.output = process.stdin.fileno(), process.stdout.fileno()
        self.pieces: Iterator[bytes] = command_pieces(task)
        self.unwritten = memoryview(b"")
        self.said = bytearray()
        self.trouble: ContentTrouble | None = None
        os.set_blocking(self.input, False)
        os.set_blocking(self.output, False)

    @property
    def shown(self) -> str:
        job = self.task.job
        line = job.line or (job.argv[-1] if job.argv[:2] == (SHELL, b"-c") else b" ".join(job.argv))
        return line.decode("utf-8", "replace")


class CommandRuns:
    """The commands of one writer process. Owns the descriptors of the tasks it was given."""

    def __init__(self, poll: select.poll, limit: int, monotonic: Callable[[], float]) -> None:
        self._poll = poll
        self._limit = limit
        self._monotonic = monotonic
        self._waiting: collections.deque[Task[RunJob]] = collections.deque()
        self._runs: set[_Run] = set()
        self._by_fd: dict[int, tuple[_Run, Callable[[_Run], None]]] = {}
        self._answers: list[Answer] = []

    def add(self, task: Task[RunJob]) -> None:
        self._waiting.append(task)
        self._start_waiting()

    def serve(self, fd: int) -> None:
        """Something happened on a descriptor of ours; others are no matter."""
        if (found := self._by_fd.get(fd)) is not None:
            run, handle = found
            handle(run)

    def next_deadline(self) -> float | None:
        """When expire() must be called (monotonic seconds)."""
        return min((run.deadline for run in self._runs), default=None)

    def expire(self) -> None:
        """Kill what has run too long."""
        now = self._monotonic()
        for run in [run for run in self._runs if run.deadline <= now]:
            self._kill(run)
            run.process.wait()
            self._read(run)
            self._finish(run, timed_out(run.task.job.id, run.shown, bytes(run.said)))

    def take_answers(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def kill_all(self) -> None:
        """Nobody waits for the answers any more."""
        for run in list(self._runs):
            self._kill(run)
            run.process.wait()
            self._finish(run, deferred(run.task.job.id, 3, 0, "the server is stopping"))
        for task in self._waiting:
            task.close()
        self._waiting.clear()

    # -- inside

    def _start_waiting(self) -> None:
        while self._waiting and len(self._runs) < self._limit:
            task = self._waiting.popleft()
            try:
                self._start(task)
            except OSError as error:
                shown = b" ".join(task.job.argv).decode("utf-8", "replace")
                self._answers.append(not_started(task.job.id, shown, error))
                task.close()

    def _start(self, task: Task[RunJob]) -> None:
        job = task.job
        for directory, what in ((job.home, "home"), (job.directory, "working")):
            if not directory:
                continue
            try:
                os.close(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            except OSError as error:
                raise OSError(error.errno, f"{what} directory {directory}: {error.strerror}") from error
        try:
            process = _spawn(job, job.argv)
        except FileNotFoundError:
            if not job.line:
                raise
            process = _spawn(job, (SHELL, b"-c", job.line))  # a word of the shell's own, such as exit
        run = _Run(task, process, self._monotonic() + job.time_limit_s)
        self._runs.add(run)
        self._watch(run, run.input, select.POLLOUT, self._write)
        self._watch(run, run.output, select.POLLIN, self._hear)
        self._watch(run, run.ends, select.POLLIN, self._ended)

    def _watch(self, run: _Run, fd: int, events: int, handle: Callable[[_Run], None]) -> None:
        self._by_fd[fd] = (run, handle)
        self._poll.register(fd, events)

    def _unwatch(self, fd: int) -> None:
        if self._by_fd.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _write(self, run: _Run) -> None:
        """Give the command what its pipe takes."""
        while True:
            if not run.unwritten:
                try:
                    piece = next(run.pieces, None)
                except ContentTrouble as trouble:
                    run.trouble = trouble
                    self._kill(run)  # it must not take a part of the message for the whole
                    return
                if piece is None:
                    self._close_input(run)
                    return
                run.unwritten = memoryview(piece)
            try:
                count = os.write(run.input, run.unwritten[:_PIECE_BYTES])
            except BlockingIOError:
                return
            except OSError:  # it does not want the rest
                self._close_input(run)
                return
            run.unwritten = run.unwritten[count:]

    def _close_input(self, run: _Run) -> None:
        if run.input >= 0:
            self._unwatch(run.input)
            run.input = -1  # from now on the number may be another's
            assert run.process.stdin is not None
            run.process.stdin.close()
            run.input = -1  # the next command that starts may get the same number

    def _hear(self, run: _Run) -> None:
        if not self._read(run):
            self._unwatch(run.output)

    def _read(self, run: _Run) -> bool:
        """Read what the command says now; False at the end."""
        limit = run.task.job.output_limit
        for _ in range(16):
            try:
                piece = os.read(run.output, _PIECE_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not piece:
                return False
            run.said += piece[: max(0, limit - len(run.said))]
        return True

    def _ended(self, run: _Run) -> None:
        code = run.process.poll()
        if code is None:  # an event of a command that is gone, whose descriptor this one has got
            return
        self._read(run)
        number = run.task.job.id
        if run.trouble is not None:
            self._finish(run, deferred(number, 3, 0, str(run.trouble)))
        else:
            self._finish(run, ended(number, run.shown, run.task.job.success, code, bytes(run.said)))

    def _finish(self, run: _Run, answer: Answer) -> None:
        self._close_input(run)
        self._unwatch(run.output)
        self._unwatch(run.ends)
        assert run.process.stdout is not None
        run.process.stdout.close()
        os.close(run.ends)
        run.task.close()
        self._runs.discard(run)
        self._answers.append(answer)
        self._start_waiting()

    def _kill(self, run: _Run) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)


def _spawn(job: RunJob, argv: tuple[bytes, ...]) -> subprocess.Popen[bytes]:
    """Raises OSError."""
    return subprocess.Popen(  # what runs is root's alias's, the user's own, or main.cf's
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        cwd=job.directory or "/",
        env=dict(job.environment),
        start_new_session=True,
        umask=0o077,
        preexec_fn=default_signals,  # noqa: PLW1509 -- a writer has one thread
    )
