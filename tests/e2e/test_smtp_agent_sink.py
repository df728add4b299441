"""The smtp and lmtp agents against Postfix's smtp-sink."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.message.address import Address
from ekiden.message.content import FileContent, InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import Envelope, Recipient
from ekiden.message.host import Host
from ekiden.runtime.system_clock import SystemClock
from support.requirements import require_program
from support.running import free_port, wait_for
from support.smtp_delivery import Notes, agent_for, brief, request, run


@contextlib.contextmanager
def sink(*options: str) -> Iterator[tuple[Host, Path]]:
    """A running smtp-sink, and the folder that it dumps each transaction to."""
    program = require_program("smtp-sink")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        port = free_port()
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        process = subprocess.Popen([program, *user, "-d", f"{folder}/m.", *options, f"127.0.0.1:{port}", "64"])
        try:
            wait_for(lambda: listens(port), "smtp-sink to listen")
            yield Host("sink.example", "127.0.0.1", port), folder
        finally:
            process.terminate()
            process.wait(20)


def listens(port: int) -> bool:
    """Whether a server listens there; told by the kernel, because a connection would be a session of the sink's."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines())


def dumped(folder: Path, count: int) -> list[bytes]:
    wait_for(lambda: len(list(folder.iterdir())) == count, f"{count} messages")
    return [path.read_bytes() for path in sorted(folder.iterdir())]


async def send(host: Host, requests: Sequence[DeliveryRequest], **settings: str) -> list[Sequence[DeliveryResult]]:
    agent = agent_for(host, settings=settings)
    try:
        return [await agent.deliver(one) for one in requests]
    finally:
        await agent.close()


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",), ("-E",), ("-8", "-N")])
def test_messages_arrive_with_every_set_of_extensions(options: tuple[str, ...]) -> None:
    async def work() -> None:
        with sink(*options) as (host, folder):
            results = await send(host, [request("a", "b"), request("c")])
            assert [brief(result) for result in results] == [[("relayed", "2.0.0")] * 2, [("relayed", "2.0.0")]]
            first, second = sorted(dumped(folder, 2), key=lambda data: b"<c@d.example>" in data)
            assert b"X-Rcpt-Args: <a@d.example>" in first
            assert b"X-Rcpt-Args: <b@d.example>" in first
            assert b"X-Rcpt-Args: <c@d.example>" in second
            assert b"\n.hidden dot\n" in first
            assert b"X-Client-Proto: SMTP" in first if options == ("-e",) else b"X-Client-Proto: ESMTP" in first

    run(work())


def test_a_large_message_arrives_byte_for_byte(tmp_path: Path) -> None:
    async def work() -> None:
        data = b"Subject: large\r\n\r\n" + b"".join(b".%06d %s\r\n" % (n, b"y" * (n % 900)) for n in range(8000))
        path = tmp_path / "content"
        path.write_bytes(data)
        with sink() as (host, folder):
            ((result,),) = await send(host, [request("a", content=FileContent(str(path), len(data)))])
            assert brief([result]) == [("relayed", "2.0.0")]
            (message,) = dumped(folder, 1)
            assert data.replace(b"\r\n", b"\n") in message

    run(work())


@pytest.mark.parametrize(
    ("option", "stage", "action"),
    [
        *[("-f", stage, "failed") for stage in ("MAIL", "RCPT", "DATA", ".")],
        *[("-r", stage, "delayed") for stage in ("MAIL", "RCPT", "DATA", ".")],
        *[("-q", stage, "delayed") for stage in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")],
        *[("-Q", stage, "delayed") for stage in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")],
        ("-f", "CONNECT", "delayed"),
    ],
)
def test_refusals_and_disconnects_at_every_stage(option: str, stage: str, action: str) -> None:
    async def work() -> None:
        with sink(option, stage) as (host, _):
            results = await send(host, [request("a", "b"), request("c")])
            assert [result.action.value for each in results for result in each] == [action] * 3

    run(work())


def test_an_early_refusal_of_the_content_is_heard(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "content"
        with path.open("wb") as file:
            file.truncate(32 << 20)
        with sink("-A", "0") as (host, _):
            ((result,),) = await send(host, [request("a", content=FileContent(str(path), 32 << 20))])
            assert result.action.value in ("failed", "delayed")

    run(work())


def test_lmtp_messages_arrive() -> None:
    async def work() -> None:
        with sink("-L") as (host, folder):

            async def hosts_for(next_hop: str) -> Sequence[Host]:
                raise AssertionError(next_hop)

            agent = LmtpAgent(Parameters(), hosts_for=hosts_for, clock=SystemClock(), observer=Notes())
            recipients = tuple(Recipient(Address(name, "d.example")) for name in ("a", "b"))
            content = InlineContent(b"Subject: x\r\n\r\nhello\r\n")
            next_hop = f"inet:127.0.0.1:{host.port}"
            for _ in range(2):
                job = DeliveryRequest("Q1", "lmtp", next_hop, Envelope(), recipients, content, 0.0)
                assert brief(await agent.deliver(job)) == [("relayed", "2.2.0")] * 2
            await agent.close()
            assert b"hello\n" in dumped(folder, 2)[0]

    run(work())
