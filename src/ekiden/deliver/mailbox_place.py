"""Whose mailbox a job is for and where it lies: what the deliverer decides by itself, whatever a worker says.

In:   a Job's transport and recipient, the deliverer's own parameters, its tables and the account database.
Out:  a Place (user, group, path), or the Answer that refuses the job.
Never: opens or creates a mailbox; that is the writer's work, as the mailbox's user.

The deliverer has no event loop. Tables that answer without waiting are asked here; the others are AskedTables, at which
a coroutine of this module suspends with a Question for its driver (tables.questions).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.deliver.account import Account, AccountTrouble, account_of, find_account
from ekiden.deliver.mailbox_jobs import Answer, Form, Job, deferred, failed
from ekiden.message.address import Address
from ekiden.tables.address import split_extension, variants
from ekiden.tables.table import TableTrouble

# Names that every host must take mail for (RFC 5321 §4.5.1; mailer-daemon is where bounces seem to come from).
ALWAYS_DELIVERABLE = frozenset(("postmaster", "mailer-daemon"))


# Places found are remembered for as long as a texthash table does not look at its file, and so change no later.
_REMEMBER_S = 1.0
_REMEMBERED = 4096


class Lookup(Protocol):
    """What is needed of ekiden.tables.open.Maps."""

    def lookup(self, key: str) -> Coroutine[Any, Any, str | None]: ...


class Owner(Struct, frozen=True):
    """The user and group that a writer runs as. ``commands``: it may run programs that gain privileges (sudo, sgid)."""

    uid: int
    gid: int
    commands: bool = False


class Place(Struct, frozen=True):
    owner: Owner
    form: Form
    base: str
    path: str
    guarded: bool
    locks: tuple[str, ...]
    limit_bytes: int


class UserPlace(Struct, frozen=True):
    """A user of this host. ``mailbox`` is None when ``command`` takes the mail."""

    account: Account
    name: str  # the user as the recipient names it: without extension, in lower case
    extension: str  # with its delimiter, or empty
    mailbox: Place | None
    command: str = ""


class VirtualTables(Struct, frozen=True):
    """None: the parameter is empty."""

    mailboxes: Lookup | None = None
    uids: Lookup | None = None
    gids: Lookup | None = None


def address_keys(address: str, delimiters: str) -> Iterator[str]:
    """The keys that virtual(8) looks an address up with: user+extension@domain, user@domain, @domain.

    Each in the spellings that an address beyond ASCII has.
    """
    local, at, domain = address.rpartition("@")
    spelled = variants(Address(local, domain))
    yield from (each.local + at + each.domain for each in spelled)
    if split_extension(local, delimiters)[1]:
        yield from (split_extension(each.local, delimiters)[0] + at + each.domain for each in spelled)
    yield from dict.fromkeys(at + each.domain for each in spelled)


class Places:
    """Finds the place of a job, under one configuration.

    ``server`` is who the deliverer runs as; only for uid 0 are other users' mailboxes within reach.
    """

    def __init__(
        self,
        parameters: Parameters,
        tables: VirtualTables,
        server: Owner,
        *,
        commands: Lookup | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parameters = parameters
        self._tables = tables
        self._commands = commands  # mailbox_command_maps
        self._server = server
        self._is_root = server.uid == 0
        self._monotonic = monotonic
        self._known: dict[tuple[bool, bytes], Place | UserPlace] = {}
        self._forget_at = 0.0

    async def find(self, job: Job, number: int) -> Place | Answer:
        """Where the mail of a virtual ``job`` goes; ``number`` is the id of an Answer that refuses it."""
        found = await self._remembered((True, job.recipient), self._virtual, number)
        assert not isinstance(found, UserPlace)
        return found

    async def user(self, job: Job, number: int) -> UserPlace | Answer:
        """The user that a local ``job`` is for; ``number`` as for find()."""
        found = await self._remembered((False, job.recipient), self._local, number)
        assert not isinstance(found, Place)
        return found

    async def _remembered(
        self, key: tuple[bool, bytes], find: Callable[[str, int], Awaitable[Place | UserPlace | Answer]], number: int
    ) -> Place | UserPlace | Answer:
        now = self._monotonic()
        if now >= self._forget_at or len(self._known) >= _REMEMBERED:
            self._known.clear()
            self._forget_at = now + _REMEMBER_S
        found: Place | UserPlace | Answer | None = self._known.get(key)
        if found is None:
            recipient = key[1].decode("utf-8", "surrogateescape")
            try:
                found = await find(recipient, number)
            except TableTrouble as error:
                return deferred(number, 4, 3, f"mailbox lookup failed: {error}")
            except AccountTrouble as error:
                return deferred(number, 3, 0, str(error))
            if not isinstance(found, Answer):
                self._known[key] = found
        return found

    # -- virtual ---------------------------------------------------------------------------------------------------

    async def _virtual(self, address: str, number: int) -> Place | Answer:
        parameters = self._parameters
        address = address.lower()
        mailbox = await self._of_address(self._tables.mailboxes, address)
        if mailbox is None:
            return failed(number, 1, 1, f'unknown user: "{address}"')
        owner = await self._virtual_owner(address)
        if isinstance(owner, str):
            return deferred(number, 3, 5, f"mail system configuration error: {owner}")
        base = parameters.virtual_mailbox_base or "/"
        if not base.startswith("/") or not _can_be_named(base):
            return deferred(number, 3, 5, "mail system configuration error: virtual_mailbox_base must be a full path")
        path = inner_path(mailbox)
        if path is None:
            problem = f"virtual_mailbox_maps gives {address} a mailbox outside of virtual_mailbox_base"
            return deferred(number, 3, 5, f"mail system configuration error: {problem}")
        return Place(
            owner=owner,
            form=Form.MAILDIR if mailbox.endswith("/") else Form.MBOX,
            base=base,
            path=path,
            guarded=True,
            locks=parameters.virtual_mailbox_lock,
            limit_bytes=parameters.virtual_mailbox_limit,
        )

    async def _of_address(self, table: Lookup | None, address: str) -> str | None:
        if table is None:
            return None
        for key in address_keys(address, self._parameters.recipient_delimiter):
            value = await table.lookup(key)
            if value is not None:
                return value
        return None

    async def _virtual_owner(self, address: str) -> Owner | str:
        """The user and group of a virtual mailbox, or what is wrong with the configuration."""
        minimum = self._parameters.virtual_minimum_uid
        if not self._is_root:
            # An ordinary user's server can be nobody else; tables that say otherwise are not silently overruled.
            if self._tables.uids is None:
                return self._server
            uid = _number(await self._of_address(self._tables.uids, address))
            if uid != self._server.uid:
                return f"virtual_uid_maps for {address}: the server does not run as root, so only {self._server.uid}"
            return self._server
        uid = _number(await self._of_address(self._tables.uids, address))
        if uid is None or uid < minimum:
            return f"virtual_uid_maps gives no user number of at least {minimum} for {address}"
        gid = _number(await self._of_address(self._tables.gids, address))
        if gid is None or gid <= 0:
            return f"virtual_gid_maps gives no group number above 0 for {address}"
        return Owner(uid, gid)

    # -- local -----------------------------------------------------------------------------------------------------

    async def _local(self, name: str, number: int) -> UserPlace | Answer:
        account = self._account(name)
        if account is None:
            return failed(number, 1, 1, f'unknown user: "{name}"')
        if not self._is_root and account.uid != self._server.uid:
            return deferred(
                number, 2, 0, f"cannot write the mailbox of {account.name}: the server does not run as root"
            )
        parameters = self._parameters
        user, extension = self._split(name.lower())
        if "/" in extension:  # it could lead out of a directory; what cannot be a part of a path is none
            extension = ""
        command = await self._commands.lookup(user) if self._commands is not None else None
        command = command or parameters.mailbox_command
        if command:
            return UserPlace(account, user, extension, None, command)
        owner = Owner(account.uid, account.gid)
        if parameters.home_mailbox:
            base, mailbox = account.home, parameters.home_mailbox
        else:
            base, mailbox = parameters.mail_spool_directory, account.name
            if base.endswith("/") and base != "/":  # a spool of Maildirs
                mailbox += "/"
            owner = Owner(account.uid, _spool_group(base, account.gid))
        if not self._is_root:
            owner = self._server
        path = inner_path(mailbox)
        if (
            path is None
            or not base.startswith("/")
            or not _can_be_named(base)
            or (not parameters.home_mailbox and "/" in account.name)
        ):
            return deferred(number, 3, 5, f"mail system configuration error: no usable mailbox path for {account.name}")
        place = Place(
            owner=owner,
            form=Form.MAILDIR if mailbox.endswith("/") else Form.MBOX,
            base=base,
            path=path,
            guarded=False,  # whatever a user's links lead to, the writer can do there only what the user can
            locks=parameters.mailbox_delivery_lock,
            limit_bytes=parameters.mailbox_size_limit,
        )
        return UserPlace(account, user, extension, place)

    def _split(self, name: str) -> tuple[str, str]:
        parameters = self._parameters
        return split_extension(name, parameters.recipient_delimiter, owner_special=parameters.owner_request_special)

    def _account(self, name: str) -> Account | None:
        """The account that a local part names: as written, in lower case, without extension."""
        user, _ = self._split(name)
        for candidate in dict.fromkeys((name, name.lower(), user, user.lower())):
            if (account := find_account(candidate)) is not None:
                return account
        if user.lower() in ALWAYS_DELIVERABLE:
            return account_of(self._server.uid)
        return None


def inner_path(text: str) -> str | None:
    """``text`` as a path that stays below the directory it is joined to; None when it would not, or is empty.

    A leading slash is no matter: Postfix joins the two with one, so "/a" means the same as "a".
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or not _can_be_named(text):
        return None
    return "/".join(parts)


def _can_be_named(path: str) -> bool:
    """Jobs carry paths as UTF-8; a table in another encoding gives none that can be used."""
    try:
        return b"\0" not in path.encode()
    except UnicodeEncodeError:
        return False


def _number(text: str | None) -> int | None:
    """A user or group number; 32 bits, of which the last value means "no change" to setuid(2)."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    number = int(text)
    return number if number < 0xFFFF_FFFF else None


def _spool_group(directory: str, gid: int) -> int:
    """The group to write a spool file as: where the spool is writable for its group, that one (Debian: mail)."""
    try:
        status = os.stat(directory)
    except OSError:
        return gid
    if status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_IWOTH:
        return status.st_gid
    return gid
