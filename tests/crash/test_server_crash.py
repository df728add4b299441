"""Promise 1: no acknowledged message is ever lost, wherever the whole server is killed.

Numbered messages are sent to a next hop and to a mailbox; each that got its 250 is remembered; the whole process
group is killed with SIGKILL at random instants. In the end every acknowledged message must have arrived. A message
may arrive twice only when it was in flight at a kill: never twice within the life of one server.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from support.sink import Sink

CYCLES = int(os.environ.get("EKIDEN_CRASH_CYCLES", "30"))
CLIENTS = 20
# One message in so many is larger than queue_inline_limit, so that it lies in a file of its own.
LARGE_EVERY = 10
LARGE_BYTES = 65_536
_NUMBER = re.compile(rb"^X-Number: (\d+)\r?$", re.MULTILINE)


class World:
    """What was acknowledged and what arrived. Cycles are numbered from 0; the last one ends without a kill."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.cycle = 0
        self.next_number = 0
        self.acknowledged: set[int] = set()
        self.relayed: defaultdict[int, list[int]] = defaultdict(list)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.server: subprocess.Popen[bytes] | None = None

    def arrived_at_sink(self, content: bytes) -> None:
        found = _NUMBER.search(content)
        assert found is not None, content[:300]
        self.relayed[int(found[1])].append(self.cycle)

    def in_mailbox(self) -> defaultdict[int, int]:
        found: defaultdict[int, int] = defaultdict(int)
        new = self.base / "mailboxes" / "box" / "new"
        for file in new.iterdir() if new.exists() else ():
            number = _NUMBER.search(file.read_bytes())
            assert number is not None, f"{file} is not whole"
            found[int(number[1])] += 1
        return found

    def configure(self, sink_port: int) -> None:
        etc, mailboxes = self.base / "etc", self.base / "mailboxes"
        etc.mkdir()
        mailboxes.mkdir()
        root = os.geteuid() == 0
        uid, gid = (65534, 65534) if root else (os.geteuid(), os.getegid())
        if root:
            os.chown(mailboxes, uid, gid)
        settings = {
            "myhostname": "crash.example",
            "mydestination": "",
            "queue_directory": str(self.base / "queue"),
            "maillog_file": str(self.base / "mail.log"),
            "relayhost": f"[127.0.0.1]:{sink_port}",
            "worker_processes": "2",
            "queue_inline_limit": str(LARGE_BYTES),
            "virtual_mailbox_domains": "box.example",
            "virtual_mailbox_base": str(mailboxes),
            "virtual_mailbox_maps": "static:box/",
            "virtual_uid_maps": f"static:{uid}",
            "virtual_gid_maps": f"static:{gid}",
            "virtual_minimum_uid": "1",
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "2s",
            "queue_run_delay": "1s",
            **({"mail_owner": "nobody"} if root else {}),
        }
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (etc / "master.cf").write_text(f"127.0.0.1:{self.port} inet n - n - - smtpd\n")

    async def start(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-m", "ekiden.cli.main", "serve", "-c", str(self.base / "etc")],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + 30
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                banner = await reader.readline()
                writer.close()
                if banner.startswith(b"220"):
                    return
            except OSError:
                pass
            assert self.server.poll() is None, f"the server ended: {self.log_tail()}"
            assert time.monotonic() < end, f"no banner: {self.log_tail()}"
            await asyncio.sleep(0.01)

    def log_tail(self) -> str:
        log = self.base / "mail.log"
        return log.read_text()[-2000:] if log.exists() else "no log"

    async def kill(self) -> None:
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()
        # Nothing of the old server may still hold the port or a shard when the next one starts.
        end = time.monotonic() + 10
        while _has_processes(self.server.pid):
            assert time.monotonic() < end, "processes survive the kill of their group"
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.server.wait, 60) == 0

    async def send_until_dead(self) -> None:
        """One client: message after message on connection after connection, until the server is gone."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return
            try:
                await _reply(reader)
                await _say(reader, writer, b"EHLO client.example\r\n")
                for _ in range(5):
                    number = self.next_number
                    self.next_number += 1
                    recipient = b"user@box.example" if number % 2 else b"user@next.example"
                    body = b"x" * 100 if number % LARGE_EVERY else b"0123456789" * 9 + b"\r\n"
                    body *= 1 if number % LARGE_EVERY else 1500
                    envelope = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<" + recipient + b">\r\nDATA\r\n"
                    writer.write(envelope)
                    for _reply_of in range(3):
                        await _reply(reader)
                    writer.write(b"X-Number: %d\r\nSubject: crash\r\n\r\n%s\r\n.\r\n" % (number, body))
                    if await _reply(reader) == b"250":
                        self.acknowledged.add(number)
            except (OSError, asyncio.IncompleteReadError):
                return
            finally:
                writer.close()

    def missing(self) -> set[int]:
        mailbox = self.in_mailbox()
        return {
            number
            for number in self.acknowledged
            if not (mailbox.get(number) if number % 2 else self.relayed.get(number))
        }


def _has_processes(group: int) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                return True
    return False


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await reader.readuntil(b"\n")
        if line[3:4] != b"-":
            return line[:3]


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await _reply(reader)


async def crash(world: World, cycles: int, rng: random.Random) -> None:
    sink = Sink(world.arrived_at_sink)
    await sink.start()
    world.configure(sink.port)
    for cycle in range(cycles):
        world.cycle = cycle
        await world.start()
        clients = [asyncio.ensure_future(world.send_until_dead()) for _ in range(CLIENTS)]
        await asyncio.sleep(rng.uniform(0.05, 0.8))
        await world.kill()
        await asyncio.wait_for(asyncio.gather(*clients), 30)
    world.cycle = cycles
    await world.start()
    end = time.monotonic() + 120
    while world.missing() and time.monotonic() < end:
        await asyncio.sleep(0.1)
    await world.stop()
    await sink.stop()
    lost = world.missing()
    copies = world.in_mailbox()
    doubled = sum(len(seen) - 1 for seen in world.relayed.values()) + sum(count - 1 for count in copies.values())
    print(
        f"\n{cycles} kills: {len(world.acknowledged)} messages acknowledged, {len(lost)} lost,"
        f" {doubled} delivered again after a kill"
    )
    assert not lost, f"acknowledged and lost: {sorted(lost)[:20]}; {world.log_tail()}"
    assert len(world.acknowledged) > cycles * 10, "the server was hardly used"
    for number, seen in world.relayed.items():
        assert len(set(seen)) == len(seen), f"message {number} was delivered twice by one server: cycles {seen}"


def test_no_acknowledged_message_is_lost(reachable_path: Path) -> None:
    seed = int(os.environ.get("EKIDEN_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
    print(f"EKIDEN_CRASH_SEED={seed}")
    world = World(reachable_path)
    try:
        asyncio.run(crash(world, CYCLES, random.Random(seed)))
    finally:
        if world.server is not None and world.server.poll() is None:
            os.killpg(world.server.pid, signal.SIGKILL)
            world.server.wait()
