"""Postfix with what Debian offers for checks of senders: opendkim, opendmarc and policyd-spf, or rspamd.

Each checks SPF, DKIM and DMARC of mail from strangers, and no more; names are those of one local resolver (unbound).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.servers import SBIN, Postfix

RESOLVER = "127.0.53.53"
AUTHSERV_ID = "bench.example"

# Programs that know no other way to name a resolver see this one in their /etc/resolv.conf.
_WITH_RESOLVER = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'

_UNBOUND = """\
server:
  interface: @RESOLVER@
  access-control: 127.0.0.0/8 allow
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  do-ip6: no
  num-threads: 1
  module-config: "iterator"
  local-zone: "." static
  local-data: ". 3600 IN SOA resolver.example. nobody.example. 1 3600 1200 604800 3600"
  local-data: ". 3600 IN NS resolver.example."
remote-control:
  control-enable: no
"""

_OPENDKIM = """\
Mode v
Socket local:@HERE@/opendkim.sock
UMask 000
UserID nobody:nogroup
AuthservID @ID@
AlwaysAddARHeader yes
Syslog yes
Nameservers @RESOLVER@
InternalHosts 192.0.2.1
"""

_OPENDMARC = """\
Socket local:@HERE@/opendmarc.sock
UMask 000
UserID nobody:nogroup
AuthservID @ID@
TrustedAuthservIDs @ID@
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
RejectFailures false
Syslog true
IgnoreHosts @HERE@/nobody
"""

_POLICYD_SPF = """\
debugLevel = 1
TestOnly = 1
HELO_reject = False
Mail_From_reject = False
PermError_reject = False
TempError_Defer = False
Header_Type = AR
Authserv_Id = @ID@
skip_addresses = 192.0.2.1/32
"""

_RSPAMD = """\
options {
  pidfile = "@HERE@/rspamd.pid";
  tempdir = "@HERE@";
  filters = "dkim";
  local_addrs = ["192.0.2.1"];
  url_tld = "@HERE@/suffixes";
  explicit_modules = [];
  dns { nameserver = ["@RESOLVER@:53:1"]; timeout = 2s; sockets = 16; retransmits = 5; }
  control_socket = "@HERE@/control.sock mode=0600";
  hs_cache_dir = "@HERE@";
}
logging { type = "file"; filename = "@HERE@/rspamd.log"; level = "warning"; }
modules {
  path = "/usr/share/rspamd/plugins/spf.lua";
  path = "/usr/share/rspamd/plugins/dmarc.lua";
  path = "/usr/share/rspamd/plugins/milter_headers.lua";
}
spf { check_local = true; spf_cache_size = 2k; spf_cache_expire = 1d; }
dkim { dkim_cache_size = 2k; dkim_cache_expire = 1d; trusted_only = false; check_local = true; }
dmarc { check_local = true; }
milter_headers { use = ["authentication-results"]; skip_local = false; skip_authenticated = false; }
actions { reject = 1000; }
worker "rspamd_proxy" {
  bind_socket = "@HERE@/rspamd.sock mode=0666";
  milter = yes;
  count = 2;
  upstream "local" { default = yes; self_scan = yes; }
}
"""


class NameServer:
    """unbound with records of its own, and nothing else: any other name does not exist."""

    def __init__(self, directory: Path, records: list[str]) -> None:
        self.directory = directory
        self._records = records
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        (self.directory / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        data = "".join(f"  local-data: '{record}'\n" for record in self._records)
        conf = _UNBOUND.replace("@RESOLVER@", RESOLVER).replace("remote-control:", f"{data}remote-control:")
        (self.directory / "unbound.conf").write_text(conf)
        self._process = subprocess.Popen(
            [SBIN / "unbound", "-d", "-c", self.directory / "unbound.conf"], stderr=subprocess.DEVNULL
        )
        _wait_until(self._answers, "unbound does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.2)
            # The root's SOA, recursion desired (RFC 1035 §4.1).
            asking.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\6\0\1", (RESOLVER, 53))
            try:
                return len(asking.recv(512)) > 12
            except OSError:
                return False

    @property
    def prefix(self) -> tuple[str | Path, ...]:
        """A command that runs another one with this resolver."""
        return ("unshare", "-m", "sh", "-c", _WITH_RESOLVER, "sh", self.directory / "resolv.conf")


class _PostfixWithMilters(Postfix):
    """``settings`` come on top of those of a work."""

    settings: Mapping[str, str]

    def __init__(self, directory: Path, names: NameServer) -> None:
        super().__init__(directory)
        self.prefix = names.prefix
        self.here = directory.with_name(f"{directory.name}-milters")
        self._milters: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        return [self.pid, *(milter.pid for milter in self._milters)]

    def start(self, settings: dict[str, str]) -> None:
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir(parents=True)
        self.here.chmod(0o777)
        self.start_milters()
        super().start({**settings, **self.settings, "milter_default_action": "tempfail"})

    def start_milters(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            for milter in self._milters:
                milter.terminate()
            for milter in self._milters:
                milter.wait(30)
            self._milters = []

    def run_milter(self, command: list[str | Path], its_socket: Path) -> None:
        # unshare and sh exec what they run, so the process is the milter itself.
        self._milters.append(
            subprocess.Popen([*self.prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        _wait_until(its_socket.exists, f"{command[0]} has not started")

    def configure(self, name: str, text: str) -> Path:
        path = self.here / name
        replaced = text.replace("@HERE@", str(self.here)).replace("@ID@", AUTHSERV_ID).replace("@RESOLVER@", RESOLVER)
        path.write_text(replaced)
        return path


class PostfixWithTrustedDomain(_PostfixWithMilters):
    """opendkim and opendmarc of the Trusted Domain Project, and policyd-spf: the pile that most guides set up."""

    name = "postfix-opendkim-opendmarc-spf"

    def start_milters(self) -> None:
        (self.here / "nobody").write_text("192.0.2.1\n")
        opendkim, opendmarc = self.here / "opendkim.sock", self.here / "opendmarc.sock"
        self.run_milter([SBIN / "opendkim", "-f", "-x", self.configure("opendkim.conf", _OPENDKIM)], opendkim)
        self.run_milter([SBIN / "opendmarc", "-f", "-c", self.configure("opendmarc.conf", _OPENDMARC)], opendmarc)
        policyd = self.configure("policyd-spf.conf", _POLICYD_SPF)
        self.services = f"policyd-spf unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd-spf {policyd}\n"
        self.settings = {
            "smtpd_recipient_restrictions": "check_policy_service unix:private/policyd-spf",
            "policyd-spf_time_limit": "3600",
            "smtpd_milters": f"unix:{opendkim}, unix:{opendmarc}",
        }


class PostfixWithRspamd(_PostfixWithMilters):
    """rspamd with its modules for SPF, DKIM and DMARC only, which checks in the process that speaks with Postfix."""

    name = "postfix-rspamd"

    def start_milters(self) -> None:
        rspamd = self.here / "rspamd.sock"
        # The whole list takes a minute to compile at each start. It is for links in the text, which nobody asks for.
        (self.here / "suffixes").write_text("com\nexample\nnet\norg\n")
        conf = self.configure("rspamd.conf", _RSPAMD)
        self.run_milter(["rspamd", "-f", "-u", "nobody", "-g", "nogroup", "-c", conf], rspamd)
        self.settings = {"smtpd_milters": f"unix:{rspamd}"}


def _wait_until(true: Callable[[], bool], otherwise: str, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(0.01)
