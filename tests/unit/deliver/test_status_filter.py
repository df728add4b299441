from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ekiden.deliver.status_filter import FilteredAgent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, failed, relayed
from ekiden.message.status import Status
from ekiden.tables.open import Maps, open_tables
from ekiden.tables.table import Table, TableTrouble
from support.smtp_delivery import Notes, request

SENT = relayed(Status(2, 0, 0), "250 2.0.0 Ok", relay="mx[192.0.2.1]:25")
LATER = deferred(Status(4, 2, 2), "mailbox full")
NEVER = failed(Status(5, 7, 1), "blocked, come back", diagnostic="smtp; 550 5.7.1 blocked")


class BrokenTable(Table):
    name = "broken:x"

    async def lookup(self, key: str) -> str | None:
        raise TableTrouble("broken:x does not answer")


class FixedAgent:
    def __init__(self, result: DeliveryResult) -> None:
        self._result = result
        self.closed = False

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        return [self._result] * len(request.recipients)

    async def close(self) -> None:
        self.closed = True


def filtered(result: DeliveryResult, maps: Maps, notes: Notes | None = None) -> str:
    async def work() -> DeliveryResult:
        inner = FixedAgent(result)
        agent = FilteredAgent(inner, maps, notes or Notes())
        (found,) = await agent.deliver(request("a"))
        await agent.close()
        assert inner.closed
        assert (found.relay, found.diagnostic) == (result.relay, result.diagnostic)
        return found

    found = asyncio.run(work())
    return f"{found.action.value} {found.status} {found.text}"


@pytest.mark.parametrize(
    ("result", "answer", "expected"),
    [
        (NEVER, "4.7.1 wait a little", "delayed 4.7.1 wait a little"),
        (NEVER, "5.7.0 no", "failed 5.7.0 no"),
        (NEVER, "4.7.1", "delayed 4.7.1 blocked, come back"),
        (LATER, "5.2.2 full for good", "failed 5.2.2 full for good"),
        (SENT, "2.5.0 done", "relayed 2.5.0 done"),
    ],
)
def test_the_table_has_the_last_word(result: DeliveryResult, answer: str, expected: str) -> None:
    asked = f"{result.status} {result.text}"
    assert filtered(result, open_tables([f"inline:{{ {{ {asked} = {answer} }} }}"])) == expected
    assert filtered(result, open_tables(["inline:{ other=4.0.0 }"])) == f"{result.action.value} {asked}"


@pytest.mark.parametrize(("result", "answer"), [(SENT, "4.0.0 no"), (NEVER, "2.0.0 fine"), (NEVER, "DISCARD")])
def test_what_was_delivered_stays_delivered_and_what_was_not_stays_that(result: DeliveryResult, answer: str) -> None:
    notes = Notes()
    unchanged = f"{result.action.value} {result.status} {result.text}"
    assert filtered(result, open_tables([f"static:{answer}"]), notes) == unchanged
    assert notes.texts[0].startswith("delivery status filter: bad answer")


@pytest.mark.parametrize(("result", "expected"), [(SENT, "relayed 2.0.0"), (NEVER, "delayed 4.7.1")])
def test_a_table_in_trouble_returns_no_mail(result: DeliveryResult, expected: str) -> None:
    assert filtered(result, Maps([BrokenTable()])) == f"{expected} {result.text}"
