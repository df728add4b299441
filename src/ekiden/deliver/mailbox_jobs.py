"""What worker, deliverer and mailbox writers say to each other: typed packets over SOCK_SEQPACKET socket pairs.

worker -- Job --> deliverer -- WriteJob, ReadJob, RunJob --> writer, and Answers back the same way. One packet is one
msgpack array ``[SCHEMA, [item, ...]]``. Content above INLINE_BYTES travels as a file descriptor beside the packet
(SCM_RIGHTS, unix(7)): the items whose ``content`` is None take the packet's descriptors in order.

Nothing a worker says is believed but the bytes of the mail itself and what mail says of itself (sender, recipient,
client): a Job names no path, no user number and no command.
"""

from __future__ import annotations

import array
import collections
import enum
import os
import socket
import struct
from collections.abc import Iterator
from types import UnionType
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

SCHEMA = 2
# One packet must fit the default socket buffer (net.core.wmem_default, 212992) with the kernel's own bookkeeping.
PACKET_BYTES = 98_304
INLINE_BYTES = 65_536
PACKET_FDS = 16
PACKET_ITEMS = 256
ANSWER_CHARACTERS = 1000
# What one answer may hold: the members of a list.
CONTENT_BYTES = 67_108_864


class PacketTrouble(Exception):
    """A packet that is not of this schema: the other side is broken or hostile and is let go."""


class Transport(enum.Enum):
    VIRTUAL = "virtual"
    LOCAL = "local"  # a user: .forward, then the mailbox
    MAILBOX = "mailbox"  # a user's mailbox, whatever .forward says
    ALIAS = "alias"  # the commands, files and :include: files of an alias
    PIPE = "pipe"  # a pipe service of master.cf


class Facts(Struct, frozen=True, array_like=True):
    """What a command may be told of the mail. All of it may be as a stranger, or a hostile worker, made it up."""

    queue_id: str = ""
    recipient: bytes = b""  # whole, without brackets
    original: bytes = b""  # the recipient before aliases
    delivered_to: bytes = b""  # for the Delivered-To field
    client_name: str = ""
    client_address: str = ""
    client_helo: str = ""
    client_protocol: str = ""
    client_port: str = ""
    next_hop: str = ""  # pipe alone, as the following
    recipients: tuple[tuple[bytes, bytes], ...] = ()  # each with its original


NO_FACTS = Facts()


class Job(Struct, frozen=True, array_like=True):
    """One message for one mailbox, as a worker asks for it. Text is bytes because addresses need not be UTF-8."""

    id: int  # the worker's own number for it
    transport: Transport
    # virtual: the address; local, mailbox: a user's name, perhaps with an extension; alias: its name; pipe: the service
    recipient: bytes
    sender: bytes  # without brackets, empty for the null sender; for the From_ line of an mbox
    head: bytes  # header lines to put before the message, ending in LF
    content: bytes | None  # wire form (CRLF); None: in the next descriptor of the packet
    size: int  # of the content in wire form
    facts: Facts = NO_FACTS
    without_mailbox: bool = False  # local: when .forward says nothing, the worker has another way for the mail
    done: tuple[str, ...] = ()  # what an earlier attempt told in Outcome.done, not to be done again


class Form(enum.Enum):
    MAILDIR = "maildir"
    MBOX = "mbox"
    FILE = "file"  # an mbox that an alias or .forward names: anybody's, or a device such as /dev/null
    NONE = "none"  # nothing is written: only .forward is looked for


class WriteJob(Struct, frozen=True, array_like=True, tag="write"):
    """One message for one mailbox, as the deliverer tells the writer that runs as the mailbox's user."""

    id: int  # the deliverer's number for it
    form: Form
    base: str  # a directory that is trusted as it is named: virtual_mailbox_base, a home, mail_spool_directory
    path: str  # relative to base, without "..", without empty parts
    guarded: bool  # symbolic links below base are followed only when the superuser or the server's owner made them
    locks: tuple[str, ...]
    limit_bytes: int  # 0: none
    sender: bytes
    head: bytes
    content: bytes | None
    size: int
    forward: tuple[str, ...] = ()  # when one of these files is there nothing is written: the answer tells what it says
    home: str = ""  # a directory that must be there


