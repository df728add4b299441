"""DNS as hosts know it: a recursive resolver (unbound) that they ask, in front of an authoritative server (nsd)."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.network import Namespace
from support.nsd import write_nsd
from support.requirements import require_program
from support.running import wait_for


@contextlib.contextmanager
def running_dns(
    host: Namespace, folder: Path, zones: Mapping[str, str], *, resolver: str, authority: str
) -> Iterator[None]:
    """Serve ``zones`` (origin -> records; SOA and NS are added) on ``host``, at port 53 of two of its addresses.

    ``resolver``: whom clients ask. It follows delegations; of names outside of ``zones`` it knows nothing.
    """
    folder.mkdir(exist_ok=True)
    unbound = folder / "unbound.conf"
    unbound.write_text(_unbound_conf(zones, resolver, authority))
    commands = {
        "nsd": [require_program("nsd"), "-d", "-c", str(write_nsd(folder, zones, authority, 53))],
        "unbound": [require_program("unbound"), "-d", "-p", "-c", str(unbound)],
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as output:
                processes.append(subprocess.Popen([*host.enter, *command], stdout=output, stderr=subprocess.STDOUT))

        def serve() -> bool:
            said = logs(folder)
            assert all(process.poll() is None for process in processes), said
            return "nsd started" in said and "start of service" in said

        wait_for(serve, "running name servers")
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def logs(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')}" for path in sorted(folder.glob("*.log")))


def _unbound_conf(zones: Mapping[str, str], resolver: str, authority: str) -> str:
    lines = [
        "server:",
        f"  interface: {resolver}",
        "  access-control: 0.0.0.0/0 allow",
        '  username: ""\n  chroot: ""\n  pidfile: ""\n  use-syslog: no\n  verbosity: 1',
        "  do-ip6: no\n  num-threads: 1\n  so-reuseport: no",
        '  module-config: "iterator"',
    ]
    # Names such as .test and private addresses are answered with NXDOMAIN unless it is told to ask.
    lines += [f'  local-zone: "{zone}." nodefault' for zone in {*zones, "10.in-addr.arpa"}]
    lines.append("remote-control:\n  control-enable: no")
    lines += [f'stub-zone:\n  name: "{zone}"\n  stub-addr: {authority}' for zone in zones]
    return "\n".join(lines) + "\n"
