from __future__ import annotations

import asyncio

import pytest

from ekiden.deliver.agent import Agent
from ekiden.deliver.discard import DiscardAgent
from ekiden.deliver.error import ErrorAgent
from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest
from ekiden.message.envelope import Envelope, Recipient

RECIPIENTS = (Recipient(Address("a", "x.example")), Recipient(Address("b", "x.example")))


def results(agent: Agent, next_hop: str) -> str:
    request = DeliveryRequest("Q", "t", next_hop, Envelope(), RECIPIENTS, InlineContent(b""), 0.0)
    found = asyncio.run(agent.deliver(request))
    assert len(found) == len(RECIPIENTS)
    assert found[0] == found[1]
    asyncio.run(agent.close())
    return f"{found[0].action.value} {found[0].status} {found[0].text}"


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        ("5.7.1 no mail for you", "failed 5.7.1 no mail for you"),
        ("4.2.0 come back", "delayed 4.2.0 come back"),
        ("gone fishing", "failed 5.0.0 gone fishing"),
        ("2.0.0 a joke", "failed 5.0.0 2.0.0 a joke"),
        ("5.1.1", "failed 5.1.1 undeliverable address"),
        ("", "failed 5.0.0 undeliverable address"),
    ],
)
def test_error(next_hop: str, expected: str) -> None:
    assert results(ErrorAgent(), next_hop) == expected


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [("4.4.1 later", "delayed 4.4.1 later"), ("5.7.1 later", "delayed 4.7.1 later"), ("later", "delayed 4.0.0 later")],
)
def test_retry_never_fails(next_hop: str, expected: str) -> None:
    assert results(ErrorAgent(default_class=4), next_hop) == expected


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        ("", "delivered 2.0.0 2.0.0 discarded"),
        ("X.example", "delivered 2.0.0 2.0.0 discarded"),
        ("silently", "delivered 2.0.0 2.0.0 discarded: silently"),
    ],
)
def test_discard(next_hop: str, expected: str) -> None:
    assert results(DiscardAgent(), next_hop) == expected
