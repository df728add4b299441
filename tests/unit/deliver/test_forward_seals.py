"""What local delivery sends on is sealed where it is a stranger's mail that goes to another host, and not otherwise."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.deliver.arc_seal import OutgoingSeals
from ekiden.deliver.forward_seals import ForwardSeals
from ekiden.message.address import Address
from ekiden.message.content import InlineContent, OutgoingContent
from ekiden.message.envelope import Client, Envelope, Recipient
from ekiden.queue.store import StoreTrouble
from ekiden.tables.match import ClientList
from ekiden.tables.table import TableTrouble

CAME = InlineContent(b"Subject: x\r\n\r\n")
SEALED = InlineContent(b"ARC-Seal: x\r\nSubject: x\r\n\r\n")
STRANGER = Client(address="192.0.2.1", name="out.far.test")


class _Seals(OutgoingSeals):
    def __init__(self) -> None:
        pass

    async def apply(self, content: OutgoingContent, queue_id: str) -> OutgoingContent:
        assert queue_id == "NEW"
        return SEALED


async def _goes_on(address: Address) -> bool:
    if address.domain == "trouble.test":
        raise TableTrouble("no answer")
    return address.domain != "here.test"


def sealed(client: Client, *domains: str) -> OutgoingContent:
    own = [ClientList(["192.0.2.128/25"]), ClientList([".friend.test"])]
    seals = ForwardSeals(_Seals(), own=own, goes_on=_goes_on)
    recipients = [Recipient(Address("user", domain)) for domain in domains]
    return asyncio.run(seals.apply(Envelope(client=client), recipients, CAME, "NEW"))


def test_mail_of_strangers_to_others_is_sealed() -> None:
    assert sealed(STRANGER, "far.test") is SEALED
    assert sealed(STRANGER, "here.test", "far.test") is SEALED
    assert sealed(STRANGER, "here.test") is CAME


@pytest.mark.parametrize(
    "client",
    [
        Client(address="192.0.2.200"),
        Client(address="198.51.100.1", name="mx.friend.test"),
        Client(address="192.0.2.1", login="ann"),
        Client(name="localhost", address="127.0.0.1", protocol="local"),
    ],
)
def test_of_mail_that_nobody_examined_nothing_is_said(client: Client) -> None:
    assert sealed(client, "far.test") is CAME


def test_a_table_that_does_not_answer_lets_it_wait() -> None:
    with pytest.raises(StoreTrouble, match="no answer"):
        sealed(STRANGER, "trouble.test")
