"""A pipe service of master.cf (pipe(8)): its attributes, and the command of one delivery.

In:   the arguments of the service; facts of the mail.
Out:  a PipeService; the arguments of the command, and how the message is given to it.
Never: runs anything, hands anything to a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.deliver.local_delivery import from_line
from ekiden.deliver.mailbox_jobs import Job, RunJob
from ekiden.message.address import quote_local
from ekiden.tables.address import split_extension

_FLAGS = frozenset("BDFORXhqu.>")
_ESCAPE = re.compile(r"\\([abfnrtv\\]|[0-7]{1,3})")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_MACRO = re.compile(r"\$(?:\$|\{([A-Za-z0-9_]+)\}|\(([A-Za-z0-9_]+)\)|([A-Za-z0-9_]+))")

# An argument with one of these is given once for each recipient.
_OF_RECIPIENT = frozenset(("recipient", "original_recipient", "user", "extension", "mailbox", "domain"))
_OF_MESSAGE = frozenset(
    (
        "client_address", "client_helo", "client_hostname", "client_port", "client_protocol", "nexthop", "queue_id",
        "sasl_method", "sasl_sender", "sasl_username", "sender", "size",
    )
)  # fmt: skip
_ATTRIBUTES = ("chroot", "directory", "eol", "flags", "null_sender", "size", "user", "argv")


class PipeService(Struct, frozen=True):
    name: str
    user: str
    group: str  # empty: the user's
    argv: tuple[str, ...]
    flags: frozenset[str] = frozenset()
    directory: str = ""
    eol: bytes = b"\n"
    size_limit: int = 0  # 0: none
    null_sender: str = "MAILER-DAEMON"

    @property
    def one_recipient(self) -> bool:
        """Whether what is written into the message depends on the recipient."""
        return bool(self.flags & {"D", "O"})


def parse_pipe_service(name: str, args: Sequence[str], *, file: str = "", line: int = 0) -> PipeService:
    """``file`` and ``line`` are where the service stands. Raises ConfigError."""

    def wrong(text: str) -> ConfigError:
        return ConfigError(f"service {name}: pipe: {text}", file=file, line=line)

    found: dict[str, str] = {}
    argv: tuple[str, ...] = ()
    for at, word in enumerate(args):
        attribute, equals, value = word.partition("=")
        if not equals or attribute not in _ATTRIBUTES:
            raise wrong(f"{word!r} is none of {', '.join(f'{known}=' for known in _ATTRIBUTES)}")
        if attribute == "argv":
            argv = (value, *args[at + 1 :]) if value else tuple(args[at + 1 :])
            break
        found[attribute] = value
    if not argv:
        raise wrong("argv= is missing, or no command follows it")
    if "chroot" in found:
        raise wrong("chroot= is not honoured: no process changes its root; leave it away")
    user, _, group = found.get("user", "").partition(":")
    if not user:
        raise wrong("user= is missing: write user=name or user=name:group")
    flags = frozenset(found.get("flags", ""))
    if not flags <= _FLAGS:
        raise wrong(f"flags={found['flags']}: the flags are {''.join(sorted(_FLAGS))}")
    directory = found.get("directory", "")
    if directory and not directory.startswith("/"):
        raise wrong(f"directory={directory}: write the full path")
    size = found.get("size", "0")
    if re.fullmatch(r"[0-9]{1,18}", size) is None:
        raise wrong(f"size={size}: write a number of bytes")
    for word in argv:
        for match in _MACRO.finditer(word):
            macro = match[1] or match[2] or match[3]
            if macro is not None and macro not in _OF_RECIPIENT | _OF_MESSAGE:
                raise wrong(f"there is no ${macro}")
    return PipeService(
        name, user, group, argv, flags, directory, _unescaped(found.get("eol", "\\n")), int(size),
        found.get("null_sender", "MAILER-DAEMON"),
    )  # fmt: skip


def _unescaped(text: str) -> bytes:
    def character(match: re.Match[str]) -> str:
        code = match[1]
        return _ESCAPES[code] if code in _ESCAPES else chr(int(code, 8) & 0xFF)

    return _ESCAPE.sub(character, text).encode("latin-1", "replace")


def pipe_arguments(service: PipeService, job: Job, delimiter: str, owner_special: bool) -> tuple[bytes, ...]:
    """The arguments of the command for all recipients of a job."""
    common = _message_values(service, job)
    each = [_recipient_values(service, pair, delimiter, owner_special) for pair in job.facts.recipients]
    return tuple(
        argument.replace("\0", "_").encode("utf-8", "surrogateescape")
        for word in service.argv
        for argument in _expanded(word, common, each)
    )


def _expanded(word: str, common: dict[str, str], each: Sequence[dict[str, str]]) -> Iterator[str]:
    names = {match[1] or match[2] or match[3] for match in _MACRO.finditer(word)}
    for values in each if names & _OF_RECIPIENT else ({},):
        yield _MACRO.sub(
            lambda match, values=values: _value(match, values, common),  # type: ignore[misc]
            word,
        )


def _value(match: re.Match[str], values: dict[str, str], common: dict[str, str]) -> str:
    name = match[1] or match[2] or match[3]
    if name is None:
        return "$"
    return values[name] if name in values else common.get(name, "")


def _message_values(service: PipeService, job: Job) -> dict[str, str]:
    facts = job.facts
    sender = job.sender.decode("utf-8", "surrogateescape")
    sender = _as_argument(sender, service) if sender else service.null_sender
    next_hop = facts.next_hop
    return {
        "client_address": facts.client_address,
        "client_helo": facts.client_helo,
        "client_hostname": facts.client_name,
        "client_port": facts.client_port,
        "client_protocol": facts.client_protocol,
        "nexthop": next_hop.lower() if "h" in service.flags else next_hop,
        "queue_id": facts.queue_id,
        "sender": sender,
        "size": str(job.size),
    }


def _recipient_values(
    service: PipeService, pair: tuple[bytes, bytes], delimiter: str, owner_special: bool
) -> dict[str, str]:
    recipient, original = (data.decode("utf-8", "surrogateescape") for data in pair)
    local, domain = _split(recipient)
    if "u" in service.flags:
        local = local.lower()
    if "h" in service.flags:
        domain = domain.lower()
    user, extension = split_extension(local, delimiter, owner_special=owner_special)
    return {
        "recipient": _as_argument(recipient, service, fold=True),
        "original_recipient": _as_argument(original or recipient, service, fold=True),
        "mailbox": local,
        "user": user,
        "extension": extension[1:],
        "domain": domain,
    }


def _split(address: str) -> tuple[str, str]:
    """Local part without quotes, and domain."""
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = address, ""
    if len(local) >= 2 and local[0] == local[-1] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    return local, domain


def _as_argument(address: str, service: PipeService, *, fold: bool = False) -> str:
    """A whole address as the flags h, q and u want it; without q it is as it is meant, with q as it is written."""
    local, domain = _split(address)
    if fold and "u" in service.flags:
        local = local.lower()
    if fold and "h" in service.flags:
        domain = domain.lower()
    if "q" in service.flags and re.search(r'[\x00-\x20"(),:;<>@\[\\\]\x7f]|^\.|\.\.|\.$|^$', local):
        local = quote_local(local)
    return f"{local}@{domain}" if domain else local


def pipe_head(service: PipeService, job: Job, now: float) -> bytes:
    """The lines that the flags put before the message."""
    sender = job.sender or service.null_sender.encode()
    recipient, original = job.facts.recipients[0] if job.facts.recipients else (b"", b"")
    head = b""
    if "F" in service.flags:
        head += from_line(sender, now)
    if "R" in service.flags:
        head += b"Return-Path: <%b>\n" % sender
    if "O" in service.flags:
        head += b"X-Original-To: %b\n" % (original or recipient)
    if "D" in service.flags:
        head += b"Delivered-To: %b\n" % recipient
    return head.replace(b"\0", b"?")


def pipe_job(
    service: PipeService,
    job: Job,
    number: int,
    *,
    environment: tuple[tuple[bytes, bytes], ...],
    time_limit_s: float,
    output_limit: int,
    delimiter: str,
    owner_special: bool,
    now: float,
) -> RunJob:
    return RunJob(
        id=number,
        argv=pipe_arguments(service, job, delimiter, owner_special),
        line=b"",
        environment=environment,
        directory=service.directory or "/",
        home="",
        time_limit_s=time_limit_s,
        output_limit=output_limit,
        success=f"delivered via {service.name} service",
        head=pipe_head(service, job, now),
        content=job.content,
        size=job.size,
        eol=service.eol,
        dots="." in service.flags,
        quote_from=">" in service.flags,
        blank_end="B" in service.flags,
    )
