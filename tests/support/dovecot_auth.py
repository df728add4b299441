"""A real Dovecot that only answers logins, at an auth socket for other servers."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.requirements import require_program, require_root
from support.running import free_port, wait_for

_CONF = """\
base_dir = @HERE@/base
state_dir = @HERE@/base
protocols =
log_path = @HERE@/log
ssl = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
disable_plaintext_auth = yes
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 external
auth_username_format = %Lu
auth_master_user_separator =
auth_failure_delay = 0
auth_ssl_username_from_cert = yes
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
  inet_listener {
    address = 127.0.0.1
    port = @PORT@
  }
}
# Without it a client that failed waits longer each time.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
"""


class DovecotAuth:
    """``socket`` and 127.0.0.1:``port`` speak the auth protocol. ``users`` is a passwd-file."""

    def __init__(self, directory: Path, users: str) -> None:
        self.directory = directory
        self.socket = directory / "auth"
        self.port = free_port()
        (directory / "users").write_text(users)
        (directory / "users").chmod(0o644)
        text = _CONF.replace("@HERE@", str(directory)).replace("@PORT@", str(self.port))
        (directory / "dovecot.conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = require_program("dovecot")
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [program, "-F", "-c", str(self.directory / "dovecot.conf")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        wait_for(self.answers, f"Dovecot to answer: {(self.directory / 'output').read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(str(self.socket))
                return sock.recv(7) == b"VERSION"
        except OSError:
            return False


@contextlib.contextmanager
def running_dovecot_auth(users: str) -> Iterator[DovecotAuth]:
    """In a directory that every user can reach."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="ekiden-dovecot-") as folder:
        directory = Path(folder)
        shutil.chown(directory, "root")
        directory.chmod(0o755)
        dovecot = DovecotAuth(directory, users)
        dovecot.start()
        try:
            yield dovecot
        finally:
            dovecot.stop()
