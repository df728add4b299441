"""A real Cyrus in a directory of its own, which takes mail by LMTP over a unix socket for a fixed list of users."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.requirements import require_program, require_root
from support.running import wait_for

QUOTA_KIB = 20

# A user's mailbox is made when the first message for it comes (imapd.conf(5), autocreate_*); all others are unknown.
# A message that would not fit is refused, not only one for a mailbox that is full already (lmtp_strict_quota).
# The suppression of duplicates is off: while its database is new, two deliveries of one message at the same time can
# count as duplicates of each other although they are for different users, and one mail is gone after a 250.
_IMAPD_CONF = """\
configdirectory: @HERE@/state
partition-default: @HERE@/spool
mailbox_legacy_dirs: yes
hashimapspool: no
sievedir: @HERE@/state/sieve
lmtpsocket: @HERE@/state/lmtp
virtdomains: userid
defaultdomain: @DEFAULT_DOMAIN@
unixhierarchysep: yes
duplicatesuppression: no
lmtp_downcase_rcpt: yes
lmtp_strict_quota: yes
lmtp_over_quota_perm_failure: @FULL_IS_PERMANENT@
autocreate_post: yes
autocreate_quota: @QUOTA@
autocreate_users: @USERS@
"""

# The master does not tell its services which imapd.conf it was given itself: each command names it.
_CYRUS_CONF = """\
START {
  recover cmd="ctl_cyrusdb -C @HERE@/imapd.conf -r"
}
SERVICES {
  lmtpunix cmd="lmtpd -C @HERE@/imapd.conf" listen="@HERE@/state/lmtp" prefork=1
}
EVENTS {
}
"""


class Cyrus:
    """``directory`` must be reachable for every user.

    ``users`` may have a mailbox: an address, or the bare name of a user of ``default_domain``.
    ``full_is_permanent``: a mailbox over its quota answers 552 instead of Cyrus's default 452.
    """

    def __init__(
        self, directory: Path, users: Sequence[str], default_domain: str, *, full_is_permanent: bool = False
    ) -> None:
        self.directory = directory
        self.socket = directory / "state" / "lmtp"
        directory.mkdir(parents=True)
        values = {
            "@HERE@": str(directory),
            "@DEFAULT_DOMAIN@": default_domain,
            "@FULL_IS_PERMANENT@": "yes" if full_is_permanent else "no",
            "@QUOTA@": str(QUOTA_KIB),
            "@USERS@": " ".join(users),
        }
        for name, text in (("imapd.conf", _IMAPD_CONF), ("cyrus.conf", _CYRUS_CONF)):
            for word, value in values.items():
                text = text.replace(word, value)
            (directory / name).write_text(text)

    def mails(self, user: str) -> list[bytes]:
        """The messages in the inbox of a user, oldest first: Cyrus names their files ``1.``, ``2.`` ..."""
        name, _, domain = user.partition("@")
        folder = self.directory / "spool" / (f"domain/{domain}/user/{name}" if domain else f"user/{name}")
        found = [path for path in folder.glob("*.") if path.name[:-1].isdigit()]
        return [path.read_bytes() for path in sorted(found, key=lambda path: int(path.name[:-1]))]

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(str(self.socket))
                return sock.recv(3) == b"220"
        except OSError:
            return False


@contextlib.contextmanager
def running_cyrus(
    directory: Path, users: Sequence[str], default_domain: str, *, full_is_permanent: bool = False
) -> Iterator[Cyrus]:
    require_root()
    program = require_program("cyrmaster")
    cyrus = Cyrus(directory, users, default_domain, full_is_permanent=full_is_permanent)
    state = directory / "state"
    for folder in (state, state / "db", state / "proc", state / "socket", directory / "spool"):
        folder.mkdir()
    for folder in (state, *state.iterdir(), directory / "spool"):
        shutil.chown(folder, "cyrus", "mail")
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, "-D", "-C", str(directory / "imapd.conf"), "-M", str(directory / "cyrus.conf"),
             "-p", str(state / "pid")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            user="cyrus", group="mail", extra_groups=[], start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(cyrus.answers, "Cyrus to answer")
        yield cyrus
    finally:
        process.terminate()
        process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
