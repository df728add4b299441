"""The deliverer's way to tables that ask a server: a process without rights that does the lookups.

The deliverer may be root and has no event loop. It forks this process for its first question. The process opens the
tables of the deliverer's own configuration, becomes mail_owner for good, and answers questions, many at once. What it
says is only the value of a key: that a mailbox lies below virtual_mailbox_base and belongs to a user of at least
virtual_minimum_uid is looked after by the deliverer. It ends with the deliverer, and when it dies it is started again.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec
from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.runtime.privileges import PrivilegeTrouble, become, find_owner, forbid_new_privileges, set_process_title
from ekiden.tables.open import open_table
from ekiden.tables.questions import Question, Reply
from ekiden.tables.table import Table, TableTrouble

# A question or an answer is one packet of a SOCK_SEQPACKET socket, which must fit its buffer.
PACKET_BYTES = 131_072
# A process that ended sooner than this is not started again before.
_RESTART_S = 1.0

Then = Callable[[Reply], None]


class _Asked(Struct, frozen=True, array_like=True):
    id: int
    table: int  # which of the tables that the process was started for
    key: bytes


class _Told(Struct, frozen=True, array_like=True):
    id: int
    value: bytes | None  # None: the table does not have it, or there is trouble
    trouble: str


_encode = msgspec.msgpack.Encoder().encode
_asked = msgspec.msgpack.Decoder(_Asked)
_told = msgspec.msgpack.Decoder(_Told)


class TableAsker:
    """Has questions answered. ``tables`` are the words of the configuration that may be asked, with ``aliases``.

    The poll loop: ``watch`` has a function called when a descriptor is readable, ``unwatch`` ends that, and
    ``wait_for_room`` tells whether to call it also when the descriptor is writable.
    """

    def __init__(
        self,
        parameters: Parameters,
        tables: Sequence[tuple[str, bool]],
        *,
        timeout_s: float,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        wait_for_room: Callable[[int, bool], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._parameters = parameters
        self._tables = {table: number for number, table in enumerate(tables)}
        self._timeout_s = timeout_s
        self._watch, self._unwatch, self._wait_for_room = watch, unwatch, wait_for_room
        self._monotonic = monotonic
        self._process: _Process | None = None
        self._unanswered: dict[int, tuple[Then, float]] = {}  # what to do with the answer, and when it was asked
        self._last = 0
        self._started = float("-inf")
        self._ending: dict[int, int] = {}  # processes that end, by the descriptor that tells when they have
        self._retired = False

    @property
    def pid(self) -> int:
        """Of the process that answers now; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def next_tick_s(self) -> float | None:
        """How long until tick() is needed; None when nothing is asked."""
        return 1.0 if self._unanswered else None

    @property
    def ended(self) -> bool:
        """Whether it is of no more use, and has left nothing behind."""
        return self._retired and self._process is None and not self._unanswered and not self._ending

    def ask(self, question: Question, then: Then) -> None:
        """Have a question answered; ``then`` is called once, from the poll loop or at once."""
        table = self._tables.get((question.table, question.aliases))
        if table is None:
            then(TableTrouble(f"{question.table}: not one of the tables of the configuration"))
            return
        self._last = number = self._last + 1
        packet = _encode(_Asked(number, table, question.key.encode("utf-8", "surrogateescape")))
        if len(packet) > PACKET_BYTES:
            then(None)  # no table has such a key
            return
        try:
            process = self._process or self._start()
        except (OSError, TableTrouble) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            then(TableTrouble(f"{question.table}: the lookup process cannot be started: {text}"))
            return
        self._unanswered[number] = (then, self._monotonic())
        process.waiting.append(packet)
        self._send(process)

    def tick(self) -> None:
        """Kill a process that hangs: tables have time limits of their own, which are shorter."""
        if self._process is None or not self._unanswered:
            return
        _, asked = next(iter(self._unanswered.values()))
        if self._monotonic() - asked >= self._timeout_s:
            os.kill(self._process.pid, signal.SIGKILL)  # its end of the socket then tells

    def retire(self) -> None:
        """There is a new configuration, with an asker of its own: end when all questions have been answered."""
        self._retired = True
        if not self._unanswered:
            self.close()

    def close(self) -> None:
        """End the process; what it has not answered is trouble."""
        if self._process is not None:
            self._lost(self._process)

    # -- the process -----------------------------------------------------------------------------------------------

    def _start(self) -> _Process:
        """Raises OSError, TableTrouble."""
        now = self._monotonic()
        if now - self._started < _RESTART_S:
            raise TableTrouble("it ended a moment ago")
        self._started = now
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            here.close()
            there.close()
            raise
        if pid == 0:
            _play(there, self._parameters, list(self._tables))
        there.close()
        here.setblocking(False)
        self._process = process = _Process(pid, here)
        self._watch(here.fileno(), lambda: self._heard(process))
        return process

    def _send(self, process: _Process) -> None:
        full = False
        while process.waiting:
            try:
                process.sock.send(process.waiting[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                full = True
                break
            except OSError:
                return  # it is gone, which the poll loop tells
            process.waiting.popleft()
        if full != process.full:
            process.full = full
            self._wait_for_room(process.sock.fileno(), full)

    def _heard(self, process: _Process) -> None:
        while True:
            try:
                packet = process.sock.recv(PACKET_BYTES + 1, socket.MSG_DONTWAIT)
                told = _told.decode(packet) if packet else None
            except BlockingIOError:
                break
            except (OSError, msgspec.DecodeError, UnicodeError):  # it talks to the network: what it says is checked
                told = None
            if told is None:
                self._lost(process)
                return
            self._answer(told)
            if self._process is not process:  # the answer led to its end
                return
        self._send(process)

    def _answer(self, told: _Told) -> None:
        found = self._unanswered.pop(told.id, None)
        if found is not None:
            then, _ = found
            then(TableTrouble(told.trouble) if told.trouble else _text(told.value))
        if self._retired and not self._unanswered:
            self.close()

    def _lost(self, process: _Process) -> None:
        self._process = None
        self._unwatch(process.sock.fileno())
        process.sock.close()  # it ends by that, if it has not yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # also when it is not listening
        tells = os.pidfd_open(process.pid)
        self._ending[tells] = process.pid
        self._watch(tells, lambda: self._ended(tells))
        unanswered, self._unanswered = self._unanswered, {}
        for then, _ in unanswered.values():
            then(TableTrouble("the lookup process ended before it answered"))

    def _ended(self, tells: int) -> None:
        os.waitpid(self._ending.pop(tells), 0)
        self._unwatch(tells)
        os.close(tells)


class _Process:
    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid, self.sock = pid, sock
        self.waiting: collections.deque[bytes] = collections.deque()
        self.full = False


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")


# -- in the process ----------------------------------------------------------------------------------------------------


def _play(sock: socket.socket, parameters: Parameters, words: Sequence[tuple[str, bool]]) -> NoReturn:
    """The life of the process, from the fork on."""
    code = os.EX_SOFTWARE
    try:
        gc.freeze()  # nothing of the deliverer is ever collected here: its objects own descriptors closed below
        kept = {0, 1, 2, sock.fileno()}
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in kept:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        set_process_title("ekiden: tables", None)
        os.umask(0o077)
        os.chdir("/")
        # Before the rights are gone, so that files with passwords may be root's alone; nothing connects by that.
        tables = [_open(word, aliases, parameters) for word, aliases in words]
        import asyncio

        become(find_owner(parameters))
        forbid_new_privileges()
        asyncio.run(_Lookups(sock, tables).run())
        code = os.EX_OK
    except (OSError, PrivilegeTrouble) as error:
        print(f"ekiden lookup process: {error}", file=sys.stderr)  # noqa: T201
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _open(word: str, aliases: bool, parameters: Parameters) -> Table | str:
    """The table, or why there is none."""
    try:
        return open_table(word, aliases=aliases, parameters=parameters)
    except ConfigError as error:
        return str(error)


class _Lookups:
    """Answers what comes, each question in its own task."""

    def __init__(self, sock: socket.socket, tables: Sequence[Table | str]) -> None:
        self._sock = sock
        self._tables = tables
        self._waiting: collections.deque[bytes] = collections.deque()

    async def run(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock.fileno(), self._readable)
        await self._gone.wait()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        for task in self._tasks:
            task.cancel()

    def _readable(self) -> None:
        while True:
            try:
                packet = self._sock.recv(PACKET_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:  # the deliverer is gone, or wants no more
                self._gone.set()
                return
            task = self._loop.create_task(self._answer(_asked.decode(packet)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: _Asked) -> None:
        table = self._tables[asked.table]
        value, trouble = None, ""
        if isinstance(table, str):
            trouble = table
        else:
            try:
                value = await table.lookup(asked.key.decode("utf-8", "surrogateescape"))
            except TableTrouble as error:
                trouble = str(error) or "no answer"
            except Exception as error:  # a bug must cost one lookup, not the others that are under way
                traceback.print_exc()
                trouble = f"{table.name}: {type(error).__name__}"
        # An error may quote a key that is no UTF-8.
        trouble = trouble[:2000].encode("utf-8", "backslashreplace").decode()
        told = _encode(_Told(asked.id, None if value is None else value.encode("utf-8", "surrogateescape"), trouble))
        if len(told) > PACKET_BYTES:
            told = _encode(_Told(asked.id, None, f"the answer is longer than {PACKET_BYTES} bytes"))
        self._waiting.append(told)
        self._send()

    def _send(self) -> None:
        while self._waiting:
            try:
                self._sock.send(self._waiting[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._send)
                return
            except OSError:
                self._gone.set()
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._sock.fileno())
