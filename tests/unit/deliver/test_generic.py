"""deliver.generic: addresses replaced on the way out, in memory and in files, and the queue's message left alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.cleanup.address_maps import AddressMaps
from ekiden.cleanup.address_rewriting import local_rewriting
from ekiden.config.snapshot import Parameters
from ekiden.deliver.generic import GenericMaps
from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import Envelope, Recipient
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.queue.content import chunks
from ekiden.tables.open import open_tables
from support.honours import honours
from support.requirements import require_conformance

HEADER = b"From: me@here.test\r\nTo: bob@far.test (b), me+x@here.test\r\nSubject: me@here.test\r\n"
MAPPED = b"From: you@isp.test\r\nTo: bob@far.test (b), you@isp.test\r\nSubject: me@here.test\r\n"
TABLE = "inline:{ me@here.test=you@isp.test, you@isp.test=never@isp.test }"


def maps(table: str, **settings: str) -> AddressMaps:
    parameters = Parameters({"myorigin": "localdomain", "recipient_delimiter": "+", **settings})

    async def is_local(domain: str) -> bool:
        return domain == "here.test"

    propagate = "generic" in parameters.propagate_unmatched_extensions
    return AddressMaps(
        open_tables([table]),
        delimiter=parameters.recipient_delimiter,
        is_local=is_local,
        rewriting=local_rewriting(parameters),
        propagate=propagate,
    )


def applied(content: Content, table: str = TABLE) -> tuple[DeliveryRequest, bytes, int]:
    generic = GenericMaps(maps(table), header_limit=100_000, token_limit=100)
    recipients = (Recipient(Address("bob", "far.test")), Recipient(Address("me+x", "here.test")))
    request = DeliveryRequest("Q", "smtp", "far.test", Envelope(Address("me", "here.test")), recipients, content, 0.0)

    async def run() -> tuple[DeliveryRequest, bytes, int]:
        found = await generic.apply(request)
        assert not isinstance(found, DeliveryResult), found
        pieces = [piece async for piece in chunks(found[1], size=7)]
        return found[0], b"".join(pieces), found[1].size

    return asyncio.run(run())


@honours("smtp_generic_maps", "lmtp_generic_maps")  # test_ways_out shows them at the agents
def test_envelope_and_header() -> None:
    request, data, size = applied(InlineContent(HEADER + b"\r\nme@here.test\r\n"))
    assert str(request.envelope.sender) == "you@isp.test"
    assert [str(recipient.address) for recipient in request.recipients] == ["bob@far.test", "you@isp.test"]
    assert data == MAPPED + b"\r\nme@here.test\r\n"
    assert size == len(data)


def test_a_file_is_sent_with_another_header(tmp_path: Path) -> None:
    body = b"\r\n" + b"line\r\n" * 1000
    path = tmp_path / "message"
    path.write_bytes(HEADER + body)
    _, data, size = applied(FileContent(str(path), len(HEADER + body)))
    assert data == MAPPED + body
    assert size == len(data)
    assert path.read_bytes() == HEADER + body
    _, data, _ = applied(FileContent(str(path), len(HEADER + body)), "inline:{ x@y.test=z@y.test }")
    assert data == HEADER + body


@pytest.mark.parametrize(
    "content", [b"", b"\r\nbody\r\n", b"no header", b"From: a", b"From x\r\nTo: me@here.test\r\n\r\n"]
)
def test_odd_contents_are_not_harmed(content: bytes) -> None:
    _, data, size = applied(InlineContent(content))
    assert data in (content, content.replace(b"me@here.test", b"you@isp.test"))
    assert size == len(data)


def test_what_cannot_be_read_or_asked_waits() -> None:
    for content, table in (
        (InlineContent(HEADER), "texthash:/no/such/file"),
        (FileContent("/no/such/file", 10), TABLE),
    ):
        generic = GenericMaps(maps(table), header_limit=1000, token_limit=100)
        request = DeliveryRequest("Q", "smtp", "x", Envelope(), (Recipient(Address("a", "b")),), content, 0.0)
        found = asyncio.run(generic.apply(request))
        assert isinstance(found, DeliveryResult)
        assert not found.is_final


def vectors() -> list[tuple[str, str]]:
    """``address -> result`` of Postfix's own test; "" is no match."""
    lines = require_conformance("postfix", "vectors", "smtp", "smtp_map11.ref").read_text().splitlines()
    found = [line.removeprefix("external:").split(" -> ") for line in lines if line.startswith("external:")]
    return [(key, "" if value == "(no match)" else value) for key, value in found]


@honours("propagate_unmatched_extensions")
def test_the_vectors_of_postfix() -> None:
    table = require_conformance("postfix", "vectors", "smtp", "smtp_map11.ref").read_text().splitlines()[0]
    generic = maps(table, propagate_unmatched_extensions="canonical, virtual, generic")
    assert len(vectors()) >= 7
    for key, value in vectors():
        address = parse_mailbox(key, lenient=True)
        assert address is not None
        found = asyncio.run(generic.find(address))
        assert ("" if found is None else str(found[0])) == value
