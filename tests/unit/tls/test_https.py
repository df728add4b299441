"""The HTTPS client with servers of every kind: who may answer, how much, and how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import uvloop

from ekiden.protocol.http import HttpResponse
from ekiden.tls.https import HttpsClient, HttpsTrouble, authorities_context
from support.certificates import Authority, Pair, self_signed
from support.https_server import Answer, HttpsServer, text

HOST = "mta-sts.x.test"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.pem)
    return str(path)


def saying(said: bytes) -> Answer:
    return lambda asked: said


def get(
    ca_file: str,
    pair: Pair,
    directory: Path,
    answer: Answer,
    *,
    addresses: Sequence[str] = ("127.0.0.1",),
    timeout_s: float = 10.0,
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> tuple[HttpResponse | HttpsTrouble, HttpsServer]:
    async def scenario() -> tuple[HttpResponse | HttpsTrouble, HttpsServer]:
        async def look_up(name: str) -> Sequence[str]:
            assert name == HOST
            return addresses

        async with HttpsServer(pair, directory, answer) as server:
            context = authorities_context(ca_file)
            client = HttpsClient(context, look_up, timeout_s=timeout_s, port=server.port)
            try:
                return await client.get(HOST, "/policy", limit=1000), server
            except HttpsTrouble as trouble:
                return trouble, server

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(scenario())


@pytest.mark.parametrize("loop", [None, uvloop.new_event_loop])
def test_an_answer(
    ca_file: str, authority: Authority, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop] | None
) -> None:
    pair = authority.issue(HOST)
    answer, server = get(ca_file, pair, tmp_path, lambda asked: text(b"hello"), loop=loop)
    assert isinstance(answer, HttpResponse), answer
    assert (answer.status, answer.media_type, answer.body) == (200, "text/plain", b"hello")
    assert server.requests[0].startswith(f"GET /policy HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n".encode())


def test_certificates_that_do_not_do(ca_file: str, authority: Authority, tmp_path: Path) -> None:
    for pair, why in (
        (authority.issue("x.test"), "mismatch"),
        (authority.issue("*.test"), "mismatch"),
        (authority.issue(HOST, days=(-9, -1)), "expired"),
        (self_signed(HOST), "self"),
        (Authority("Another Root").issue(HOST), "unable to get"),
    ):
        trouble, server = get(ca_file, pair, tmp_path, lambda asked: text(b"hello"))
        assert isinstance(trouble, HttpsTrouble), why
        assert trouble.by_certificate, why
        assert why in str(trouble).lower()
        assert not server.requests


def test_a_redirect_is_an_answer_and_is_not_followed(ca_file: str, authority: Authority, tmp_path: Path) -> None:
    moved = text(b"", status="302 Found", more="Location: https://evil.test/\r\n")
    answer, server = get(ca_file, authority.issue(HOST), tmp_path, lambda asked: moved)
    assert isinstance(answer, HttpResponse)
    assert answer.status == 302
    assert len(server.requests) == 1


def test_too_much_and_too_little(ca_file: str, authority: Authority, tmp_path: Path) -> None:
    for said in (text(b"x" * 1001), text(b"hello")[:-1], b"SMTP\r\n\r\n", b""):
        trouble, _ = get(ca_file, authority.issue(HOST), tmp_path, saying(said))
        assert isinstance(trouble, HttpsTrouble)
        assert not trouble.by_certificate


def test_silence_ends(ca_file: str, authority: Authority, tmp_path: Path) -> None:
    trouble, _ = get(ca_file, authority.issue(HOST), tmp_path, lambda asked: None, timeout_s=0.5)
    assert isinstance(trouble, HttpsTrouble)
    assert "within 0.5 s" in str(trouble)


def test_the_next_address_is_tried(ca_file: str, authority: Authority, tmp_path: Path) -> None:
    answer, _ = get(
        ca_file, authority.issue(HOST), tmp_path, lambda asked: text(b"hello"), addresses=["127.99.0.1", "127.0.0.1"]
    )
    assert isinstance(answer, HttpResponse)
    trouble, _ = get(ca_file, authority.issue(HOST), tmp_path, lambda asked: text(b"hello"), addresses=[])
    assert isinstance(trouble, HttpsTrouble)


def test_a_post(ca_file: str, authority: Authority, tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async def look_up(name: str) -> Sequence[str]:
            return ["127.0.0.1"]

        async with HttpsServer(authority.issue(HOST), tmp_path, lambda asked: text(b"", status="201 Made")) as server:
            client = HttpsClient(authorities_context(ca_file), look_up, timeout_s=10)
            answer = await client.post(
                HOST, "/in", b"report", limit=10, fields={"Content-Type": "a/b"}, port=server.port
            )
            assert answer.status == 201
            return server.requests[0]

    assert asyncio.run(scenario()).endswith(b"Content-Length: 6\r\nConnection: close\r\n\r\nreport")
