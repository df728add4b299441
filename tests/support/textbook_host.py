"""A host on which the files of a textbook lie where they are printed: /etc/postfix/main.cf, /etc/aliases, /var/mail.

It is a network namespace of its own with port 25 free, and a mount namespace of its own for each command, in which /etc
is a copy, and /var/mail, /var/log and /var/spool are empty at first. Several hosts may share one ``Files``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.network import Namespace
from support.running import wait_for

USERS = {"sakura": 61101, "kaede": 61102, "momiji": 61103, "tsubaki": 61104, "ekiden": 61110}
_DEADLINE_S = 20.0


class Files:
    """What the hosts see in place of the machine's own directories; ``directory`` must be reachable for every user."""

    def __init__(self, directory: Path, *, resolver: str) -> None:
        self.directory = directory
        self.etc, self.mail, self.log, self.spool = (directory / name for name in ("etc", "mail", "log", "spool"))
        self.home, self.bin = directory / "home", directory / "bin"
        subprocess.run(["cp", "-a", "/etc", str(self.etc)], check=True, timeout=60)
        for folder in (self.mail, self.log, self.spool, self.home, self.bin):
            folder.mkdir()
        self.mail.chmod(0o1777)
        for file, line in (("passwd", "{0}:x:{1}:{1}::{2}:/bin/sh"), ("group", "{0}:x:{1}:")):
            path = self.etc / file
            kept = [text for text in path.read_text().splitlines() if text.partition(":")[0] not in USERS]
            added = [line.format(user, uid, self.home / user) for user, uid in USERS.items()]
            path.write_text("\n".join([*kept, *added, ""]))
        for user, uid in USERS.items():
            (self.home / user).mkdir(mode=0o755)
            os.chown(self.home / user, uid, uid)
        resolv = self.etc / "resolv.conf"
        resolv.unlink(missing_ok=True)  # it may be a link to what the machine keeps elsewhere
        resolv.write_text(f"nameserver {resolver}\n")
        names = [sys.executable, "-m", "ekiden.cli.main", "install-names", str(self.bin)]
        subprocess.run(names, check=True, timeout=60, capture_output=True)

    def forward(self, user: str, text: str, mode: int = 0o600) -> None:
        """Write the user's ~/.forward, as the user would."""
        path = self.home / user / ".forward"
        path.write_bytes(text.encode())
        path.chmod(mode)
        os.chown(path, USERS[user], USERS[user])

    def mailbox(self, user: str) -> bytes:
        """/var/mail/USER"""
        path = self.mail / user
        return path.read_bytes() if path.exists() else b""


class TextbookHost:
    """``configuration`` is the directory, as the host sees it, of the one server that runs here."""

    def __init__(self, namespace: Namespace, files: Files, configuration: str, *, log: Path | None = None) -> None:
        self.namespace = namespace
        self.files = files
        self.configuration = configuration
        self.etc = files.etc / configuration.removeprefix("/etc/")
        self.output_file = files.directory / f"output{configuration.replace('/', '-')}"
        self.log_file = log or self.output_file
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, main_cf: str, master_cf: str) -> None:
        self.etc.mkdir(exist_ok=True)
        (self.etc / "main.cf").write_text(main_cf)
        (self.etc / "master.cf").write_text(master_cf)

    def inside(self, *command: str) -> list[str]:
        binds = " && ".join(
            f'mount --bind "{source}" {target}'
            for source, target in (
                (self.files.etc, "/etc"), (self.files.mail, "/var/mail"), (self.files.log, "/var/log"),
                (self.files.spool, "/var/spool"),
            )
        )  # fmt: skip
        path = f'PATH="{self.files.bin}:$PATH" MAIL_CONFIG={self.configuration}'
        return [*self.namespace.enter, "sh", "-c", f'{binds} && exec env {path} "$@"', "sh", *command]

    def run(self, *command: str, data: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(*command), input=data, capture_output=True, text=True, timeout=60, check=False
        )

    def shell(self, line: str, data: str = "") -> str:
        """The output of a line as a person types it; with our names first in PATH."""
        done = self.run("sh", "-c", line, data=data)
        assert (done.returncode, done.stderr) == (0, ""), f"{line}: {done}"
        return done.stdout

    def ekiden(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "ekiden.cli.main", *words)

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with self.output_file.open("ab") as output:
            return subprocess.Popen(
                self.inside(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def start(self) -> None:
        process = self.spawn(sys.executable, "-m", "ekiden.cli.main", "serve")

        def serves() -> bool:
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{self.report()}"
            return "serving on " in self.report()

        wait_for(serves, "a server that serves", _DEADLINE_S)
        self._process = process

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_DEADLINE_S)

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        os.kill(self.pid, signal.SIGHUP)

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def report(self) -> str:
        """All that the server wrote."""
        output = self.output_file.read_text("utf-8", "replace") if self.output_file.exists() else ""
        return output if self.log_file == self.output_file else f"{self.log}{output}"

    def wait_until_settled(self) -> None:
        """Until no mail is in the queue."""
        end = time.monotonic() + _DEADLINE_S
        while "Mail queue is empty" not in self.shell("mailq"):
            assert time.monotonic() < end, f"mail waits:\n{self.shell('mailq')}\n{self.report()}"
            time.sleep(0.05)
