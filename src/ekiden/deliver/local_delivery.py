"""How the deliverer serves a local job, step by step: .forward, the mailbox or its command, the targets of an alias.

In:   a Job; the deliverer's own parameters, aliases and accounts.
Out:  one Step after the other, for the driver to have done as the owner it names, and at last the Answer.
Never: opens a file of a user's; believes a worker about a path, a user or a command.

A delivery is a generator: it yields a Step and is sent the Answer of the writer, or yields a Question to a table and is
sent the reply. Only one of these is under way at a time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ekiden.config.expand import references
from ekiden.config.snapshot import Parameters
from ekiden.deliver.account import Account, AccountTrouble, account_of, find_account
from ekiden.deliver.aliases import Aliases, owner_of_table
from ekiden.deliver.command import command_line, environment
from ekiden.deliver.macros import expand_macros
from ekiden.deliver.mailbox_jobs import (
    Answer,
    Form,
    Job,
    Left,
    Outcome,
    ReadJob,
    RunJob,
    Transport,
    WriteJob,
    WriterJob,
    deferred,
    encode_left,
    failed,
)
from ekiden.deliver.mailbox_place import Owner, Place, Places, UserPlace, inner_path
from ekiden.deliver.targets import (
    FoundTargets,
    MailTo,
    Special,
    SpecialKind,
    Target,
    decode_found,
    pack_targets,
    unpack_targets,
)
from ekiden.message.address import Address
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.tables.address import split_extension
from ekiden.tables.questions import Question
from ekiden.tables.table import TableTrouble

# How deep :include: files may name others.
_INCLUDE_DEPTH = 10


class Step(Struct, frozen=True):
    owner: Owner
    job: WriterJob


# Any: an Answer to a Step, a Reply to a Question.
Delivery = Generator[Step | Question, Any, Answer]


class _Rights(Struct, frozen=True):
    """Who commands and files are served as. ``account`` is None for default_privs."""

    owner: Owner
    account: Account | None


class _Found:
    """What was done, and what is left, of the targets of one recipient."""

    def __init__(self, done: Sequence[str], limit: int) -> None:
        self.addresses: list[Target] = []
        self.done = dict.fromkeys(done)
        self.warnings: list[str] = []
        self.worst: Answer | None = None
        self.last: Answer | None = None
        self.delivered = 0
        self.specials_left = limit

    def take(self, key: str, answer: Answer) -> None:
        if answer.outcome is Outcome.DELIVERED:
            self.done[key] = None
            self.delivered += 1
            self.last = answer
        elif self.worst is None or (self.worst.outcome is Outcome.FAILED and answer.outcome is Outcome.DEFERRED):
            self.worst = answer

    def answer(self, number: int) -> Answer:
        left = Left(pack_targets(self.addresses), False, tuple(self.done), tuple(self.warnings))
        if self.worst is not None:
            answer = self.worst
        elif self.delivered > 1:
            answer = Answer(number, Outcome.DELIVERED, 0, 0, f"delivered to {self.delivered} files and commands")
        else:
            answer = self.last or Answer(number, Outcome.GOES_ON, 0, 0, "")
        return with_left(answer, left)


def with_left(answer: Answer, left: Left) -> Answer:
    return Answer(answer.id, answer.outcome, answer.subject, answer.detail, answer.text, encode_left(left))


class LocalDeliveries:
    """Serves the jobs of local users and of aliases, under one configuration.

    ``server`` is who the deliverer runs as; ``own_environment`` what export_environment chooses from.
    """

    def __init__(
        self,
        parameters: Parameters,
        places: Places,
        aliases: Aliases,
        server: Owner,
        *,
        own_environment: Mapping[str, str] = os.environ,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._parameters = parameters
        self._places = places
        self._aliases = aliases
        self._server = server
        self._is_root = server.uid == 0
        self._own_environment = own_environment
        self._wall_clock = wall_clock
        self._forward_paths = [path for path in parameters.forward_path.replace(",", " ").split() if path]

    def start(self, job: Job, number: int) -> Delivery:
        return self._alias(job, number) if job.transport is Transport.ALIAS else self._user(job, number)

    # -- a user ------------------------------------------------------------------------------------------------------

    def _user(self, job: Job, number: int) -> Delivery:
        user = yield from self._places.user(job, number).__await__()
        if isinstance(user, Answer):
            if user.outcome is not Outcome.FAILED:
                return user
            if job.without_mailbox:
                return with_left(Answer(number, Outcome.GOES_ON, 0, 0, ""), Left(to_mailbox=True))
            return with_left(user, Left(unknown=True))
        files = self._forward_files(job, user) if job.transport is Transport.LOCAL else {}
        paths = tuple(files)
        warnings: tuple[str, ...] = ()
        writes_at_once = not job.without_mailbox and user.mailbox is not None
        if paths or writes_at_once:
            answer: Answer = yield self._mailbox_step(job, number, user, paths, only_look=not writes_at_once)
            if answer.outcome is not Outcome.GOES_ON:
                return answer
            if answer.content:
                found = _decoded(answer.content)
                if found is None:
                    return deferred(number, 3, 0, "the .forward file could not be read")
                warnings = tuple(found.warnings)
                if found.path and found.targets:
                    extension = "" if files.get(found.path) else self._extension_of(job)
                    return (yield from self._forward(job, number, user, found, extension))
                if writes_at_once:
                    answer = yield self._mailbox_step(job, number, user, (), only_look=False)
                    return _warned(answer, warnings)
        if job.without_mailbox:
            return with_left(Answer(number, Outcome.GOES_ON, 0, 0, ""), Left(to_mailbox=True, warnings=warnings))
        rights = self._rights_of(user.account)
        if isinstance(rights, str):
            return deferred(number, 3, 5, f"mail system configuration error: {rights}")
        run = self._run_job(job, number, user.command, rights, mailbox_of=user)
        answer = run if isinstance(run, Answer) else (yield Step(_commander(rights), run))
        return _warned(answer, warnings)

    def _mailbox_step(self, job: Job, number: int, user: UserPlace, paths: tuple[str, ...], *, only_look: bool) -> Step:
        place = user.mailbox
        home = user.account.home if self._parameters.require_home_directory else ""
        if place is None or only_look:
            owner = place.owner if place is not None else self._reader(user.account)
            write = WriteJob(
                number, Form.NONE, "/", "", False, (), 0, job.sender, b"", b"", 0, forward=paths, home=home
            )
            return Step(owner, write)
        return Step(place.owner, self._write_job(job, number, place, paths, home))

    def _write_job(self, job: Job, number: int, place: Place, paths: tuple[str, ...] = (), home: str = "") -> WriteJob:
        return WriteJob(
            number, place.form, place.base, place.path, place.guarded, place.locks, place.limit_bytes,
            job.sender, self._head(job, "file"), job.content, job.size, forward=paths, home=home,
        )  # fmt: skip

    def _head(self, job: Job, where: str) -> bytes:
        if where not in self._parameters.prepend_delivered_header or not job.facts.delivered_to:
            return job.head
        return job.head + b"Delivered-To: %b\n" % job.facts.delivered_to.replace(b"\n", b"?")

    def _forward_files(self, job: Job, user: UserPlace) -> dict[str, bool]:
        """The paths of forward_path for a user, and whether each is one for the extension alone.

        Those that use a name without a value are left out.
        """
        values = self._values(job, user.account, user)
        paths: dict[str, bool] = {}
        for template in self._forward_paths:
            try:
                expanded = expand_macros(template, values, allowed=self._parameters.forward_expansion_filter)
            except ValueError:
                continue  # such as a comparison by level with a name that is none
            path = expanded.text
            if expanded.is_whole and path.startswith("/") and path.isprintable() and ".." not in path.split("/"):
                paths.setdefault(path, "extension" in references(template))
        return paths

    def _forward(self, job: Job, number: int, user: UserPlace, file: FoundTargets, extension: str) -> Delivery:
        try:
            targets = unpack_targets(file.targets)
        except ValueError as error:
            return deferred(number, 3, 0, f"{file.path}: {error}")
        found = _Found(job.done, self._parameters.local_alias_expansion_limit)
        found.warnings += file.warnings
        rights = self._rights_of(user.account)
        if isinstance(rights, str):
            return deferred(number, 3, 5, f"mail system configuration error: {rights}")
        if "forward" not in self._parameters.propagate_unmatched_extensions:
            extension = ""
        yield from self._follow(job, number, targets, rights, "forward", found, 0, extension)
        if file.warnings:  # a line that was not understood may have meant anything: nothing is lost in the mailbox
            found.addresses.append(MailTo(Address(user.account.name), final=True))
        return found.answer(number)

    # -- an alias ----------------------------------------------------------------------------------------------------

    def _alias(self, job: Job, number: int) -> Delivery:
        name = job.recipient.decode("utf-8", "surrogateescape")
        try:
            alias = yield from self._aliases.find(name).__await__()
            if alias is None:
                return deferred(number, 3, 0, f"the alias {name} is gone")
            rights = self._rights_of_number(owner_of_table(alias.table))
        except TableTrouble as error:
            return deferred(number, 3, 0, f"alias lookup failed: {error}")
        if isinstance(rights, str):
            return deferred(number, 3, 5, f"mail system configuration error: {rights}")
        found = _Found(job.done, self._parameters.local_alias_expansion_limit)
        specials = [target for target in alias.targets if isinstance(target, Special)]
        extension = ""
        if "alias" in self._parameters.propagate_unmatched_extensions:
            extension = self._extension_of(job, name)
        yield from self._follow(job, number, specials, rights, "alias", found, 0, extension)
        return found.answer(number)

    # -- targets -----------------------------------------------------------------------------------------------------

    def _follow(
        self,
        job: Job,
        number: int,
        targets: Sequence[Target],
        rights: _Rights,
        source: str,
        found: _Found,
        depth: int,
        extension: str,
    ) -> Generator[Step | Question, Any, None]:
        """Serve commands and files, gather addresses, to which ``extension`` is added."""
        for target in targets:
            if isinstance(target, MailTo):
                found.addresses.append(_extended(target, extension))
                continue
            key = _key(rights, target)
            if key in found.done:
                continue
            found.specials_left -= 1
            if found.specials_left < 0:
                found.take(key, failed(number, 4, 6, "too many files and commands"))
                return
            if target.kind is SpecialKind.INCLUDE:
                yield from self._include(job, number, target.argument, rights, found, depth, extension)
                continue
            step = self._special_step(job, number, target, rights, source)
            found.take(key, step if isinstance(step, Answer) else (yield step))

    def _special_step(self, job: Job, number: int, target: Special, rights: _Rights, source: str) -> Step | Answer:
        parameters = self._parameters
        is_command = target.kind is SpecialKind.COMMAND
        allowed = parameters.allow_mail_to_commands if is_command else parameters.allow_mail_to_files
        if source not in allowed:
            return failed(number, 7, 1, f"mail to {'command' if is_command else 'file'} is restricted")
        if is_command:
            run = self._run_job(job, number, target.argument, rights)
            return run if isinstance(run, Answer) else Step(_commander(rights), run)
        path = target.argument
        if path.startswith("~/"):
            if rights.account is None:
                return failed(number, 2, 4, f"{path}: there is no user whose home directory that could be")
            path = rights.account.home + path[1:]
        inner = inner_path(path)
        if inner is None or not path.startswith("/"):
            return deferred(number, 3, 5, f"mail system configuration error: {path} is not a full path")
        place = Place(
            rights.owner, Form.MAILDIR if path.endswith("/") else Form.FILE, "/", inner, False,
            parameters.mailbox_delivery_lock, parameters.mailbox_size_limit,
        )  # fmt: skip
        return Step(rights.owner, self._write_job(job, number, place, (), self._needed_home(rights)))

    def _include(
        self, job: Job, number: int, path: str, rights: _Rights, found: _Found, depth: int, extension: str
    ) -> Generator[Step | Question, Any, None]:
        if depth >= _INCLUDE_DEPTH:
            found.take(path, failed(number, 4, 6, f":include:{path}: the files lead too deep"))
            return
        reader, guarded = rights.owner, False
        if self._is_root and rights.account is None:  # root's alias names it: the file's owner answers for it
            try:
                owner = os.stat(path).st_uid
            except OSError as error:
                found.take(path, deferred(number, 2, 4, f"cannot read :include:{path}: {error.strerror}"))
                return
            if owner == 0:
                reader, guarded = self._server, True
            else:
                account = account_of(owner)
                if account is None:
                    found.take(path, deferred(number, 3, 5, f":include:{path} belongs to no user"))
                    return
                rights = _Rights(Owner(account.uid, account.gid), account)
                reader = rights.owner
        answer = yield Step(reader, ReadJob(number, path, guarded))
        if answer.outcome is not Outcome.GOES_ON:
            found.take(path, answer)
            return
        file = _decoded(answer.content or b"")
        try:
            targets = unpack_targets(file.targets) if file is not None else ()
        except ValueError as error:
            found.take(path, deferred(number, 3, 0, f":include:{path}: {error}"))
            return
        if file is not None:
            found.warnings += file.warnings
        if "include" not in self._parameters.propagate_unmatched_extensions:
            extension = ""
        yield from self._follow(job, number, targets, rights, "include", found, depth + 1, extension)

    # -- commands ----------------------------------------------------------------------------------------------------

    def _run_job(
        self, job: Job, number: int, text: str, rights: _Rights, mailbox_of: UserPlace | None = None
    ) -> RunJob | Answer:
        parameters = self._parameters
        values = self._values(job, rights.account, mailbox_of)
        directory = "/"
        if parameters.command_execution_directory:
            try:
                expanded = expand_macros(
                    parameters.command_execution_directory, values,
                    allowed=parameters.execution_directory_expansion_filter,
                )  # fmt: skip
            except ValueError as error:
                return deferred(number, 3, 5, f"mail system configuration error: command_execution_directory: {error}")
            directory = expanded.text
            if not directory.startswith("/") or "\0" in directory:
                return deferred(number, 3, 5, f"mail system configuration error: {directory!r} is not a full path")
        if "\0" in text:
            return deferred(number, 3, 5, "the command holds a NUL")
        line = command_line(text, parameters.local_command_shell)
        variables = {
            "HOME": values["home"], "SHELL": values["shell"], "USER": values["user"], "LOGNAME": values["user"],
            "EXTENSION": values["extension"], "DOMAIN": values["domain"], "LOCAL": values["local"],
            "RECIPIENT": values["recipient"], "SENDER": values["sender"],
            "ORIGINAL_RECIPIENT": values["original_recipient"], "CLIENT_ADDRESS": values["client_address"],
            "CLIENT_HELO": values["client_helo"], "CLIENT_HOSTNAME": values["client_hostname"],
            "CLIENT_PROTOCOL": values["client_protocol"],
        }  # fmt: skip
        return RunJob(
            id=number,
            argv=line.argv,
            line=line.line,
            environment=environment(
                variables,
                allowed=parameters.command_expansion_filter,
                exported=parameters.export_environment,
                own=self._own_environment,
            ),
            directory=directory,
            home=self._needed_home(rights),
            time_limit_s=parameters.command_time_limit,
            output_limit=parameters.command_output_limit,
            success=f"delivered to command: {text}",
            head=from_line(job.sender, self._wall_clock()) + self._head(job, "command"),
            content=job.content,
            size=job.size,
        )

    def _extension_of(self, job: Job, name: str = "") -> str:
        """What the recipient has behind ``name`` (its user's name if that is empty), with its delimiter."""
        recipient = job.facts.recipient.decode("utf-8", "surrogateescape")
        local = (parse_mailbox(recipient, lenient=True) or Address(*_halves(recipient))).local
        if name:
            return local[len(name) :] if local.lower().startswith(name.lower()) else ""
        parameters = self._parameters
        special = parameters.owner_request_special
        return split_extension(local, parameters.recipient_delimiter, owner_special=special)[1]

    def _values(self, job: Job, account: Account | None, user: UserPlace | None = None) -> dict[str, str]:
        """What $name stands for, of a recipient."""
        facts = job.facts
        recipient = facts.recipient.decode("utf-8", "surrogateescape")
        address = parse_mailbox(recipient, lenient=True) or Address(*_halves(recipient))
        parameters = self._parameters
        name, extension = split_extension(
            address.local, parameters.recipient_delimiter, owner_special=parameters.owner_request_special
        )
        if "/" in extension:
            extension = ""
        return {
            "home": account.home if account is not None else "",
            "shell": account.shell if account is not None else "",
            "user": user.name if user is not None else name.lower(),
            "local": address.local,
            "mailbox": address.local,
            "domain": address.domain,
            "extension": extension[1:],
            "recipient_delimiter": extension[:1],
            "recipient": recipient,
            "original_recipient": facts.original.decode("utf-8", "surrogateescape"),
            "sender": job.sender.decode("utf-8", "surrogateescape"),
            "client_address": facts.client_address,
            "client_helo": facts.client_helo,
            "client_hostname": facts.client_name,
            "client_protocol": facts.client_protocol,
        }

    # -- who ---------------------------------------------------------------------------------------------------------

    def _needed_home(self, rights: _Rights) -> str:
        return rights.account.home if self._parameters.require_home_directory and rights.account is not None else ""

    def _reader(self, account: Account) -> Owner:
        return Owner(account.uid, account.gid) if self._is_root else self._server

    def _rights_of_number(self, uid: int) -> _Rights | str:
        """The rights of whoever answers for a table of aliases; what is wrong if there are none."""
        if uid == 0 or not self._is_root:
            return self._default_rights()
        account = account_of(uid)
        return f"alias_maps: a file belongs to user {uid}, who is not there" if account is None else _own(account)

    def _rights_of(self, account: Account) -> _Rights | str:
        """The rights of a user; nothing is run as root."""
        if not self._is_root:
            return _Rights(self._server, account)
        if account.uid == 0:
            rights = self._default_rights()
            return rights if isinstance(rights, str) else _Rights(rights.owner, account)
        return _own(account)

    def _default_rights(self) -> _Rights | str:
        if not self._is_root:
            return _Rights(self._server, account_of(self._server.uid))
        name = self._parameters.default_privs
        try:
            account = find_account(name)
        except AccountTrouble as error:
            return str(error)
        if account is None or account.uid == 0 or account.gid == 0:
            return f"default_privs = {name}: must be a user without rights, not root"
        return _Rights(Owner(account.uid, account.gid), None)


def _extended(target: MailTo, extension: str) -> MailTo:
    """The same address with an extension, unless that makes it longer than an address may be."""
    address = Address(target.address.local + extension, target.address.domain)
    if not extension or parse_mailbox(str(address), lenient=True) is None:
        return target
    return MailTo(address, target.final)


def _own(account: Account) -> _Rights:
    return _Rights(Owner(account.uid, account.gid), account)


def _commander(rights: _Rights) -> Owner:
    return Owner(rights.owner.uid, rights.owner.gid, commands=True)


def _key(rights: _Rights, target: Special) -> str:
    """The name of a command or file that has been served, for the next attempt."""
    text = f"{rights.owner.uid} {target.text}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _decoded(content: bytes) -> FoundTargets | None:
    try:
        return decode_found(content)
    except (msgspec.DecodeError, ValueError):
        return None


def _warned(answer: Answer, warnings: tuple[str, ...]) -> Answer:
    return with_left(answer, Left(warnings=warnings)) if warnings else answer


def _halves(recipient: str) -> tuple[str, str]:
    local, _, domain = recipient.rpartition("@")
    return (local, domain) if local else (domain, "")


def from_line(sender: bytes, now: float) -> bytes:
    """The line that a message of an mbox begins with."""
    who = b"".join(sender.split()) or b"MAILER-DAEMON"
    return b"From %b  %b\n" % (who, time.asctime(time.localtime(now)).encode())
