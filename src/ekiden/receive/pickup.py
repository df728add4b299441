"""Takes messages out of the maildrop into the queue (pickup(8)): when somebody knocks, at start, and now and then."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ekiden.cleanup.header_scan import HeaderScan
from ekiden.cleanup.missing_fields import missing_fields
from ekiden.cleanup.qualify import qualify
from ekiden.cleanup.received import received_field
from ekiden.cleanup.virtual_alias import AliasLoop
from ekiden.config.errors import ConfigError
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import BodyType, Client, Envelope, Notify, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.observe.events import MessageId, Note, PickedUp
from ekiden.policy.user_access import refused_user
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.queue.store import ContentWriter, StoreTrouble
from ekiden.receive.maildrop import FOLDER, KNOCK_SOCKET, Drop, DropError, read_envelope
from ekiden.receive.service import SmtpService
from ekiden.tables.table import TableTrouble

_READ_BYTES = 65536
_DROP_NAME = re.compile(r"[0-9a-f]{32}\Z")


class Pickup:
    """One a server: worker 0 has it."""

    def __init__(self, service: SmtpService, queue_directory: Path) -> None:
        self.service = service
        self._queue_directory = queue_directory
        self._knocked = asyncio.Event()
        self._socket: socket.socket | None = None

    def listen(self) -> None:
        """Open the socket that the sendmail command knocks at."""
        path = self._queue_directory / KNOCK_SOCKET
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listening.bind(str(path))
        path.chmod(0o666)
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening.fileno(), self._on_knock)

    def _on_knock(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(16):
                pass
        except BlockingIOError:
            pass
        self._knocked.set()

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._knocked.clear()
            await self.scan()
            try:
                async with asyncio.timeout(self.service.parameters.maildrop_scan_interval):
                    await self._knocked.wait()
            except TimeoutError:
                pass

    async def scan(self) -> int:
        """Take in everything that lies there; returns how many messages. What cannot be taken now stays for later."""
        folder = self._queue_directory / FOLDER
        taken = 0
        for name in sorted(os.listdir(folder)):
            if _DROP_NAME.match(name) is None:
                continue
            try:
                taken += await self._take(folder / name)
            except (StoreTrouble, TableTrouble, ConfigError, AliasLoop, OSError) as trouble:
                self._note(f"{name}: {trouble}; it stays in the maildrop", "warning")
        return taken

    async def _take(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            try:
                # A hard link to somebody else's file, or a device, is not a drop.
                if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                    raise DropError("it is not a plain file of one name")
                await self._queue(read_envelope(file), file, facts.st_uid)
            except DropError as error:
                broken = path.with_name(f"broken-{path.name}")
                path.rename(broken)
                self._note(f"{path.name}: {error}; kept as {broken.name}", "error")
                return False
        # Gone only now that the queue holds it durably; a crash in between delivers it twice, never not at all.
        path.unlink()
        return True

    async def _queue(self, drop: Drop, file: BinaryIO, uid: int) -> None:
        service, parameters = self.service, self.service.parameters
        myorigin = parameters.myorigin
        if (refused := await refused_user(parameters.authorized_submit_users, uid)) is not None:
            raise DropError(f"User {refused}({uid}) is not allowed to submit mail")
        user, full_name = _user(uid)
        sender = self._address(user if drop.sender is None else drop.sender, myorigin, null_allowed=True)
        recipients = tuple(Recipient(self._address(text, myorigin)) for text in drop.recipients)
        if drop.notify is not None:
            recipients = tuple(Recipient(each.address, notify=Notify(drop.notify)) for each in recipients)
        if not recipients:
            raise DropError("it has no recipients")
        queue_id, now = service.new_queue_id(), service.clock.time()
        service.observer.emit(PickedUp(queue_id, uid, str(sender)))
        client = Client(name="localhost", address="127.0.0.1", protocol="local", port=uid)
        scan = HeaderScan(parameters.header_block_limit)
        writer = service.content_writer(queue_id)
        try:
            writer.write(
                received_field(
                    client=client,
                    queue_id=queue_id,
                    recipients=recipients,
                    hostname=parameters.myhostname,
                    mail_name=parameters.mail_name,
                    at=now,
                )
            )
            await self._copy(file, scan, writer, sender, drop.full_name or full_name, queue_id, now)
            if scan.too_long or scan.hops > parameters.hopcount_limit:
                raise DropError("its header is too long, or it has been through too many hosts")
            if service.aliases is not None:
                recipients = await service.aliases.expand(recipients)
            content = await writer.finish()
            message = QueuedMessage(
                queue_id=queue_id,
                envelope=Envelope(
                    sender, recipients, BodyType.EIGHT_BIT_MIME if drop.body_8bit else BodyType.SEVEN_BIT, client
                ),
                content=content,
                arrived=now,
                pending=tuple(Pending(recipient) for recipient in recipients),
                message_id=scan.message_id or f"<{queue_id}@{parameters.myhostname}>",
            )
            service.observer.emit(MessageId(queue_id, message.message_id))
            await service.intake(message)
        except (DropError, StoreTrouble, TableTrouble, AliasLoop):
            await writer.discard()
            raise

    async def _copy(
        self,
        file: BinaryIO,
        scan: HeaderScan,
        writer: ContentWriter,
        sender: Address,
        full_name: str,
        queue_id: str,
        now: float,
    ) -> None:
        """The content in wire form, with the fields that a local user may leave to the server."""
        parameters = self.service.parameters
        size, completed = 0, False

        def added() -> bytes:
            return missing_fields(
                scan, sender=sender, full_name=full_name, queue_id=queue_id, hostname=parameters.myhostname, at=now
            )

        for part in _wire_form(file):
            size += len(part)
            if parameters.message_size_limit and size > parameters.message_size_limit:
                raise DropError("it is larger than message_size_limit")
            ready = scan.feed(part)
            if scan.complete and not completed:
                completed = True
                ready = added() + ready
            if writer.write(ready):
                await writer.drain()
        if not completed:
            rest = scan.finish()
            writer.write(added() + rest)

    def _address(self, text: str, myorigin: str, *, null_allowed: bool = False) -> Address:
        text = text.strip()
        if text in ("", "<>"):
            if null_allowed:
                return NULL_SENDER
            raise DropError("it has an empty recipient")
        address = parse_mailbox(text, lenient=True)
        if address is None:
            raise DropError(f"bad address syntax: {text!r}")
        return qualify(address, myorigin)

    def _note(self, text: str, level: str) -> None:
        self.service.observer.emit(Note("pickup", text, level))


def _user(uid: int) -> tuple[str, str]:
    """The login name and full name of a user; one that the system does not know is named by number."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return f"uid{uid}", ""
    full_name = entry.pw_gecos.partition(",")[0]
    return entry.pw_name, full_name.replace("&", entry.pw_name.capitalize())


def _wire_form(file: BinaryIO) -> Iterator[bytes]:
    """The rest of ``file`` with every line ended by CRLF, the last one too; a lone CR becomes a line end."""
    carry, last = b"", b"\r\n"
    while part := file.read(_READ_BYTES):
        part = carry + part
        carry = b"\r" if part.endswith(b"\r") else b""
        part = part.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        if part:
            last = part[-2:]
            yield part
    if carry or last != b"\r\n":
        yield b"\r\n"
