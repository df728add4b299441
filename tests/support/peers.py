"""Mail servers that others wrote, on a loopback port: Debian's Postfix and Debian's Exim, as next hop or as sender.

Each keeps what it takes in a mailbox for every address, or relays it to one ``next_hop`` ("127.0.0.1:25").
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.postfix import MASTER_CF
from support.requirements import require_program, require_root, require_that
from support.running import free_port, open_directory, wait_for

_EXIM_ROOT = Path(os.environ.get("EKIDEN_EXIM_CACHE", "/var/cache/ekiden-tests/exim"), "root")


class Peer:
    """``directory`` is gone when the server is; the addresses of mails() are as the server got them."""

    def __init__(self, directory: Path, log_file: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._log_file = log_file

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace") if self._log_file.exists() else ""

    def mails(self, address: str) -> list[bytes]:
        """What came for an address, lines ended by LF, in no order."""
        name = re.compile(rb"^(?:Delivered-To|Envelope-to): " + re.escape(address.encode()) + rb"$", re.MULTILINE)
        return [mail for mail in self.all_mails() if name.search(mail.partition(b"\n\n")[0]) is not None]

    def all_mails(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.directory / "mail").glob("all/new/*")]

    def wait_for_mail(self, address: str, count: int = 1) -> list[bytes]:
        wait_for(lambda: len(self.mails(address)) >= count, f"{count} mails for {address}:\n{self.log}")
        return self.mails(address)


@contextlib.contextmanager
def running_postfix(
    main_cf: Mapping[str, str] | None = None, *, next_hop: str = "", master_cf: Sequence[str] = ()
) -> Iterator[Peer]:
    """``main_cf`` goes before what every instance has; ``master_cf`` are lines beside its services."""
    require_root()
    program = require_program("postfix")
    with open_directory() as directory:
        peer = Peer(directory, directory / "log")
        for made in ("etc", "queue", "data", "mail"):
            (directory / made).mkdir()
        shutil.chown(directory / "data", "postfix")
        shutil.chown(directory / "mail", "nobody")
        if next_hop:
            way = {"local_transport": f"smtp:{next_hop}", "default_transport": f"smtp:{next_hop}"}
        else:
            way = {
                "default_transport": "virtual",
                "virtual_mailbox_base": str(directory / "mail"),
                "virtual_mailbox_maps": "static:all/",
                "virtual_uid_maps": "static:65534",
                "virtual_gid_maps": "static:65534",
            }
        settings = {
            "compatibility_level": "3.6",
            "myhostname": "mx.here.test",
            "mydomain": "here.test",
            "mydestination": "",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(directory / "log"),
            "maillog_file_prefixes": str(directory),
            "mynetworks": "127.0.0.0/8",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "local_recipient_maps": "",
            "smtpd_client_connection_count_limit": "0",
            **way,
            **(main_cf or {}),
        }
        (directory / "etc" / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        services = MASTER_CF.replace("smtp       inet", f"127.0.0.1:{peer.port} inet")
        (directory / "etc" / "master.cf").write_text(services + "".join(f"{line}\n" for line in master_cf))
        command = [program, "-c", str(directory / "etc")]
        done = subprocess.run([*command, "start"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        try:
            wait_for(lambda: "daemon started" in peer.log, "a running Postfix")
            yield peer
        finally:
            subprocess.run([*command, "stop"], capture_output=True, check=False, timeout=60)


_EXIM_MAIN = """\
exim_path = {program}
keep_environment = LD_LIBRARY_PATH
spool_directory = {directory}/spool
log_file_path = {directory}/log/%s
pid_file_path = {directory}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
primary_hostname = exim.test
qualify_domain = exim.test
never_users =
deliver_drop_privilege = true
trusted_users = root
host_lookup =
rfc1413_query_timeout = 0s
smtp_enforce_sync = false
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
acl_smtp_rcpt = everything
acl_smtp_data = everything
acl_smtp_vrfy = everything
acl_smtp_expn = everything
acl_smtp_etrn = everything
{main}
begin acl
everything:
  accept
{acl}
begin routers
{routers}
begin transports
{transports}
begin retry
* * F,1h,1s
begin authenticators
{authenticators}
"""
_EXIM_MAILBOX = """\
mailbox:
  driver = appendfile
  directory = {directory}/mail/all
  maildir_format
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim
"""
_EXIM_NEXT_HOP = """\
next_hop:
  driver = smtp
  allow_localhost
  port = {port}
  hosts_try_fastopen =
  {transport}
