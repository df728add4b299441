"""Debian's Postfix as an instance of its own, on a host of a private network, with one virtual mailbox domain."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from support.network import Namespace
from support.requirements import require_program
from support.running import wait_for

# service, type, private, unprivileged, chroot, wake-up, process limit, command
MASTER_CF = """\
smtp       inet n - n -    - smtpd
pickup     unix n - n 60   1 pickup
cleanup    unix n - n -    0 cleanup
qmgr       unix n - n 300  1 qmgr
rewrite    unix - - n -    - trivial-rewrite
bounce     unix - - n -    0 bounce
defer      unix - - n -    0 bounce
trace      unix - - n -    0 bounce
verify     unix - - n -    1 verify
flush      unix n - n 1000? 0 flush
proxymap   unix - - n -    - proxymap
proxywrite unix - - n -    1 proxymap
smtp       unix - - n -    - smtp
relay      unix - - n -    - smtp
showq      unix n - n -    - showq
error      unix - - n -    - error
retry      unix - - n -    - error
discard    unix - - n -    - discard
local      unix - n n -    - local
virtual    unix - n n -    - virtual
anvil      unix - - n -    1 anvil
scache     unix - - n -    1 scache
postlog    unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """``log`` is its mail log; ``resolver`` is in its resolv.conf, whatever the machine's own says."""

    def __init__(self, host: Namespace, directory: Path, main_cf: Mapping[str, str], *, resolver: str) -> None:
        self.host = host
        self.directory = directory
        self.log_file = directory / "log"
        self._program = require_program("postfix")
        data = directory / "data"
        for made in (directory / "etc", directory / "queue", data):
            made.mkdir(parents=True)
        shutil.chown(data, "postfix")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(data),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(directory),
            "mynetworks": "127.0.0.0/8",
            "mydestination": "",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "local_recipient_maps": "",
            **main_cf,
        }
        (directory / "etc" / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (directory / "etc" / "master.cf").write_text(MASTER_CF)
        self._resolv_conf = directory / "resolv.conf"
        self._resolv_conf.write_text(f"nameserver {resolver}\n")

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start it; it listens when this returns. It ends with the host's other processes."""
        # `ip netns exec` gives the command a mount namespace of its own, whose mounts the machine does not see.
        bind = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
        etc = str(self.directory / "etc")
        self.host.run("sh", "-c", bind, "sh", str(self._resolv_conf), self._program, "-c", etc, "start")
        wait_for(lambda: "daemon started" in self.log, f"a running Postfix:\n{self.log}")
