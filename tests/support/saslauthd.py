"""A real saslauthd on a socket of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.requirements import require_program, require_root
from support.running import wait_for


@contextlib.contextmanager
def running_saslauthd(directory: Path, *options: str) -> Iterator[Path]:
    """The path of its socket."""
    require_root()
    program = require_program("saslauthd")
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, "-d", "-n", "1", "-m", str(directory), *options],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        socket = directory / "mux"
        wait_for(socket.exists, "saslauthd to listen")
        yield socket
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # SIGTERM counts only after the next login
        process.wait(20)
