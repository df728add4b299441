"""A real authoritative name server (nsd) on a free loopback port, with the zones of a test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.requirements import require_program

_DEADLINE_S = 20.0


@contextlib.contextmanager
def running_nsd(folder: Path, zones: Mapping[str, str], *, address: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve ``zones`` (origin -> records; SOA and NS are added); gives address:port for dns_resolvers.

    Programs that know name servers at port 53 only need an ``address`` that nobody else of this host uses.
    """
    nsd = require_program("nsd")
    port = port or free_port()
    config = write_nsd(folder, zones, address, port)
    log = folder / "nsd.log"
    with log.open("wb") as output:
        process = subprocess.Popen([nsd, "-d", "-c", str(config)], stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(address, port, process, log)
        yield f"{address}:{port}"
    finally:
        process.terminate()
        process.wait(_DEADLINE_S)


def write_nsd(folder: Path, zones: Mapping[str, str], address: str, port: int) -> Path:
    """The configuration file, and the zone files beside it, of a server for ``zones`` at ``address``."""
    parts = [
        f'server:\n  ip-address: {address}@{port}\n  username: ""\n  chroot: ""\n  zonesdir: "{folder}"\n'
        f'  pidfile: "{folder}/nsd.pid"\n  xfrdfile: "{folder}/xfrd.state"\n  zonelistfile: "{folder}/zone.list"\n'
        f'  xfrdir: "{folder}"\n  database: ""\n  server-count: 1\n  rrl-ratelimit: 0\n'
        "remote-control:\n  control-enable: no\n"
    ]
    for origin, records in zones.items():
        (folder / f"{origin}.zone").write_text(
            f"$ORIGIN {origin}.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A {address}\n{records}\n"
        )
        parts.append(f'zone:\n  name: "{origin}"\n  zonefile: "{origin}.zone"\n')
    config = folder / "nsd.conf"
    config.write_text("".join(parts))
    return config


def free_port() -> int:
    """A port that is free for TCP and UDP now."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


def _wait_for(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nsd does not serve: {log.read_text(errors='replace')}")
