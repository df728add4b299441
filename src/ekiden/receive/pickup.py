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

from ekiden.cleanup.cleanup import Arrival
from ekiden.cleanup.header_scan import HeaderScan, message_id
from ekiden.cleanup.received import received_field
from ekiden.cleanup.smtputf8 import detects_smtputf8, needs_smtputf8
from ekiden.config.errors import ConfigError
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import BodyType, Client, Envelope, Notify, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.reply import Refusal
from ekiden.observe.events import MessageId, Note, PickedUp
from ekiden.policy.conclusion import NOTHING_FOUND
from ekiden.policy.signing import Signing
from ekiden.policy.user_access import refused_user
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.queue.store import ContentWriter, StoreTrouble
from ekiden.receive.maildrop import FOLDER, KNOCK_SOCKET, Drop, DropError, read_envelope
from ekiden.receive.service import SmtpService

_READ_BYTES = 65536
_DROP_NAME = re.compile(r"[0-9a-f]{32}\Z")


class NotNow(Exception):
    """Cleanup cannot take the message at the moment."""


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
            except (StoreTrouble, NotNow, ConfigError, OSError) as trouble:
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
        if (refused := await refused_user(parameters.authorized_submit_users, uid)) is not None:
            raise DropError(f"User {refused}({uid}) is not allowed to submit mail")
        user, full_name = _user(uid)
        sender = _address(user if drop.sender is None else drop.sender)
        recipients = tuple(Recipient(_address(text)) for text in drop.recipients)
        if drop.notify is not None:
            recipients = tuple(
                Recipient(each.address, notify=Notify(drop.notify) | Notify.GIVEN) for each in recipients
            )
        if not recipients:
            raise DropError("it has no recipients")
        queue_id, now = service.new_queue_id(), service.clock.time()
        service.observer.emit(PickedUp(queue_id, uid, str(service.cleanup.standard(sender))))
        client = Client(name="localhost", address="127.0.0.1", protocol="local", port=uid)
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
            arrival = Arrival(queue_id, sender, now, drop.full_name or full_name)
            signing = None if service.signer is None else service.signer.of_host()
            identity, scan = await self._copy(file, writer, arrival, signing)
            addressed = await service.cleanup.envelope(sender, recipients, service.local_way)
            if isinstance(addressed, Refusal):
                raise _trouble(addressed)
            conclusion = NOTHING_FOUND if signing is None else await signing.conclude()
            for warning in conclusion.warnings:
                self._note(f"{queue_id}: {warning}", "warning")
            if conclusion.decision.refusal is not None:
                raise _trouble(conclusion.decision.refusal)
            content = await writer.finish(conclusion.head)
            message = QueuedMessage(
                queue_id=queue_id,
                envelope=Envelope(
                    addressed.sender,
                    addressed.recipients,
                    BodyType.EIGHT_BIT_MIME if drop.body_8bit else BodyType.SEVEN_BIT,
                    client,
                    smtputf8=detects_smtputf8(parameters, "sendmail") and needs_smtputf8(addressed, scan.header),
                    ret=drop.ret,
                    envid=drop.envid,
                    tls_optional=scan.tls_is_optional and parameters.tls_required_enable,
                ),
                content=content,
                arrived=now,
                pending=tuple(Pending(recipient) for recipient in addressed.recipients),
                message_id=identity,
                content_filter=parameters.content_filter,
            )
            service.observer.emit(MessageId(queue_id, message.message_id))
            await service.intake(message)
        except (DropError, StoreTrouble, NotNow):
            await writer.discard()
            raise

    async def _copy(
        self, file: BinaryIO, writer: ContentWriter, arrival: Arrival, signing: Signing | None
    ) -> tuple[str, HeaderScan]:
        """The content in wire form, its header as cleanup wants it; its Message-ID, and the header as it came."""
        service, parameters = self.service, self.service.parameters
        rules = service.cleanup.characters if service.local_way.checks else None
        scan = HeaderScan(parameters.header_block_limit)
        size, identity = 0, ""
        for part in _wire_form(file):
            size += len(part)
            if parameters.message_size_limit and size > parameters.message_size_limit:
                raise DropError("it is larger than message_size_limit")
            if rules is not None:
                if rules.rejects(part):
                    raise DropError("it holds a character of message_reject_characters")
                part = rules.strip(part)
            opens = not scan.complete
            if opens:
                part = scan.feed(part)
                if scan.complete:
                    identity = await self._take_header(scan, writer, arrival, signing)
            if signing is not None and scan.complete:
                signing.feed(part[2:] if opens else part)  # the empty line is of neither
            if writer.write(part):
                await writer.drain()
        if not scan.complete:
            rest = scan.finish()
            identity = await self._take_header(scan, writer, arrival, signing)
            if signing is not None:
                signing.feed(rest[2:])
            writer.write(rest)
        return identity, scan

    async def _take_header(
        self, scan: HeaderScan, writer: ContentWriter, arrival: Arrival, signing: Signing | None
    ) -> str:
        service = self.service
        if scan.too_long or scan.hops > service.parameters.hopcount_limit:
            raise DropError("its header is too long, or it has been through too many hosts")
        header = await service.cleanup.header(scan.header, arrival, service.local_way, has_end=scan.has_end)
        if isinstance(header, Refusal):
            raise _trouble(header)
        if signing is not None:
            signing.take_header(scan.header, header)
        writer.write(header)
        return scan.message_id if header is scan.header else message_id(header)

    def _note(self, text: str, level: str) -> None:
        self.service.observer.emit(Note("pickup", text, level))


def _address(text: str) -> Address:
    """An address as the user wrote it; cleanup completes it."""
    text = text.strip()
    if text in ("", "<>"):
        return NULL_SENDER
    address = parse_mailbox(text, lenient=True, utf8=True)
    if address is None:
        raise DropError(f"bad address syntax: {text!r}")
    return address


def _trouble(refusal: Refusal) -> Exception:
    text = f"{refusal.reply.text} ({refusal.detail})" if refusal.detail else refusal.reply.text
    return NotNow(text) if refusal.reply.code < 500 else DropError(text)


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
