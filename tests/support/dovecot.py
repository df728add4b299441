"""A real Dovecot in a directory of its own, which takes mail by LMTP over a unix socket and over TCP."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.requirements import require_program, require_root
from support.running import free_port, wait_for

# Any user of any domain has a Maildir with a quota of 20 KiB; all belong to nobody.
_CONF = """\
base_dir = @HERE@/base
state_dir = @HERE@/base
protocols = lmtp
log_path = @HERE@/log
@SSL@
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
mail_location = maildir:@HERE@/mail/%n
mail_plugins = quota
first_valid_uid = 1
@PROXY@
passdb {
  driver = static
  args = nopassword=y @NEXT@
}
userdb {
  driver = static
  args = uid=@UID@ gid=@GID@ home=@HERE@/mail/%n allow_all_users=yes
}
plugin {
  quota = maildir:User quota
  quota_rule = *:storage=20K
  quota_grace = 0
}
service lmtp {
  unix_listener @HERE@/lmtp {
    mode = 0666
  }
  inet_listener lmtp {
    address = 127.0.0.1
    port = @PORT@
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
"""


class Dovecot:
    """``directory`` must be reachable for every user."""

    def __init__(self, directory: Path, certificate: tuple[Path, Path] | None = None, next_port: int = 0) -> None:
        """``certificate``: it and its key, with which Dovecot offers STARTTLS. ``next_port``: who gets all mail."""
        self.directory = directory
        self.socket = directory / "lmtp"
        self.port = free_port()
        mail = directory / "mail"
        mail.mkdir(parents=True)
        shutil.chown(mail, "nobody", "nogroup")
        values = {"@HERE@": str(directory), "@PORT@": str(self.port), "@UID@": "nobody", "@GID@": "nogroup"}
        values["@SSL@"] = "ssl = no"
        if certificate is not None:
            values["@SSL@"] = f"ssl = yes\nssl_cert = <{certificate[0]}\nssl_key = <{certificate[1]}"
        values["@PROXY@"] = "lmtp_proxy = yes" if next_port else ""
        values["@NEXT@"] = f"proxy=y host=127.0.0.1 port={next_port}" if next_port else ""
        text = _CONF
        for name, value in values.items():
            text = text.replace(name, value)
        (directory / "dovecot.conf").write_text(text)

    def mails(self, user: str) -> list[bytes]:
        """The messages in the inbox of a user."""
        folder = self.directory / "mail" / user / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as sock, socket.create_connection(("127.0.0.1", self.port), 5):
                sock.connect(str(self.socket))
                return sock.recv(3) == b"220"
        except OSError:
            return False


@contextlib.contextmanager
def running_dovecot(
    directory: Path, certificate: tuple[Path, Path] | None = None, *, next_port: int = 0
) -> Iterator[Dovecot]:
    require_root()
    program = require_program("dovecot")
    dovecot = Dovecot(directory, certificate, next_port)
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, "-F", "-c", str(directory / "dovecot.conf")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(dovecot.answers, "Dovecot to answer")
        yield dovecot
    finally:
        process.terminate()
        process.wait(20)
