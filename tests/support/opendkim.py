"""Debian's opendkim as a milter on a loopback port: it signs what Postfix takes, or says what it found."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.requirements import require_program, require_root
from support.running import free_port, open_directory, wait_for


@contextlib.contextmanager
def running_opendkim(
    mode: str, name_server: str, *, keys: Mapping[tuple[str, str], bytes] | None = None, settings: str = ""
) -> Iterator[str]:
    """Its address, for smtpd_milters. ``mode``: s signs, v verifies. ``name_server``: address:port, for names in test.

    ``keys``: PEM text by domain and selector, all of the algorithm that ``settings`` name (else rsa-sha256).
    ``settings``: more lines of its configuration.
    """
    require_root()
    program = require_program("opendkim")
    with open_directory() as directory:
        port = free_port()
        log = directory / "output"
        configuration = _write(directory, mode, name_server, keys or {}, port, settings)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "-f", "-v", "-x", str(configuration)], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_for(lambda: _listens(process, port, log), "a running opendkim")
            yield f"inet:127.0.0.1:{port}"
        finally:
            process.kill()  # libmilter looks only every few seconds whether it shall end
            process.wait(20)


def _write(
    directory: Path, mode: str, name_server: str, keys: Mapping[tuple[str, str], bytes], port: int, settings: str
) -> Path:
    server, _, server_port = name_server.rpartition(":")
    (directory / "unbound.conf").write_text(
        'server:\n  do-not-query-localhost: no\n  module-config: "iterator"\n  local-zone: "test." nodefault\n'
        f'stub-zone:\n  name: "test."\n  stub-addr: {server}@{server_port}\n'
    )
    key_table, signing_table = "", ""
    for (domain, selector), pem in keys.items():
        file = directory / f"{selector}.private"
        file.write_bytes(pem)
        file.chmod(0o600)
        key_table += f"{selector}.{domain} {domain}:{selector}:{file}\n"
        signing_table += f"*@{domain} {selector}.{domain}\n"
    (directory / "KeyTable").write_text(key_table)
    (directory / "SigningTable").write_text(signing_table)
    tables = f"KeyTable {directory}/KeyTable\nSigningTable refile:{directory}/SigningTable\n" if keys else ""
    configuration = directory / "opendkim.conf"
    configuration.write_text(
        f"Socket inet:{port}@127.0.0.1\nMode {mode}\nSyslog yes\nSyslogSuccess yes\nUserID root\n"
        f"ResolverConfiguration {directory}/unbound.conf\nAuthservID opendkim.test\nMultipleSignatures yes\n"
        f"PidFile {directory}/pid\nTemporaryDirectory {directory}\n"
        f"RequireSafeKeys no\nAlwaysAddARHeader yes\n{tables}{settings}\n"
    )
    return configuration


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text("utf-8", "replace")
    # Asked of the kernel, because a connection would be a milter session.
    listening = f"0100007F:{port:04X} 00000000:0000 0A"
    return listening in Path("/proc/net/tcp").read_text()