class ReadJob(Struct, frozen=True, array_like=True, tag="read"):
    """An :include: file to read and tell of. ``trusted`` as guarded of WriteJob, for links on the way to the file."""

    id: int
    path: str
    guarded: bool
    content: bytes | None = b""


class RunJob(Struct, frozen=True, array_like=True, tag="run"):
    """A command that gets a message on its standard input."""

    id: int
    argv: tuple[bytes, ...]
    line: bytes  # the command as it is written; a shell gets it when the program of argv is not there
    environment: tuple[tuple[bytes, bytes], ...]
    directory: str
    home: str  # a directory that must be there, or empty
    time_limit_s: float
    output_limit: int
    success: str  # what to say when all went well
    head: bytes
    content: bytes | None
    size: int
    eol: bytes = b"\n"
    dots: bool = False  # a dot before lines that begin with one
    quote_from: bool = False  # ">" before lines that begin with "From "
    blank_end: bool = False  # an empty line at the end


WriterJob = WriteJob | ReadJob | RunJob


class Outcome(enum.IntEnum):
    """The class of the enhanced status code; GOES_ON: the content of the answer says how."""

    GOES_ON = 1
    DELIVERED = 2
    DEFERRED = 4
    FAILED = 5


class Answer(Struct, frozen=True, array_like=True):
    """How one job ended. ``subject`` and ``detail`` complete the enhanced status code (RFC 3463 §2).

    ``content``: from a writer what it read (targets.FoundTargets), to a worker what is left to it (mailbox_jobs.Left);
    None: in the next descriptor of the packet.
    """

    id: int
    outcome: Outcome
    subject: int
    detail: int
    text: str
    content: bytes | None = b""

    def for_job(self, number: int) -> Answer:
        return Answer(number, self.outcome, self.subject, self.detail, self.text, self.content)


class Left(Struct, frozen=True, array_like=True):
    """What the deliverer leaves to the worker of a local delivery."""

    addresses: list[tuple[str, bytes]] = []  # packed targets: where the mail shall go on to
    to_mailbox: bool = False  # the worker's own way takes the mail
    done: tuple[str, ...] = ()  # what is delivered already, for the next attempt
    warnings: tuple[str, ...] = ()  # for the log
    unknown: bool = False  # there is no such user


encode_left = msgspec.msgpack.Encoder().encode
decode_left = msgspec.msgpack.Decoder(Left).decode


def delivered(number: int, text: str) -> Answer:
    return Answer(number, Outcome.DELIVERED, 0, 0, _one_line(text))


def deferred(number: int, subject: int, detail: int, text: str) -> Answer:
    return Answer(number, Outcome.DEFERRED, subject, detail, _one_line(text))


def failed(number: int, subject: int, detail: int, text: str) -> Answer:
    return Answer(number, Outcome.FAILED, subject, detail, _one_line(text))


def _one_line(text: str) -> str:
    """``text`` with what is not printable (line ends, bytes that were no UTF-8) written as escapes, and of an end.

    It holds recipients as a sender or a hostile worker wrote them, and goes into logs and bounces.
    """
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:ANSWER_CHARACTERS])
    return text[:ANSWER_CHARACTERS]


Item = TypeVar("Item", bound=Job | WriteJob | ReadJob | RunJob | Answer)


class _Packet(Struct, Generic[Item], frozen=True, array_like=True):
    schema: int
    items: list[Item]


_encode = msgspec.msgpack.Encoder().encode


