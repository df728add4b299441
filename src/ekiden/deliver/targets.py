"""What an alias, a line of a .forward file or of an :include: file says: where mail shall go (aliases(5)).

In:   text.
Out:  targets, each with the text that it was read from.
Never: looks at files, follows anything, takes more than linear time.

A backslash before a user's name means that user's mailbox, whatever aliases say. Japanese keyboards and texts show the
yen sign in its place, so U+00A5, U+FFE5 and the single byte A5 of ISO 8859-1 mean the same.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from ekiden.config.lines import logical_lines
from ekiden.message.address import Address, quote_local
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.tables.source import quoted_string

_FINAL = ("\\", "\u00a5", "\uffe5", "\udca5")
_BLANKS = " \t\r\n\f\v"


class MailTo(Struct, frozen=True):
    """An address, or without a domain a local name. ``final``: ``\\user``, which no further alias replaces."""

    address: Address
    final: bool = False

    @property
    def text(self) -> str:
        return ("\\" if self.final else "") + str(self.address)


class SpecialKind(enum.Enum):
    COMMAND = "|"
    FILE = "/"
    INCLUDE = ":"


class Special(Struct, frozen=True):
    """``|command``, ``/file`` or ``:include:/file``; ``argument`` is the command line or the path."""

    kind: SpecialKind
    argument: str

    @property
    def text(self) -> str:
        prefix = {SpecialKind.COMMAND: "|", SpecialKind.FILE: "", SpecialKind.INCLUDE: ":include:"}[self.kind]
        return prefix + self.argument


Target = MailTo | Special


def parse_targets(text: str) -> tuple[Target, ...]:
    """The right-hand side of an alias. Raises ValueError that says which part is wrong."""
    targets = tuple(_target(word) for word in _members(text))
    if not targets:
        raise ValueError("the alias leads nowhere")
    return targets


class TargetFile(Struct, frozen=True):
    """What a .forward or :include: file says; problems are (line number, text)."""

    targets: tuple[Target, ...]
    problems: tuple[tuple[int, str], ...] = ()


def parse_target_file(text: str) -> TargetFile:
    """Lines of targets. What cannot be understood is a problem; the other targets hold."""
    targets: dict[str, Target] = {}
    problems: list[tuple[int, str]] = []
    for line in logical_lines(text):
        try:
            words = list(_members(line.text))
        except ValueError as error:
            problems.append((line.number, str(error)))
            continue
        for word in words:
            try:
                target = _target(word)
            except ValueError as error:
                problems.append((line.number, str(error)))
            else:
                targets.setdefault(target.text, target)
    return TargetFile(tuple(targets.values()), tuple(problems))


def _members(text: str) -> Iterator[str]:
    """The members of a list separated by commas or blanks; a quoted string, ``<...>`` and a command are one piece.

    An unquoted ``|command`` goes on to the next comma, with its arguments. Linear in the text. Raises ValueError.
    """
    at, end = 0, len(text)
    while at < end:
        if text[at] in _BLANKS or text[at] == ",":
            at += 1
            continue
        start = at
        is_command = text[at] == "|"
        while at < end and text[at] != "," and (is_command or text[at] not in _BLANKS):
            if text[at] == '"':
                at = unquoted(text, at)[1]
            elif text[at] == "<" and not is_command:
                close = text.find(">", at)
                if close < 0:
                    raise ValueError("there is no > for a <")
                at = close + 1
            else:
                at += 1
        word = text[start:at]
        if not is_command and word.endswith('"') and text[at:].lstrip(_BLANKS).startswith("<"):
            continue  # "A Name" <address>: the name is not mail's business
        yield " ".join(word.split("\n")).strip(_BLANKS)


def unquoted(text: str, at: int) -> tuple[str, int]:
    """The quoted string that begins at ``at``, without quotes and backslashes, and where it ends. Raises ValueError."""
    inner, end = quoted_string(text, at)
    if end < 0:
        raise ValueError("a quote is not closed")
    return inner, end


def _target(word: str) -> Target:
    bare = word
    if word.startswith('"'):
        inner, end = unquoted(word, 0)
        if end == len(word):  # "|command args", "/file name", "user name"; but "local part"@domain is an address
            bare = " ".join(inner.split("\n"))
            if not bare.startswith(("|", "/", ":", "~/")):
                mark, name = (bare[0], bare[1:]) if bare.startswith(_FINAL) else ("", bare)
                bare = mark + quote_local(name)
    if "\0" in bare:
        raise ValueError(f"{word!r} holds a NUL")
    if bare.startswith("|"):
        command = bare[1:].strip(_BLANKS)
        if not command:
            raise ValueError("there is no command behind a |")
        return Special(SpecialKind.COMMAND, command)
    if bare.startswith(("/", "~/")):
        return Special(SpecialKind.FILE, bare)
    if bare[:9].lower() == ":include:":
        path = bare[9:].strip(_BLANKS)
        if not path.startswith("/"):
            raise ValueError(f"{bare!r}: write the full path, such as :include:/etc/mail/list")
        return Special(SpecialKind.INCLUDE, path)
    final = bare.startswith(_FINAL)
    if final:
        bare = bare[1:]
    if bare.endswith(">") and "<" in bare:
        bare = bare[bare.rindex("<") + 1 : -1]
    address = parse_mailbox(bare, lenient=True, utf8=True)
    if address is None or not address.local:  # ""@x.example is an address, but nobody's
        raise ValueError(f"{word!r} is not an address")
    return MailTo(address, final)


# -- between processes: a list of (first character, text), text in bytes because it need not be UTF-8


def pack_targets(targets: Sequence[Target]) -> list[tuple[str, bytes]]:
    def packed(target: Target) -> tuple[str, bytes]:
        if isinstance(target, MailTo):
            return "\\" if target.final else "@", str(target.address).encode("utf-8", "surrogateescape")
        return target.kind.value, target.argument.encode("utf-8", "surrogateescape")

    return [packed(target) for target in targets]


def unpack_targets(packed: Sequence[tuple[str, bytes]]) -> tuple[Target, ...]:
    """Raises ValueError."""
    targets: list[Target] = []
    for kind, data in packed:
        text = data.decode("utf-8", "surrogateescape")
        if kind in ("\\", "@"):
            address = parse_mailbox(text, lenient=True, utf8=True)
            if address is None:
                raise ValueError(f"{text!r} is not an address")
            targets.append(MailTo(address, kind == "\\"))
        elif "\0" in text:
            raise ValueError(f"{text!r} holds a NUL")
        else:
            targets.append(Special(SpecialKind(kind), text))
    return tuple(targets)


class FoundTargets(Struct, frozen=True, array_like=True):
    """What a process that read a file as its owner tells of it. ``path`` is empty when no file was there."""

    path: str
    targets: list[tuple[str, bytes]]
    warnings: list[str]


encode_found = msgspec.msgpack.Encoder().encode
decode_found = msgspec.msgpack.Decoder(FoundTargets).decode
