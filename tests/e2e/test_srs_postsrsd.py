"""Debian's postsrsd and we take each other's addresses, when we share a secret."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from ekiden.auth.srs import Srs, SrsError
from ekiden.message.address import Address
from support.requirements import require_program
from support.running import free_port, wait_for

SECRETS = b"one of some length\nand an older one\n"
DOMAIN = "fwd.test"
SENDERS = [
    Address("user", "origin.test"),
    Address("User.Name", "Origin.Test"),
    Address("bounce+12=to=them.test", "list.origin.test"),
    Address("a=b=c-d", "x.test"),
    Address("SRS0=abcd=AB=x.test=user", "first.test"),
    Address("srs0+abcd=AB=x.test=user", "first.test"),
    Address("SRS0-abcd=AB=x.test=user", "first.test"),
    Address("SRS1=abcd=first.test==abcd=AB=x.test=user", "second.test"),
    Address("SRS1-abcd=first.test=+abcd=AB=x.test=user", "second.test"),
]


class Postsrsd:
    def __init__(self, forward: int, reverse: int) -> None:
        self._ports = {"forward": forward, "reverse": reverse}

    def ask(self, way: str, address: Address | str) -> Address | None:
        """What it makes of an address (tcp_table(5)); None: nothing."""
        with socket.create_connection(("127.0.0.1", self._ports[way]), 10) as connection:
            connection.sendall(f"get {quote(str(address), safe='@=+')}\n".encode())
            code, _, text = connection.makefile().readline().strip().partition(" ")
        if code != "200":
            return None
        local, _, domain = unquote(text).rpartition("@")
        return Address(local, domain)


@contextlib.contextmanager
def running_postsrsd(directory: Path, *options: str) -> Iterator[Postsrsd]:
    program = require_program("postsrsd")
    secrets = directory / "secrets"
    secrets.write_bytes(SECRETS)
    forward, reverse = free_port(), free_port()
    process = subprocess.Popen(
        [program, f"-s{secrets}", f"-d{DOMAIN}", f"-f{forward}", f"-r{reverse}", "-4", *options],
        stdin=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", reverse), 1):
            return True
        return False

    try:
        wait_for(listens, "postsrsd to listen")
        yield Postsrsd(forward, reverse)
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("separator", "=+-")
@pytest.mark.parametrize("length", [4, 10])
def test_each_takes_the_other_s_addresses(tmp_path: Path, separator: str, length: int) -> None:
    ours = Srs(
        SECRETS.splitlines(), DOMAIN, separator=separator, hash_length=length, hash_minimum=length, local_limit=0
    )
    older = Srs(SECRETS.splitlines()[1:], DOMAIN, separator=separator, hash_length=length, local_limit=0)
    with running_postsrsd(tmp_path, f"-a{separator}", f"-n{length}", f"-N{length}") as theirs:
        for sender in SENDERS:
            before = time.time()
            their_address = theirs.ask("forward", sender)
            assert their_address is not None, sender
            assert their_address in (ours.forward(sender, before), ours.forward(sender, time.time()))
            expected = ours.reverse(their_address, before)
            for address in (their_address, older.forward(sender, before)):
                assert theirs.ask("reverse", address) == ours.reverse(address, before) == expected
                forged = Address(address.local.replace("user", "abuser"), DOMAIN)
                if forged != address:
                    assert theirs.ask("reverse", forged) is None
                    with pytest.raises(SrsError):
                        ours.reverse(forged, before)


def test_both_forget_after_the_same_time(tmp_path: Path) -> None:
    ours = Srs(SECRETS.splitlines(), DOMAIN)
    now = time.time()
    with running_postsrsd(tmp_path) as theirs:
        for days, counts in ((20, True), (23, False)):
            old = ours.forward(SENDERS[0], now - days * 86400)
            assert (theirs.ask("reverse", old) == SENDERS[0]) is counts
            if counts:
                assert ours.reverse(old, now) == SENDERS[0]
            else:
                with pytest.raises(SrsError, match="expired"):
                    ours.reverse(old, now)
