"""Real database servers on loopback in a directory of their own: MariaDB, PostgreSQL, OpenLDAP, memcached, Redis.

Each can be stopped, started again at the same address, and frozen. Those that refuse to run as root run as nobody.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from support.requirements import require_program, require_that

_DEADLINE_S = 30.0


class DatabaseServer:
    """A server process that listens at 127.0.0.1:``port``; ``socket`` is its socket's path where it has one."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        port: int,
        socket_path: str = "",
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGKILL,
        ready: Callable[[], object] | None = None,
    ) -> None:
        """``ready`` raises as long as a server that takes connections does not answer yet."""
        self._ready = ready
        self._stop_signal = stop_signal
        self.port, self.socket, self.folder = port, socket_path, folder
        self._command, self._user = command, user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.folder, user=self._user
            )
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(Exception), socket.create_connection(("127.0.0.1", self.port), 1):
                if self._ready is not None:
                    self._ready()
                return
            time.sleep(0.02)
        raise AssertionError(f"{self._command[0]} does not serve: {log.read_text(errors='replace')}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(self._stop_signal)
            self._process.wait(_DEADLINE_S)
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections are taken by the kernel, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def folder_for_server() -> Iterator[tuple[Path, str | None]]:
    """A directory with a short name, and who a server that refuses to be root runs as there."""
    folder = Path(tempfile.mkdtemp(prefix="ekiden-db-", dir="/var/tmp"))
    folder.chmod(0o755)
    user = None
    if os.geteuid() == 0:
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    try:
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(server: DatabaseServer) -> Iterator[DatabaseServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def running_mariadb(*options: str) -> Iterator[DatabaseServer]:
    """root logs in at the socket without a password."""
    server, install = require_program("mariadbd"), require_program("mariadb-install-db")
    with folder_for_server() as (folder, user):
        data = f"--datadir={folder}/data"
        subprocess.run(
            [install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True, user=user, cwd=folder, timeout=_DEADLINE_S,
        )  # fmt: skip
        port, path = free_port(), f"{folder}/sock"
        command = [server, "--no-defaults", data, f"--socket={path}", f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--pid-file={folder}/pid", "--skip-name-resolve", "--innodb-buffer-pool-size=16M", *options]
        with _running(DatabaseServer(command, folder, port, path, user)) as running:
            yield running


@contextlib.contextmanager
def running_postgres() -> Iterator[DatabaseServer]:
    """The user "mail" is the superuser and logs in without a password; "asks" must give one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    require_that(bool(found), "postgres is not installed (see tests/apt-packages.txt)")
    programs = found[-1].parent
    with folder_for_server() as (folder, user):
        options = ["-U", "mail", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        subprocess.run(
            [programs / "initdb", "-D", f"{folder}/data", *options],
            check=True, capture_output=True, user=user, cwd=folder, timeout=_DEADLINE_S,
        )  # fmt: skip
        hba = folder / "data" / "pg_hba.conf"
        hba.write_text("host all asks 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
        port = free_port()
        command = [str(programs / "postgres"), "-D", f"{folder}/data", "-p", str(port), "-k", str(folder)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=8MB"]
        path = f"{folder}/.s.PGSQL.{port}"

        def ready() -> None:
            psycopg.connect(f"host={folder} port={port} user=mail dbname=postgres").close()

        with _running(DatabaseServer(command, folder, port, path, user, signal.SIGINT, ready)) as running:
            yield running


@contextlib.contextmanager
def running_slapd(ldif: str, *, database: str = "", general: str = "") -> Iterator[DatabaseServer]:
    """Serves dc=example with the entries of ``ldif``; cn=admin,dc=example logs in with the password "secret"."""
    slapd, slapadd = require_program("slapd"), require_program("slapadd")
    with folder_for_server() as (folder, _):
        (folder / "db").mkdir()
        schemas = "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
        conf = folder / "slapd.conf"
        conf.write_text(
            f"{schemas}modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {folder}/pid\n{general}\n"
            f'database mdb\nsuffix "dc=example"\nrootdn "cn=admin,dc=example"\nrootpw secret\ndirectory {folder}/db\n'
            f"{database}\n"
        )
        subprocess.run(
            [slapadd, "-q", "-f", str(conf)], input=ldif.encode(), check=True, capture_output=True, timeout=_DEADLINE_S
        )
        port, path = free_port(), f"{folder}/ldapi"
        addresses = f"ldap://127.0.0.1:{port}/ ldapi://{path.replace('/', '%2F')}/"
        command = [slapd, "-d", "0", "-f", str(conf), "-h", addresses]
        with _running(DatabaseServer(command, folder, port, path)) as running:
            yield running


@contextlib.contextmanager
def running_memcached() -> Iterator[DatabaseServer]:
    program = require_program("memcached")
    with folder_for_server() as (folder, user):
        port = free_port()
        command = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "8", "-u", user or ""]
        with _running(DatabaseServer(command if user else command[:-2], folder, port)) as running:
            yield running


@contextlib.contextmanager
def running_redis(*options: str) -> Iterator[DatabaseServer]:
    program = require_program("redis-server")
    with folder_for_server() as (folder, user):
        port, path = free_port(), f"{folder}/redis"
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", "", *options]
        with _running(DatabaseServer(command, folder, port, path, user)) as running:
            yield running


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
