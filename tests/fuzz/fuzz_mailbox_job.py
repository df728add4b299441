"""Any packet of a worker is jobs or PacketTrouble; any recipient a place below its base or an answer in one line."""

from __future__ import annotations

import os
import socket

import msgspec

from ekiden.config.snapshot import Parameters
from ekiden.deliver.mailbox_jobs import SCHEMA, Answer, Form, Inbox, Job, Outbox, PacketTrouble, Transport, WriteJob
from ekiden.deliver.mailbox_place import Owner, Place, UserPlace
from ekiden.runtime.deliverer import open_places
from support.table_lookups import finished

_PLACES = open_places(
    Parameters(
        {
            "virtual_mailbox_base": "/var/vmail",
            "virtual_mailbox_maps": "inline:{a@x.example=a/, b@x.example=../b, c@x.example=/c}",
            "virtual_uid_maps": "static:5000",
            "virtual_gid_maps": "static:5000",
            "recipient_delimiter": "+-",
        }
    ),
    Owner(0, 0),
)


def _packet(*recipients: bytes) -> bytes:
    jobs = [
        Job(at, list(Transport)[at % 2], name, b"s", b"H: x\n", b"A: b\r\n\r\n", 8)
        for at, name in enumerate(recipients)
    ]
    return msgspec.msgpack.encode((SCHEMA, jobs))


SEEDS = [
    _packet(b"a@x.example", b"root", b"b@x.example", b"nobody+x", b"c@x.example"),
    _packet(b"\xff\xfe", b"\xff\xfe", b"../../etc", b"..", b"\0", b"\0", b"a\nb", b"a\nb"),
    msgspec.msgpack.encode((SCHEMA, [[1, "virtual", b"a", b"", b"", None, 5]])),
]


def one_input(data: bytes) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        here.send(data or b"\0")
        try:
            packet = Inbox(Job).receive(there)
        except PacketTrouble:
            return
    assert packet is not None
    jobs, fds = packet
    assert fds == []
    for job in jobs:
        outbox = Outbox()
        found: Place | Answer
        if job.transport is Transport.VIRTUAL:
            found = finished(_PLACES.find(job, 1))
        else:
            user = finished(_PLACES.user(job, 1))
            found = user if isinstance(user, Answer) or user.mailbox is None else user.mailbox  # type: ignore[assignment]
            assert not isinstance(found, UserPlace)  # there is no mailbox_command
        if isinstance(found, Answer):
            assert found.text.isprintable()
            outbox.put(found)  # it can be said
        else:
            assert found.form in Form
            joined = os.path.normpath(os.path.join(found.base, found.path))
            assert joined.startswith(found.base.rstrip("/") + "/")
            outbox.put(
                WriteJob(
                    1, found.form, found.base, found.path, found.guarded, found.locks, found.limit_bytes,
                    job.sender, job.head, job.content, job.size,
                )
            )  # fmt: skip
