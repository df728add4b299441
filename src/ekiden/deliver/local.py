"""The local transport: users of this host and their aliases (local(8)).

An alias is followed here, in the worker; the mailboxes that it leads to are the deliverer's, and what it leads to
elsewhere becomes a new message in the queue. The recipient is done with when all of that is durable.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Sequence

from ekiden.config.snapshot import Parameters
from ekiden.deliver.aliases import AliasLoop, AliasSource, Expansion, ExpansionRules, expand
from ekiden.deliver.delivery_header import address_bytes, delivery_header, was_delivered_to
from ekiden.deliver.forward import Forward, Forwarded, forwarded_recipient
from ekiden.deliver.mailbox_channel import MailboxChannel, result_of
from ekiden.deliver.mailbox_jobs import Answer, Outcome, Transport
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, delivered, expanded, failed
from ekiden.message.envelope import Recipient
from ekiden.message.status import OK, Status
from ekiden.queue.store import StoreTrouble
from ekiden.tables.match import DomainList
from ekiden.tables.table import TableTrouble

_RELAY = "local"
# Recipients whose mail reached a part of the mailboxes of their alias; the oldest is forgotten beyond this.
_REMEMBERED = 10_000


class LocalAgent:
    """``forward`` hands mail to the queue; ``is_local`` tells the domains of this host (default: mydestination)."""

    def __init__(
        self,
        channel: MailboxChannel,
        aliases: AliasSource,
        forward: Forward,
        parameters: Parameters,
        clock: Clock,
        *,
        is_local: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """Raises ConfigError when mydestination cannot be used."""
        self._channel = channel
        self._aliases = aliases
        self._forward = forward
        self._is_local = is_local or DomainList(parameters.mydestination).matches
        self._rules = ExpansionRules(
            delimiter=parameters.recipient_delimiter,
            myorigin=parameters.myorigin,
            recursion_limit=parameters.local_alias_recursion_limit,
            expansion_limit=parameters.local_alias_expansion_limit,
        )
        self._original = parameters.enable_original_recipient
        self._scan_bytes = parameters.delivered_header_scan_limit
        self._clock = clock
        # Mailboxes that have a message already while others of the same alias do not, so that a retry does not
        # give it to them again. In memory: after a crash they get it twice, which is allowed; never is it lost.
        self._done: collections.OrderedDict[tuple[str, str], set[str]] = collections.OrderedDict()

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        if len(request.recipients) == 1:  # the usual case needs no task of its own
            return [await self._deliver(request, request.recipients[0])]
        return await asyncio.gather(*(self._deliver(request, recipient) for recipient in request.recipients))

    async def close(self) -> None:
        """The channel belongs to the worker, who closes it."""

    async def _deliver(self, request: DeliveryRequest, recipient: Recipient) -> DeliveryResult:
        started = self._clock.monotonic()
        address = recipient.address
        try:
            if was_delivered_to(request.content, address, self._scan_bytes):
                return failed(Status(5, 4, 6), f"mail forwarding loop for {address}", relay=_RELAY)
            expansion = await expand(address.local, self._aliases, self._is_local, self._rules)
        except AliasLoop as error:
            return failed(Status(5, 4, 6), str(error), relay=_RELAY)
        except TableTrouble as error:
            return deferred(Status(4, 3, 0), f"alias lookup failed: {error}", relay=_RELAY)
        except OSError as error:
            return deferred(Status(4, 3, 0), f"cannot read the message: {error.strerror}", relay=_RELAY)
        if expansion.not_yet:
            # Nothing of it is delivered: the whole waits until this version is replaced or the alias is changed.
            target = expansion.not_yet[0].text
            text = f"the alias {address.local} leads to {target}, which this version cannot deliver to yet"
            return deferred(Status(4, 3, 5), text, relay=_RELAY)
        if len(expansion.mailboxes) == 1 and not expansion.addresses:
            answer = await self._ask(request, recipient, expansion.mailboxes[0])
            return result_of(answer, _RELAY, self._clock.monotonic() - started)
        return await self._deliver_all(request, recipient, expansion, started)

    async def _deliver_all(
        self, request: DeliveryRequest, recipient: Recipient, expansion: Expansion, started: float
    ) -> DeliveryResult:
        """All that an alias leads to; the worst result is the recipient's."""
        key = (request.queue_id, str(recipient.address))
        done = self._done.pop(key, set())
        asked = [
            (name, self._ask(request, recipient, name)) for name in expansion.mailboxes if name.lower() not in done
        ]
        worst: Answer | None = None
        for name, future in asked:
            answer = await future
            if answer.outcome is Outcome.DELIVERED:
                done.add(name.lower())
            elif worst is None or (worst.outcome is Outcome.FAILED and answer.outcome is Outcome.DEFERRED):
                worst = answer
        elapsed = self._clock.monotonic() - started
        if worst is not None and worst.outcome is Outcome.DEFERRED:
            self._remember(key, done)
            return result_of(worst, _RELAY, elapsed)
        queue_id = ""
        if expansion.addresses:
            try:
                queue_id = await self._forward(
                    Forwarded(
                        request,
                        tuple(forwarded_recipient(address, recipient) for address in expansion.addresses),
                        b"Delivered-To: %b\r\n" % address_bytes(recipient.address),
                    )
                )
            except StoreTrouble as error:
                self._remember(key, done)
                return deferred(Status(4, 3, 0), f"cannot forward: {error}", relay=_RELAY, transmit_s=elapsed)
        if worst is not None:
            return result_of(worst, _RELAY, elapsed)
        if queue_id:
            return expanded(OK, f"forwarded as {queue_id}", relay=_RELAY, transmit_s=elapsed)
        return delivered(OK, f"delivered to {len(expansion.mailboxes)} mailboxes", relay=_RELAY, transmit_s=elapsed)

    def _ask(self, request: DeliveryRequest, recipient: Recipient, user: str) -> asyncio.Future[Answer]:
        sender = request.envelope.sender
        return self._channel.submit(
            Transport.LOCAL,
            user.encode("utf-8", "surrogateescape"),
            address_bytes(sender),
            delivery_header(sender, recipient, original=self._original),
            request.content,
        )

    def _remember(self, key: tuple[str, str], done: set[str]) -> None:
        if done:
            self._done[key] = done
            if len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)
