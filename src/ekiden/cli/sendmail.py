"""``sendmail``: submission by the programs of this host, with the options that they have used since ever (sendmail(1)).

The message goes to the maildrop; a server that runs takes it at once, one that does not takes it when it starts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from email.parser import BytesHeaderParser
from email.utils import getaddresses
from pathlib import Path
from typing import BinaryIO

from ekiden.config.snapshot import Parameters
from ekiden.policy.user_access import EVERYBODY, refused_user
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.receive.maildrop import Drop, knock, leave

EX_OK, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL = 0, 64, 65, 69, 75
_READ_BYTES = 65536
_HEADER_LIMIT_BYTES = 1_048_576
_SPACED_COLON = re.compile(rb"^([!-9;-~]+)[ \t]+:", re.MULTILINE)

# Options that take a value in the next word or in the same one.
_WITH_VALUE = frozenset("BCFfhLNOopRrVX")
_MODES = {"m": "", "p": "mailq", "i": "newaliases", "s": "SMTP on standard input", "d": "daemon"}


class Refused(Exception):
    """Nothing is submitted; ``code`` is the exit code (sysexits.h)."""

    code = EX_DATAERR


class UsageError(Refused):
    code = EX_USAGE


class TooLarge(Refused):
    code = EX_UNAVAILABLE


class NotAllowed(Refused):
    code = os.EX_NOPERM


class Options:
    def __init__(self, arguments: Sequence[str]) -> None:
        self.config: str | None = None
        self.sender: str | None = None
        self.full_name = ""
        self.from_header = False  # -t
        self.dot_ends = True  # without -i a line with a dot alone ends the message
        self.body_8bit = False
        self.mode = "m"
        self.flush = False
        self.recipients: list[str] = []
        words = list(arguments)
        while words:
            word = words.pop(0)
            if word == "--":
                self.recipients.extend(words)
                break
            if not word.startswith("-") or word == "-":
                self.recipients.append(word)
                continue
            self._option(word, words)

    def _option(self, word: str, words: list[str]) -> None:
        letter, rest = word[1], word[2:]
        if letter == "b":
            if rest not in _MODES:
                raise UsageError(f"unknown mode -b{rest}")
            self.mode = rest
            return
        if letter in ("o", "e", "q", "i", "t", "v", "n", "U", "G", "m"):
            # One-word options; -oi is -i, -q means flush, the rest have no meaning here and never had much.
            self.dot_ends = self.dot_ends and word not in ("-i", "-oi")
            self.from_header = self.from_header or letter == "t"
            self.flush = self.flush or word == "-q"
            if word == "-o" and words:
                words.pop(0)
            return
        if letter not in _WITH_VALUE:
            raise UsageError(f"unknown option {word}")
        if not rest:
            if not words:
                raise UsageError(f"option {word} wants a value")
            rest = words.pop(0)
        if letter in "fr":
            self.sender = "" if rest == "<>" else rest
        elif letter == "F":
            self.full_name = rest
        elif letter == "C":
            self.config = str(Path(rest).parent) if rest.endswith(".cf") else rest
        elif letter == "B":
            self.body_8bit = rest.upper() == "8BITMIME"


def _lines_to_dot(file: BinaryIO) -> Iterator[bytes]:
    for line in file:
        if line in (b".\n", b".\r\n"):
            return
        yield line


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_READ_BYTES):
        yield part


def _header_of(content: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The header (to its empty line) and what else was read by then."""
    read = b""
    for part in content:
        read += part
        ends = [at for at in (read.find(b"\n\n"), read.find(b"\n\r\n")) if at >= 0]
        if ends:
            return read[: min(ends) + 1], read[min(ends) + 1 :]
        if len(read) > _HEADER_LIMIT_BYTES:
            raise TooLarge("the header is too long")
    return read, b""


def _header_recipients(header: bytes) -> list[str]:
    # Space before the colon (RFC 5322 §4.5.8) ends the header for Python's parser: whoever stands below were lost.
    fields = BytesHeaderParser().parsebytes(_SPACED_COLON.sub(rb"\1:", header))
    values = [str(value) for name in ("to", "cc", "bcc") for value in fields.get_all(name, [])]
    return [address for _, address in getaddresses(values) if address]


def _check(recipients: Sequence[str]) -> None:
    """Who submits can correct an address now; later nobody listens. Raises Refused."""
    for recipient in recipients:
        address = parse_mailbox(recipient.strip(), lenient=True)
        if address is None or address.is_null:
            raise Refused(f"bad recipient address: {recipient!r}; the message was not taken")


def _limited(content: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """``limit`` in bytes; 0 is none. Raises TooLarge."""
    size = 0
    for part in content:
        size += len(part)
        if limit and size > limit:
            raise TooLarge(f"the message is larger than message_size_limit ({limit} bytes)")
        yield part


def _without_bcc(header: bytes) -> bytes:
    kept: list[bytes] = []
    dropping = False
    for line in header.splitlines(keepends=True):
        if line[:1] not in (b" ", b"\t"):
            dropping = line.lower().startswith(b"bcc") and line[3:].lstrip(b" \t").startswith(b":")
        if not dropping:
            kept.append(line)
    return b"".join(kept)


def _check_submitter(parameters: Parameters) -> None:
    """What the server would find only after the command has said yes. Raises NotAllowed."""
    words = parameters.authorized_submit_users
    if words == EVERYBODY:
        return
    import asyncio

    uid = os.getuid()
    if (name := asyncio.run(refused_user(words, uid))) is not None:
        raise NotAllowed(f"User {name}({uid}) is not allowed to submit mail")


def _submit(options: Options, queue_directory: Path, size_limit: int, standard_input: BinaryIO) -> int:
    content = _lines_to_dot(standard_input) if options.dot_ends else _parts(standard_input)
    recipients = list(options.recipients)
    if options.from_header:
        header, rest = _header_of(content)
        recipients += _header_recipients(header)
        before, content_after = _without_bcc(header) + rest, content

        def whole() -> Iterator[bytes]:
            yield before
            yield from content_after

        content = whole()
    if not recipients:
        raise UsageError("no recipient was given (name them, or use -t to take them from the header)")
    _check(recipients)
    drop = Drop(tuple(recipients), options.sender, options.full_name, options.body_8bit)
    leave(queue_directory, drop, _limited(content, size_limit))
    knock(queue_directory)
    return EX_OK


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = Options(sys.argv[1:] if arguments is None else arguments)
        if options.mode == "p":
            from ekiden.cli.mailq import main as mailq

            return mailq(["-c", options.config] if options.config else [])
        if options.mode != "m":
            print(f"sendmail: -b{options.mode} ({_MODES[options.mode]}) is not there yet", file=sys.stderr)
            return EX_UNAVAILABLE
        if options.flush and not options.recipients:
            from ekiden.cli.postqueue import main as postqueue

            return postqueue(["-f", *(["-c", options.config] if options.config else [])])
        from ekiden.config.directory import find_directory
        from ekiden.config.load import load

        directory = find_directory(options.config, os.environ)
        parameters = load(directory).parameters
        _check_submitter(parameters)
        return _submit(options, Path(parameters.queue_directory), parameters.message_size_limit, sys.stdin.buffer)
    except Refused as error:
        print(f"sendmail: fatal: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"sendmail: the message was not taken: {error}", file=sys.stderr)
        return EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
