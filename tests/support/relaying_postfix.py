"""Debian's Postfix on a loopback port, which relays all that it takes to one next hop."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from support.postfix import MASTER_CF
from support.requirements import require_program, require_root
from support.running import free_port, open_directory, wait_for


@contextlib.contextmanager
def relaying_postfix(next_hop: str, main_cf: Mapping[str, str]) -> Iterator[int]:
    """Its port. ``main_cf`` goes before what every instance has."""
    require_root()
    program, port = require_program("postfix"), free_port()
    with open_directory() as directory:
        for made in ("etc", "queue", "data"):
            (directory / made).mkdir()
        shutil.chown(directory / "data", "postfix")
        log = directory / "log"
        settings = {
            "compatibility_level": "3.6",
            "myhostname": "mx.here.test",
            "mydomain": "here.test",
            "mydestination": "",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(log),
            "maillog_file_prefixes": str(directory),
            "mynetworks": "127.0.0.0/8",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "local_recipient_maps": "",
            "local_transport": f"smtp:{next_hop}",
            "default_transport": f"smtp:{next_hop}",
            "smtpd_client_connection_count_limit": "0",
            **main_cf,
        }
        (directory / "etc" / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        master = MASTER_CF.replace("smtp       inet", f"127.0.0.1:{port} inet")
        (directory / "etc" / "master.cf").write_text(master)
        command = [program, "-c", str(directory / "etc")]
        done = subprocess.run([*command, "start"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        try:
            wait_for(lambda: log.exists() and "daemon started" in log.read_text(), "a running Postfix")
            yield port
        finally:
            subprocess.run([*command, "stop"], capture_output=True, check=False, timeout=60)