class Outbox:
    """Items that wait for room in a socket's buffer, packed as many to a packet as go in. Owns its descriptors."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: collections.deque[tuple[bytes, int]] = collections.deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, item: Job | WriterJob | Answer, fd: int = -1) -> None:
        """Queue an item; ``fd`` is its content (-1: none) and is the outbox's to close from now on."""
        self._waiting.append((_encode(item), fd))

    def flush(self, sock: socket.socket) -> bool:
        """Send what the socket takes; True when all went out. Never blocks. Raises OSError when the peer is gone."""
        waiting = self._waiting
        while waiting:
            parts: list[bytes] = [b""]
            fds: list[int] = []
            size = 0
            for data, fd in waiting:
                size += len(data)
                if len(parts) > 1 and (size > PACKET_BYTES or len(parts) > PACKET_ITEMS or len(fds) == PACKET_FDS):
                    break
                parts.append(data)
                if fd >= 0:
                    fds.append(fd)
            count = len(parts) - 1
            # msgpack by hand: an array of two, the schema's number, and an array32 of what is encoded already.
            parts[0] = struct.pack(">BBBI", 0x92, SCHEMA, 0xDD, count)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sock.sendmsg(parts, rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            for _ in range(count):
                waiting.popleft()
            for fd in fds:
                os.close(fd)
        return True

    def clear(self) -> None:
        """Forget what waits and close its descriptors."""
        for _, fd in self._waiting:
            if fd >= 0:
                os.close(fd)
        self._waiting.clear()


class Inbox(Generic[Item]):
    """Reads the packets of one kind of item from a non-blocking socket."""

    __slots__ = ("_buffer", "_decoder", "_view")

    def __init__(self, kind: type[Item] | UnionType) -> None:
        self._decoder: msgspec.msgpack.Decoder[_Packet[Item]] = msgspec.msgpack.Decoder(_Packet[kind])  # type: ignore[valid-type]
        self._buffer = bytearray(PACKET_BYTES + INLINE_BYTES + 4096)
        self._view = memoryview(self._buffer)

    def receive(self, sock: socket.socket) -> tuple[list[Item], list[int]] | None:
        """The items of the next packet and its descriptors (the caller's to close); None when the peer is gone.

        Raises BlockingIOError when nothing is there, PacketTrouble when the peer does not keep to the schema.
        """
        try:
            size, rights, flags, _ = sock.recvmsg_into(
                [self._buffer], socket.CMSG_SPACE(PACKET_FDS * 4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return None
        fds = array.array("i")
        for level, kind, packed in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(packed[: len(packed) - len(packed) % fds.itemsize])
        try:
            if size == 0:
                close_all(fds)
                return None
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise PacketTrouble("a packet was cut off")
            packet = self._decoder.decode(self._view[:size])
            if packet.schema != SCHEMA:
                raise PacketTrouble(f"schema {packet.schema}, expected {SCHEMA}")
            if len(fds) != sum(1 for item in packet.items if item.content is None):
                raise PacketTrouble("descriptors and contents do not match")
        except PacketTrouble:
            close_all(fds)
            raise
        except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
            close_all(fds)
            raise PacketTrouble(str(error)) from error
        return packet.items, fds.tolist()


def close_all(fds: array.array[int] | list[int]) -> None:
    for fd in fds:
        os.close(fd)


def content_of(answer: Answer, fds: Iterator[int]) -> Answer:
    """The answer with its content in memory; the next of ``fds`` is read and closed if it lies there."""
    if answer.content is not None:
        return answer
    fd = next(fds)
    try:
        size = min(os.fstat(fd).st_size, CONTENT_BYTES)
        data = bytearray()
        while len(data) < size and (piece := os.pread(fd, size - len(data), len(data))):
            data += piece
    finally:
        os.close(fd)
    return Answer(answer.id, answer.outcome, answer.subject, answer.detail, answer.text, bytes(data))


def put_answer(outbox: Outbox, answer: Answer) -> None:
    """Queue an answer, its content in a file in memory when it is long. Raises OSError."""
    if answer.content is None or len(answer.content) <= INLINE_BYTES:
        outbox.put(answer)
        return
    fd = os.memfd_create("answer", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(answer.content)
    except OSError:
        os.close(fd)
        raise
    outbox.put(Answer(answer.id, answer.outcome, answer.subject, answer.detail, answer.text, None), fd)
