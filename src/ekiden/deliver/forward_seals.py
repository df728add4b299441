"""Which of what an alias or a .forward file sends on gets our ARC seal: mail of strangers that goes to other hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ekiden.deliver.arc_seal import OutgoingSeals
from ekiden.message.address import Address
from ekiden.message.content import OutgoingContent
from ekiden.message.envelope import Client, Envelope, Recipient
from ekiden.queue.store import StoreTrouble
from ekiden.tables.match import ClientList
from ekiden.tables.table import TableTrouble


class ForwardSeals:
    """``own``: clients whose mail nobody examines. Nothing was found of it, whatever stands in it.

    ``goes_on`` tells whose mail is for another host.
    """

    def __init__(
        self, seals: OutgoingSeals, *, own: Sequence[ClientList], goes_on: Callable[[Address], Awaitable[bool]]
    ) -> None:
        self._seals = seals
        self._own = own
        self._goes_on = goes_on

    async def apply(
        self, came: Envelope, recipients: Sequence[Recipient], content: OutgoingContent, queue_id: str
    ) -> OutgoingContent:
        """``came``: the envelope of the message that is sent on. Raises StoreTrouble."""
        try:
            if await self._is_own(came.client):
                return content
            for recipient in recipients:
                if await self._goes_on(recipient.address):
                    return await self._seals.apply(content, queue_id)
        except TableTrouble as trouble:
            raise StoreTrouble(f"whether it gets an ARC seal cannot be told: {trouble}") from trouble
        return content

    async def _is_own(self, client: Client) -> bool:
        if client.login or client.protocol == "local":
            return True
        for clients in self._own:
            if await clients.matches(client.address, client.name):
                return True
        return False
