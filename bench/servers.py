"""The servers that are measured: each in a directory of its own, on loopback, with fsync on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

SBIN = Path("/usr/sbin")
_OWNER = {"mail_owner": "nobody"} if os.geteuid() == 0 else {}

_DOVECOT = """\
base_dir = @HERE@/base
state_dir = @HERE@/base
protocols =
log_path = @HERE@/log
ssl = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
auth_mechanisms = plain
passdb {
  driver = passwd-file
  args = @HERE@/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
service auth {
  unix_listener @HERE@/auth {
    mode = 0666
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
"""


class Server(Protocol):
    name: str
    port: int
    directory: Path

    @property
    def pid(self) -> int: ...
    @property
    def pids(self) -> list[int]:
        """All families of processes that do its work, ``pid`` first."""

    def start(self, settings: dict[str, str]) -> None: ...
    def stop(self) -> None: ...
    def account(self, name: str, password: str) -> dict[str, str]:
        """Prepare an account that clients may log in to, before start(); the settings that it takes."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_banner(port: int, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                if client.recv(4).startswith(b"220"):
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"no SMTP banner on port {port} within {deadline_s:g} s")
        time.sleep(0.005)


def _main_cf(settings: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


class Ekiden:
    name = "ekiden"

    def __init__(self, directory: Path, prefix: tuple[str | Path, ...] = ()) -> None:
        """``prefix``: a command that runs others."""
        self.directory = directory
        self.prefix = prefix
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        return [self.pid]

    def start(self, settings: dict[str, str]) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        queue = self.directory / "queue"
        (self.directory / "main.cf").write_text(
            _main_cf(
                {
                    "myhostname": "bench.example",
                    "mydestination": "",
                    "queue_directory": str(queue),
                    "maillog_file": str(self.directory / "mail.log"),
                    **_OWNER,
                    **settings,
                }
            )
        )
        (self.directory / "master.cf").write_text(f"127.0.0.1:{self.port} inet n - n - - smtpd\n")
        self._process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "ekiden.cli.main", "serve", "-c", str(self.directory)],
            stdout=subprocess.DEVNULL,
        )
        wait_for_banner(self.port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def account(self, name: str, password: str) -> dict[str, str]:
        """Our own account file. It lies outside the directory that start() makes anew."""
        accounts = self.directory.parent / "ekiden-accounts"
        shutil.rmtree(accounts, ignore_errors=True)
        accounts.mkdir()
        accounts.chmod(0o755)
        settings = {"sasl_accounts": f"file:{accounts / 'accounts'}"}
        (accounts / "main.cf").write_text(_main_cf({**settings, **_OWNER}))
        subprocess.run(
            [sys.executable, "-m", "ekiden.cli.main", "user", "add", "-c", str(accounts), name],
            input=f"{password}\n",
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return settings


class Postfix:
    """Debian's Postfix as a second instance; it must be started as root."""

    name = "postfix"
    services = ""  # more lines of master.cf
    prefix: tuple[str | Path, ...] = ()  # a command that runs others

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._dovecot: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return int((self.directory / "queue" / "pid" / "master.pid").read_text())

    @property
    def pids(self) -> list[int]:
        return [self.pid]

    def start(self, settings: dict[str, str]) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        queue, data = self.directory / "queue", self.directory / "data"
        queue.mkdir(parents=True)
        data.mkdir()
        shutil.chown(data, "postfix")
        self.directory.chmod(0o755)
        (self.directory / "main.cf").write_text(
            _main_cf(
                {
                    "compatibility_level": "3.6",
                    "myhostname": "bench.example",
                    "mydestination": "",
                    "queue_directory": str(queue),
                    "data_directory": str(data),
                    "maillog_file": str(self.directory / "mail.log"),
                    "maillog_file_prefixes": str(self.directory),
                    "inet_protocols": "ipv4",
                    "alias_maps": "",
                    "local_recipient_maps": "",
                    **settings,
                }
            )
        )
        shutil.copy("/usr/share/postfix/master.cf.dist", self.directory / "master.cf")
        lines = []
        for line in (self.directory / "master.cf").read_text().splitlines():
            fields = line.split()
            if len(fields) >= 8 and fields[0] == "smtp" and fields[1] == "inet":
                line = f"127.0.0.1:{self.port} inet n - n - - smtpd"
            elif len(fields) >= 8 and fields[1] in ("unix", "inet", "fifo") and fields[4] == "y":
                fields[4] = "n"
                line = " ".join(fields)
            lines.append(line)
        (self.directory / "master.cf").write_text("\n".join(lines) + "\n" + self.services)
        self._postfix("start")
        wait_for_banner(self.port)

    def account(self, name: str, password: str) -> dict[str, str]:
        """Dovecot's auth service, which compares plain text: the peer at its quickest."""
        here = self.directory.parent / "dovecot"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        here.chmod(0o755)
        (here / "users").write_text(f"{name}:{{PLAIN}}{password}\n")
        (here / "dovecot.conf").write_text(_DOVECOT.replace("@HERE@", str(here)))
        self._dovecot = subprocess.Popen(["dovecot", "-F", "-c", here / "dovecot.conf"], stdout=subprocess.DEVNULL)
        return {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": str(here / "auth")}

    def stop(self) -> None:
        if self._dovecot is not None:
            self._dovecot.terminate()
            self._dovecot.wait(30)
            self._dovecot = None
        self._postfix("stop")

    def _postfix(self, command: str) -> None:
        done = subprocess.run(
            [*self.prefix, SBIN / "postfix", "-c", self.directory, command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"postfix {command}: {done.stderr}")
