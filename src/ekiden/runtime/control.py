"""What the supervisor and its children say to each other, over one SOCK_SEQPACKET socket pair a child.

One packet is one message (msgpack, tagged); file descriptors travel beside it (SCM_RIGHTS, unix(7)). Both ends come
from one program started once, so messages carry no version.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

import msgspec
from msgspec import Struct

# Far above any message here and below the default socket buffer of Linux (net.core.wmem_default, 212992).
MESSAGE_BYTES = 65_536
# The kernel's own bound on descriptors in one packet (SCM_MAX_FD).
MESSAGE_FDS = 253


class ControlTrouble(Exception):
    """A packet that is not one of our messages; the other side is not the program we think it is."""


class Message(Struct, frozen=True):
    """Anything said over a control socket."""


class AddPeer(Message, frozen=True, tag="add-peer"):
    """Carries one descriptor, a SOCK_SEQPACKET socket to another child.

    To the deliverer: a worker's socket (``role`` "worker-0"); to a worker: the socket to the "deliverer", at
    the start and again in place of one that is dead.
    """

    role: str


class ListenerKey(Struct, frozen=True, order=True):
    """Which listening socket: the service's ``name/type`` of master.cf, and the address it is bound to."""

    service: str  # "smtp/inet", "127.0.0.1:2525/inet"
    address: str  # "0.0.0.0", "::", a path for a unix socket
    port: int = 0

    def __str__(self) -> str:
        if self.port == 0:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class AddListeners(Message, frozen=True, tag="add-listeners"):
    """Carries one listening socket for each of ``listeners``, in their order. Follows a Reload."""

    listeners: tuple[ListenerKey, ...]


class RemoveListeners(Message, frozen=True, tag="remove-listeners"):
    """Stop accepting on these and close them; sessions that run go on."""

    listeners: tuple[ListenerKey, ...]


class Reload(Message, frozen=True, tag="reload"):
    """Reread the configuration directory (the supervisor has found it good); new sessions use it."""


class KeysChanged(Message, frozen=True, tag="keys-changed"):
    """Carries one descriptor: what the files of keys and certificates hold now (runtime.key_vault).

    ``reloading``: a Reload comes next, and it is for the configuration that comes with that.
    """

    reloading: bool = False


class Stop(Message, frozen=True, tag="stop"):
    """Accept nothing new, finish what is in flight, and exit with 0 within ``timeout_s`` seconds."""

    timeout_s: float


class Ready(Message, frozen=True, tag="ready"):
    """From a child: it serves."""


class Failed(Message, frozen=True, tag="failed"):
    """From a child: it cannot start, and exits now; ``text`` says why in one line."""

    text: str


AnyMessage = AddPeer | AddListeners | RemoveListeners | Reload | KeysChanged | Stop | Ready | Failed

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def pair() -> tuple[socket.socket, socket.socket]:
    """A fresh pair of control sockets, blocking and not inheritable over exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, message: AnyMessage, fds: Sequence[int] = ()) -> None:
    """Send a message and, beside it, duplicates of ``fds``; the caller keeps (and closes) its own.

    Never blocks: a full buffer is BlockingIOError, a dead peer BrokenPipeError (or another OSError).
    """
    data = _encoder.encode(message)
    if len(data) > MESSAGE_BYTES or len(fds) > MESSAGE_FDS:
        raise ValueError(f"control message too large: {len(data)} bytes, {len(fds)} descriptors")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[AnyMessage, list[int]] | None:
    """The next message and its descriptors (now the caller's to close), or None when the other side is gone.

    Blocks as ``sock`` does: on a non-blocking socket BlockingIOError means that nothing is there yet.
    Raises ControlTrouble.
    """
    fds = array.array("i")
    room = socket.CMSG_SPACE(MESSAGE_FDS * fds.itemsize)
    try:
        data, rights, flags, _ = sock.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # It ended without having read all that we sent. The kernel says so once; then come its own last messages.
        data, rights, flags, _ = sock.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, packed in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(packed[: len(packed) - len(packed) % fds.itemsize])
    if not data:
        close_all(fds)
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(fds)
        raise ControlTrouble("a control message was cut off")
    try:
        return _decoder.decode(data), list(fds)
    except msgspec.DecodeError as error:
        close_all(fds)
        raise ControlTrouble(f"not a control message: {error}") from error


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
