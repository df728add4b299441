"""A real server in a directory of its own: writes the configuration, waits until it serves, stops it, keeps its log."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Until ``condition()`` is true; fails with ``what`` after ``deadline_s`` seconds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.01)


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A temporary directory that every user may enter (pytest's own are closed to all but who runs the tests)."""
    directory = Path(tempfile.mkdtemp(prefix="ekiden-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class RunningServer:
    """One server. ``directory`` holds etc/ (the configuration), queue/, log, and whatever the test adds.

    ``main_cf``: parameters beside (or in place of) those that every test needs; ``master_cf``: lines beside the one
    SMTP service at ``port``. ``program``: what to run instead of ``ekiden serve -c DIR`` (it gets the same arguments).
    As root ``mail_owner`` is nobody.
    """

    def __init__(
        self,
        directory: Path,
        *,
        main_cf: Mapping[str, str] | None = None,
        master_cf: Sequence[str] = (),
        port: int = 0,
        program: Sequence[str] = (sys.executable, "-m", "ekiden.cli.main"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.etc = directory / "etc"
        self.queue = directory / "queue"
        self.log_file = directory / "log"
        self.output_file = directory / "output"
        self.port = port or free_port()
        self.program = tuple(program)
        self.environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.etc.mkdir(parents=True, exist_ok=True)
        self.main_cf = {
            "myhostname": "mx.test",
            "mydestination": "",
            "queue_directory": str(self.queue),
            "maillog_file": str(self.log_file),
            "worker_processes": "2",
            "stop_timeout": "5s",
            "maillog_flush_milliseconds": "0",  # tests look at the log as soon as they see what it tells of
            **({"mail_owner": "nobody"} if os.geteuid() == 0 else {}),
            **(main_cf or {}),
        }
        self.services = [f"127.0.0.1:{self.port} inet n - n - - smtpd", *master_cf]
        self.write_configuration()

    def write_configuration(self) -> None:
        """Write main.cf and master.cf as ``main_cf`` and ``services`` are now."""
        (self.etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in self.main_cf.items()))
        (self.etc / "master.cf").write_text("".join(f"{line}\n" for line in self.services))

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it, in a process group of its own, and do not wait."""
        with self.output_file.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.program, "serve", "-c", str(self.etc)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        return self.process

    def start(self) -> RunningServer:
        """Start it and wait until it serves with all its processes, and answers."""
        process = self.spawn()

        def serves() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}:\n{self.output}\n{self.log}")
            return self.says_it_serves() and self.banner() is not None

        wait_for(serves, "a banner")
        return self

    def says_it_serves(self) -> bool:
        """The log says that all processes are ready; a log in syslog is not looked at."""
        return not self.main_cf["maillog_file"] or "serving on " in self.log or "serving on " in self.output

    def banner(self, port: int = 0) -> str | None:
        """The first line that the server says to a new connection; None when it does not answer."""
        try:
            with socket.create_connection(("127.0.0.1", port or self.port), timeout=5) as sock:
                line = sock.makefile("rb").readline()
        except OSError:
            return None
        return line.decode("utf-8", "replace").rstrip() or None

    def stop(self, number: int = signal.SIGTERM, deadline_s: float = DEADLINE_S) -> int:
        """Stop it; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL for all of its processes at once, as a power failure would."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def children(self) -> dict[str, int]:
        """The living processes of the server below the supervisor: their names (as ps shows them) and numbers."""
        assert self.process is not None
        try:
            pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except FileNotFoundError:
            return {}
        found: dict[str, int] = {}
        for pid in pids:
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                found[title.removeprefix("ekiden: ")] = int(pid)
        return found

    def status(self) -> list[dict[str, Any]]:
        """What ``ekiden status --json`` tells of each worker; empty when the server does not run."""
        done = self.command("status", "--json")
        return json.loads(done.stdout)["workers"] if done.returncode == 0 else []

    def reload(self) -> None:
        """Write the configuration and have it read; returns when every worker has."""
        before = time.time()
        self.write_configuration()
        done = self.command("reload")
        assert done.returncode == 0, done.stderr

        def all_have() -> bool:
            workers = self.status()
            return bool(workers) and all(worker["configured"] > before for worker in workers)

        wait_for(all_have, f"the workers to have the new configuration:\n{self.log}")

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    @property
    def output(self) -> str:
        return self.output_file.read_text("utf-8", "replace") if self.output_file.exists() else ""

    def wait_for_log(self, text: str) -> None:
        wait_for(lambda: text in self.log, f"{text!r} in the log:\n{self.log}")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``ekiden ARGUMENTS`` for this server's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "ekiden.cli.main", *arguments],
            capture_output=True,
            text=True,
            env={**self.environment, "EKIDEN_CONFIG": str(self.etc)},
            timeout=60,
            check=False,
        )


@contextlib.contextmanager
def running_server(
    *, main_cf: Mapping[str, str] | None = None, master_cf: Sequence[str] = (), start: bool = True
) -> Iterator[RunningServer]:
    """A server in a fresh directory, started, and in the end gone with all it left."""
    with open_directory() as directory:
        server = RunningServer(directory, main_cf=main_cf, master_cf=master_cf)
        try:
            yield server.start() if start else server
        finally:
            server.close()
