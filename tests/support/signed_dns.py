"""DNSSEC on loopback: zones signed by ldns-signzone, served by nsd, validated by unbound, which is whom clients ask."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.nsd import free_port, write_nsd
from support.requirements import require_program
from support.running import wait_for


@contextlib.contextmanager
def running_signed_dns(
    folder: Path,
    zones: Mapping[str, str],
    *,
    unsigned: Mapping[str, str] | None = None,
    forged: Mapping[str, tuple[str, str]] | None = None,
) -> Iterator[str]:
    """Serve ``zones`` signed and ``unsigned`` as they are (origin -> records; SOA and NS are added).

    ``forged``: what is replaced in a signed zone's text after it was signed, so that it is bogus there.
    Gives address:port of the validating resolver, for dns_resolvers.
    """
    programs = [require_program(name) for name in ("nsd", "unbound", "ldns-keygen", "ldns-signzone")]
    nsd, unbound, keygen, signzone = programs
    folder.mkdir(exist_ok=True)
    authority, resolver = free_port(), free_port()
    config = write_nsd(folder, {**zones, **(unsigned or {})}, "127.0.0.1", authority)
    anchors = [_sign(folder, origin, keygen, signzone) for origin in zones]
    for origin, (old, new) in (forged or {}).items():
        zone = folder / f"{origin}.zone"
        text = zone.read_text()
        assert old in text, f"{old!r} is not in the signed zone {origin}:\n{text}"
        zone.write_text(text.replace(old, new))
    (folder / "unbound.conf").write_text(_unbound_conf([*zones, *(unsigned or {})], anchors, resolver, authority))
    commands = {"nsd": [nsd, "-d", "-c", str(config)], "unbound": [unbound, "-d", "-c", str(folder / "unbound.conf")]}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as output:
                processes.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder))

        def serve() -> bool:
            said = "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))
            assert all(process.poll() is None for process in processes), said
            return "nsd started" in said and "start of service" in said

        wait_for(serve, "running name servers")
        yield f"127.0.0.1:{resolver}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def _sign(folder: Path, origin: str, keygen: str, signzone: str) -> str:
    """Sign a zone file in place; gives the DS record that a resolver starts to trust at."""

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    zone = f"{origin}.zone"
    key = run(keygen, "-k", "-a", "ECDSAP256SHA256", origin)
    run(signzone, "-n", "-f", f"{zone}.signed", zone, key)
    (folder / f"{zone}.signed").replace(folder / zone)
    return " ".join((folder / f"{key}.ds").read_text().split())


def _unbound_conf(zones: list[str], anchors: list[str], resolver: int, authority: int) -> str:
    lines = [
        "server:",
        f"  interface: 127.0.0.1@{resolver}",
        '  username: ""\n  chroot: ""\n  directory: ""\n  pidfile: ""\n  use-syslog: no\n  verbosity: 1',
        "  do-ip6: no\n  num-threads: 1\n  so-reuseport: no\n  do-not-query-localhost: no",
        '  module-config: "validator iterator"\n  val-bogus-ttl: 1\n  minimal-responses: no',
    ]
    # Nobody outside is asked for anything; and names such as .test are answered with NXDOMAIN unless it is told to ask.
    lines.append('  local-zone: "." static')
    tops = sorted({zone.rpartition(".")[2] for zone in zones})
    lines += [f'  local-zone: "{top}." transparent' for top in tops]
    lines += [f'  trust-anchor: "{anchor}"' for anchor in anchors]
    lines.append("remote-control:\n  control-enable: no")
    lines += [f'stub-zone:\n  name: "{zone}"\n  stub-addr: 127.0.0.1@{authority}' for zone in zones]
    return "\n".join(lines) + "\n"