"""


class Exim(Peer):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory, directory / "log" / "main")
        self.program = str(_EXIM_ROOT / "usr" / "sbin" / "exim4")
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(_EXIM_ROOT / "usr" / "lib")}

    def command(self, *arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """``exim ARGUMENTS`` with this server's configuration: "-i", "-f", "a@b.test", "c@d.test" sends mail."""
        configuration = str(self.directory / "exim.conf")
        return subprocess.run(
            [self.program, "-C", configuration, *arguments],
            input=content, capture_output=True, env=self.environment, check=False, timeout=60,
        )  # fmt: skip


@contextlib.contextmanager
def running_exim(
    main: Sequence[str] = (),
    *,
    next_hop: str = "",
    transport: Sequence[str] = (),
    acl: Sequence[str] = (),
    authenticators: Sequence[str] = (),
    resolver: str = "",
) -> Iterator[Exim]:
    """``main``, ``acl`` and ``authenticators`` are lines of those parts of its configuration, ``transport`` options of
    the smtp transport to ``next_hop``. In main an option must not stand twice. ``resolver``: the address of the name
    server that it asks, at port 53, in place of this host's.
    """
    require_root()
    require_that((_EXIM_ROOT.parent / "complete").exists(), "Exim is not unpacked (sh tests/install-exim.sh)")
    with open_directory() as directory:
        exim = Exim(directory)
        for made in ("spool", "log", "mail"):
            (directory / made).mkdir()
            shutil.chown(directory / made, "Debian-exim", "Debian-exim")
        if next_hop:
            host, _, port = next_hop.rpartition(":")
            routers = (
                f'all:\n  driver = manualroute\n  route_list = "* {host} byname"\n  self = send\n  transport = next_hop'
            )
            transports = _EXIM_NEXT_HOP.format(port=port, transport="\n  ".join(transport))
        else:
            routers = "all:\n  driver = accept\n  transport = mailbox"
            transports = _EXIM_MAILBOX.format(directory=directory)
        given = {line.partition("=")[0].strip() for line in main}
        text = _EXIM_MAIN.format(
            program=exim.program, directory=directory, port=exim.port, main="\n".join(main), acl="\n".join(acl),
            routers=routers, transports=transports, authenticators="\n".join(authenticators),
        )  # fmt: skip
        own, rest = text.split("acl_smtp_rcpt", 1)
        kept = [line for line in own.splitlines() if line.partition("=")[0].strip() not in given]
        (directory / "exim.conf").write_text("\n".join(kept) + "\nacl_smtp_rcpt" + rest)
        with (directory / "output").open("wb") as output:
            process = subprocess.Popen(
                [*_asking(resolver, directory), exim.program, "-C", str(directory / "exim.conf"), "-bdf", "-q2s"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=exim.environment, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for(lambda: process.poll() is not None or "listening for SMTP" in exim.log, "a running Exim")
            assert process.poll() is None, (directory / "output").read_text()
            yield exim
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _asking(resolver: str, directory: Path) -> list[str]:
    """What to write before a command whose resolver library shall ask another name server than the host's."""
    if not resolver:
        return []
    (directory / "resolv.conf").write_text(f"nameserver {resolver}\n")
    bind = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", bind, "sh", str(directory / "resolv.conf")]
