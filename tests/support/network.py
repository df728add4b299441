"""A network of a test's own: namespaces on a bridge, of which the machine's network knows nothing.

Nothing leaves it: no interface of it lies in the machine's own namespace. It needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

from support.requirements import require_program, require_root, require_that

_DEADLINE_S = 10.0
_BRIDGE = "bridge"


class Namespace:
    """A host of the network. ``address`` is its only one beside the loopback's."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    @property
    def enter(self) -> tuple[str, ...]:
        """What to write before a command so that it runs on this host; the process is the command's own."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *command: str, data: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on this host with ``data`` as its input. With ``check`` a failure fails the test."""
        done = subprocess.run([*self.enter, *command], input=data, capture_output=True, timeout=60, check=False)
        output, errors = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode} on {self.name}:\n{output}{errors}")
        return subprocess.CompletedProcess(command, done.returncode, output, errors)

    def kill_all(self) -> None:
        """End every process that runs on this host, and wait until all are gone."""
        end = time.monotonic() + _DEADLINE_S
        while pids := _ip("netns", "pids", self.name).split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            assert time.monotonic() < end, f"processes that SIGKILL does not end: {pids}"
            time.sleep(0.01)


class Network:
    """``hub`` holds the bridge that all hosts are connected to; ``add`` makes hosts."""

    def __init__(self, hub: Namespace, prefix: str, length: int) -> None:
        self.hub = hub
        self.hosts: list[Namespace] = []
        self._prefix = prefix
        self._length = length

    def add(self, name: str, address: str) -> Namespace:
        """A new host, connected and up."""
        host = Namespace(f"{self._prefix}-{name}", address)
        _ip("netns", "add", host.name)
        self.hosts.append(host)
        port = f"to-{name}"
        peer = ("type", "veth", "peer", "name", "eth0", "netns", host.name)
        _ip("-n", self.hub.name, "link", "add", "name", port, *peer)
        _ip("-n", self.hub.name, "link", "set", port, "master", _BRIDGE, "up")
        _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", host.name, "address", "add", f"{address}/{self._length}", "dev", "eth0")
        _ip("-n", host.name, "link", "set", "eth0", "up")
        return host

    def add_hub_address(self, address: str) -> None:
        _ip("-n", self.hub.name, "address", "add", f"{address}/{self._length}", "dev", _BRIDGE)

    def make_silent(self, address: str) -> None:
        """An address that swallows what is sent to it, as behind a firewall that drops.

        Without an entry in their neighbour tables the hosts would be told that nobody has it.
        """
        for host, device in ((self.hub, _BRIDGE), *((host, "eth0") for host in self.hosts)):
            entry = (address, "lladdr", "02:00:00:00:00:01", "dev", device, "nud", "permanent")
            _ip("-n", host.name, "neighbour", "replace", *entry)


@contextlib.contextmanager
def private_network(hub_address: str, length: int = 24) -> Iterator[Network]:
    """A network with a hub; in the end all of its processes and namespaces are gone. Skips where it cannot be made."""
    require_root()
    require_program("ip")
    prefix = f"ekiden-test-{os.getpid()}"
    hub = Namespace(f"{prefix}-hub", hub_address)
    made = subprocess.run(["ip", "netns", "add", hub.name], capture_output=True, text=True, check=False)
    require_that(made.returncode == 0, f"network namespaces cannot be made here: {made.stderr.strip()}")
    network = Network(hub, prefix, length)
    try:
        _ip("-n", hub.name, "link", "set", "lo", "up")
        _ip("-n", hub.name, "link", "add", _BRIDGE, "type", "bridge")
        # Ports forward at once rather than after the bridge's delay to learn about loops.
        _ip("-n", hub.name, "link", "set", _BRIDGE, "type", "bridge", "forward_delay", "0")
        _ip("-n", hub.name, "link", "set", _BRIDGE, "up")
        network.add_hub_address(hub_address)
        yield network
    finally:
        with contextlib.ExitStack() as each:  # one that fails leaves none of the others behind
            for host in (hub, *network.hosts):
                each.callback(_ip, "netns", "delete", host.name)
                each.callback(host.kill_all)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
