"""The dialogues of Exim's test suite: what a client says and which codes it expects, what a server says and awaits.

Only the dialogue carries over: the codes of replies, not Exim's wording, and not what its configuration decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct


class Step(Struct, frozen=True):
    """``kind``: say (bytes to send), reply (how the code of one reply begins), closed (whatever else comes), pause.

    In a server dialogue also hear (how a command begins) and data (so many octets).
    """

    kind: str
    line: int
    data: bytes = b""
    text: str = ""


class Dialogue(Struct, frozen=True):
    script: str  # "0000-Basic/0900"
    line: int
    is_client: bool
    steps: tuple[Step, ...]
    command: str = ""  # what Exim is told after a server was started

    @property
    def name(self) -> str:
        return f"{self.script}:{self.line}"


_REPLY = re.compile(r"\?\?\? ?([0-9]{0,3})(-?)")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([nrt\\]))")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}


def dialogues(folder: Path) -> list[Dialogue]:
    return [found for path in sorted(folder.rglob("*")) if path.is_file() for found in _of_script(path)]


def _of_script(path: Path) -> Iterator[Dialogue]:
    name = f"{path.parent.name}/{path.name}"
    lines = path.read_bytes().split(b"\n")
    at = 0
    while at < len(lines):
        words = lines[at].split()
        at += 1
        if not words or words[0] not in (b"client", b"server"):
            continue
        start = at
        while lines[at] != b"****":
            at += 1
        is_client = words[0] == b"client"
        read = _client_steps if is_client else _server_steps
        # What Exim is told next is what the server hears.
        end = at + 1
        while end < len(lines) and lines[end] != b"****":
            end += 1
        command = b"\n".join(line for line in lines[at + 1 : end] if not line.startswith(b"#"))
        yield Dialogue(name, start, is_client, tuple(read(lines[start:at], start)), command.decode("latin-1"))


def _client_steps(lines: list[bytes], first: int) -> Iterator[Step]:
    """Several expected lines of one reply are one step; so is all that is expected of EHLO."""
    in_hello = False
    for number, line in enumerate(lines, first + 1):
        text = line.decode("latin-1")
        if line.startswith(b"???*"):
            yield Step("closed", number)
        elif line.startswith(b"???"):
            found = _REPLY.match(text)
            assert found is not None
            ends = number - first == len(lines) or not lines[number - first].startswith(b"???")
            if ends if in_hello else not found[2]:
                yield Step("reply", number, text=found[1])
        elif line.startswith((b"+++", b"++++")):
            yield Step("pause", number)
        elif line.startswith(b">>> "):
            yield Step("say", number, _unescaped(line[4:]))
        else:
            in_hello = line.lower().startswith(b"ehlo ") and b"\\r\\n" not in line
            yield Step("say", number, _unescaped(line) + b"\r\n")


def _server_steps(lines: list[bytes], first: int) -> Iterator[Step]:
    for number, line in enumerate(lines, first + 1):
        text = line.decode("latin-1")
        if line.lower().startswith(b"*eof"):
            yield Step("closed", number)
        elif line.startswith(b"*sleep"):
            yield Step("pause", number)
        elif line.startswith(b"*data"):
            yield Step("data", number, text=text.split()[1])
        elif line[:1].isdigit():
            yield Step("say", number, _unescaped(line) + b"\r\n")
        elif line.startswith(b">"):
            yield Step("say", number, _unescaped(line.removeprefix(b">").removeprefix(b">")))
        else:
            yield Step("hear", number, text=text)


def _unescaped(line: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)) if found[1] else _LETTERS[found[2]], line)
