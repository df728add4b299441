"""A host with accounts of its own for tests of local delivery: homes, a spool, aliases, and a real deliverer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import Struct

from ekiden.deliver import account, local_delivery, mailbox_place, pipe_delivery
from ekiden.deliver.account import Account
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import Answer, Facts, Left, Transport, decode_left
from ekiden.deliver.targets import unpack_targets
from ekiden.message.content import Content, InlineContent
from support.deliverer_process import running_deliverer, with_channel

CONTENT = InlineContent(b"Subject: hi\r\n\r\nHello\r\n.dot\r\nFrom here\r\n")
AS_ROOT = os.geteuid() == 0
# As root the users are nobody's else; an ordinary user's server delivers to that user alone, who is all of them.
_FIRST_UID = 61001


class Told(Struct, frozen=True):
    """How a delivery ended: the status and text, where the mail shall go on to, what else the answer says."""

    status: str
    text: str
    addresses: tuple[str, ...] = ()
    left: Left = Left()


class LocalHost:
    """``path`` is reachable for every user; bob, eve and anybody are accounts with homes, root has one, too."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.spool = path / "spool"
        self.spool.mkdir()
        self.spool.chmod(0o1777)
        self.out = path / "out"
        self.out.mkdir()
        self.out.chmod(0o1777)
        self.accounts: dict[str, Account] = {}
        for at, name in enumerate(("bob", "eve", "anybody")):
            uid = _FIRST_UID + at if AS_ROOT else os.geteuid()
            home = path / name
            home.mkdir(mode=0o755)
            if AS_ROOT:
                os.chown(home, uid, uid)
            self.accounts[name] = Account(name, uid, uid if AS_ROOT else os.getegid(), str(home), "/bin/sh")
        if AS_ROOT:
            (path / "root").mkdir(mode=0o755)
            self.accounts["root"] = Account("root", 0, 0, str(path / "root"), "/bin/sh")
        for module in (mailbox_place, local_delivery, pipe_delivery):
            monkeypatch.setattr(module, "find_account", self.accounts.get)
        for module in (account, mailbox_place, local_delivery):
            monkeypatch.setattr(module, "account_of", self._account_of)
        self.settings = {
            "mail_spool_directory": str(self.spool),
            "alias_maps": f"texthash:{path}/aliases",
            "recipient_delimiter": "+",
            "default_privs": "anybody",
            "myhostname": "here.test",
            "mydestination": "here.test",
        }
        self.master_cf = ""
        self.aliases("")

    def _account_of(self, uid: int) -> Account | None:
        return next((account for account in self.accounts.values() if account.uid == uid), None)

    def aliases(self, text: str, *, owner: str = "") -> None:
        file = self.path / "aliases"
        file.write_text(text)
        if owner and AS_ROOT:
            os.chown(file, self.accounts[owner].uid, -1)

    def file(self, name: str, text: str, *, owner: str = "bob", mode: int = 0o600) -> Path:
        """A file, ``name`` below the host's directory."""
        file = self.path / name
        file.unlink(missing_ok=True)
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        file.chmod(mode)
        if AS_ROOT:
            os.chown(file, self.accounts[owner].uid, self.accounts[owner].gid)
        return file

    def deliver(
        self,
        *names: str,
        transport: Transport = Transport.LOCAL,
        sender: str = "s@y.example",
        content: Content = CONTENT,
        without_mailbox: bool = False,
        done: Sequence[str] = (),
        came_as: str = "",
        client_helo: str = "client.example",
        settings: Mapping[str, str] | None = None,
        **more: str,
    ) -> list[Told]:
        """Deliver to names of this host, under ``settings`` and ``more`` beside those that every test has.

        ``came_as``: the local part of the recipient that led to the names, if it is another.
        """
        with running_deliverer({**self.settings, **(settings or {}), **more}, master_cf=self.master_cf) as process:

            async def use(channel: MailboxChannel) -> list[Answer]:
                return list(await asyncio.gather(*(ask(channel, name) for name in names)))

            def ask(channel: MailboxChannel, name: str) -> asyncio.Future[Answer]:
                address = f"{came_as or name}@Here.test".encode("utf-8", "surrogateescape")
                facts = Facts(
                    "Q1", address, address, address, "client.example", "192.0.2.1", client_helo, "ESMTP", "25", "Hop",
                    ((address, address),),
                )  # fmt: skip
                return channel.submit(
                    transport, name.encode("utf-8", "surrogateescape"), sender.encode(), b"Return-Path: <s>\n",
                    content, facts=facts, without_mailbox=without_mailbox, done=tuple(done),
                )  # fmt: skip

            return [_told(answer) for answer in with_channel(process, use)]

    def pipe(self, service: str, *recipients: str, sender: str = "s@y.example", **settings: str) -> Told:
        """Hand one message to a pipe service of ``master_cf``."""
        pairs = tuple((recipient.encode(), recipient.encode()) for recipient in recipients)
        first, original = pairs[0]
        facts = Facts("Q1", first, original, b"", "c.example", "192.0.2.1", "helo", "ESMTP", "25", "Hop", pairs)
        with running_deliverer({**self.settings, **settings}, master_cf=self.master_cf) as process:

            async def use(channel: MailboxChannel) -> Answer:
                return await channel.submit(
                    Transport.PIPE, service.encode(), sender.encode(), b"", CONTENT, facts=facts
                )

            return _told(with_channel(process, use))

    def mailbox(self, name: str) -> bytes:
        file = self.spool / name
        return file.read_bytes() if file.exists() else b""

    def output(self, name: str = "out") -> str:
        file = self.out / name
        return file.read_text() if file.exists() else ""

    def who(self, name: str) -> str:
        """The name of the owner of a file in out/."""
        owner = self._account_of((self.out / name).stat().st_uid)
        return owner.name if owner is not None else ""


def _told(answer: Answer) -> Told:
    left = decode_left(answer.content) if answer.content else Left()
    addresses = tuple(target.text for target in unpack_targets(left.addresses))
    return Told(f"{answer.outcome.value}.{answer.subject}.{answer.detail}", answer.text, addresses, left)
