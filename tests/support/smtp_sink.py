"""Postfix's smtp-sink as a next hop, and the transactions that it wrote down."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from support.requirements import require_program
from support.running import free_port, wait_for


class Dumped(Struct, frozen=True):
    """One transaction as smtp-sink saw it; lines end in LF, and one empty line is added at the end."""

    facts: dict[str, list[str]]  # X-Client-Proto, X-Mail-Args, X-Rcpt-Args ...
    content: bytes  # what came between DATA and the dot, without the Received: fields of the way


class SmtpSink:
    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder

    @property
    def relayhost(self) -> str:
        return f"[127.0.0.1]:{self.port}"

    @property
    def count(self) -> int:
        """How many transactions were begun."""
        return sum(1 for _ in self._folder.iterdir())

    def dumps(self, count: int) -> list[bytes]:
        """The files of all transactions, when there are ``count`` whole ones."""

        def whole() -> bool:
            found = list(self._folder.iterdir())
            # A dump is one transaction, and ends in an empty line of smtp-sink's own.
            return len(found) >= count and all(path.read_bytes().endswith(b"\n\n") for path in found)

        wait_for(whole, f"{count} messages at smtp-sink")
        found = [path.read_bytes() for path in sorted(self._folder.iterdir())]
        assert len(found) == count, f"{len(found)} messages at smtp-sink instead of {count}"
        return found

    def times(self, text: bytes) -> list[float]:
        """When the transactions that hold ``text`` were written down, in seconds."""
        return sorted(path.stat().st_mtime for path in self._folder.iterdir() if text in path.read_bytes())

    def messages(self, count: int) -> list[Dumped]:
        """The same, read."""
        return [_parsed(dump) for dump in self.dumps(count)]


def _parsed(dump: bytes) -> Dumped:
    lines = dump.split(b"\n")
    facts: dict[str, list[str]] = {}
    at = 0
    while lines[at].startswith(b"X-"):
        name, _, value = lines[at].decode("utf-8", "replace").partition(": ")
        facts.setdefault(name, []).append(value)
        at += 1
    return Dumped(facts, b"\n".join(_without_trace(lines[at:])))


def _without_trace(lines: list[bytes]) -> list[bytes]:
    """Without the Received: fields at the top: smtp-sink's own, and ours."""
    at = 0
    while lines[at].startswith(b"Received:"):
        at += 1
        while lines[at][:1] in (b" ", b"\t"):
            at += 1
    return lines[at:]


def listens(port: int) -> bool:
    """Whether a server listens there; told by the kernel, because a connection would be a session of the sink's."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines())


@contextlib.contextmanager
def smtp_sink(*options: str, dump: bool = True) -> Iterator[SmtpSink]:
    program = require_program("smtp-sink")
    with tempfile.TemporaryDirectory(prefix="ekiden-sink-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        port = free_port()
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        dumping = ("-d", f"{folder}/m.") if dump else ()
        process = subprocess.Popen([program, *user, *dumping, *options, f"127.0.0.1:{port}", "256"])
        try:
            wait_for(lambda: listens(port), "smtp-sink to listen")
            yield SmtpSink(port, folder)
        finally:
            process.terminate()
            process.wait(20)
