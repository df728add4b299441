"""The local transport: users of this host and their aliases (local(8)).

Aliases are followed here, in the worker. What they lead to on this host (mailboxes, .forward files, commands) is the
deliverer's; what leads elsewhere becomes a new message in the queue, or goes to another transport. The recipient is
done with when all of that is durable.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import Struct, structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.alias_expansion import AliasLoop, Expansion, SpecialAlias, User, expand, expansion_rules
from ekiden.deliver.aliases import AliasSource
from ekiden.deliver.delivery_header import address_bytes, delivery_header, was_delivered_to
from ekiden.deliver.forward import Forward, Forwarded, forwarded_recipient
from ekiden.deliver.macros import expand_macros
from ekiden.deliver.mailbox_channel import MailboxChannel, facts_of, result_of
from ekiden.deliver.mailbox_jobs import Answer, Left, Outcome, Transport, decode_left
from ekiden.deliver.targets import MailTo, unpack_targets
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, deferred, delivered, expanded, failed
from ekiden.message.envelope import Recipient
from ekiden.message.status import OK, Status
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.queue.store import StoreTrouble
from ekiden.tables.address import split_extension
from ekiden.tables.match import DomainList
from ekiden.tables.open import Maps, open_tables
from ekiden.tables.table import TableTrouble

_RELAY = "local"
# Recipients whose mail reached a part of what their alias leads to; the oldest is forgotten beyond this.
_REMEMBERED = 10_000
_NOTHING_LEFT = Left()
_UNKNOWN = Status(5, 1, 1)
# Begins the names of what the worker has done by itself; the other names are the deliverer's.
_OURS = "worker "

# Hands a request to the transport that it names (runtime.stations).
DeliverBy = Callable[[DeliveryRequest], Awaitable[Sequence[DeliveryResult]]]


class OtherWays(Struct, frozen=True):
    """Transports that take the mail of users, or of names that are neither user nor alias."""

    mailbox: str
    mailbox_maps: Maps
    fallback: str
    fallback_maps: Maps
    luser_relay: str

    @property
    def instead_of_mailboxes(self) -> bool:
        return bool(self.mailbox or self.mailbox_maps)

    async def for_user(self, name: str) -> str:
        """The transport in place of the mailbox of ``name``, or empty. Raises TableTrouble."""
        return (await self.mailbox_maps.lookup(name)) or self.mailbox

    async def for_unknown(self, name: str) -> str:
        return (await self.fallback_maps.lookup(name)) or self.fallback


def other_ways(parameters: Parameters) -> OtherWays:
    """Raises ConfigError."""
    return OtherWays(
        parameters.mailbox_transport,
        open_tables(parameters.mailbox_transport_maps, parameters=parameters),
        parameters.fallback_transport,
        open_tables(parameters.fallback_transport_maps, parameters=parameters),
        parameters.luser_relay,
    )


class LocalAgent:
    """``forward`` hands mail to the queue, ``deliver_by`` to another transport, ``warn`` a line to the log;
    ``is_local`` tells the domains of this host (default: mydestination).
    """

    def __init__(
        self,
        channel: MailboxChannel,
        aliases: AliasSource,
        forward: Forward,
        parameters: Parameters,
        clock: Clock,
        *,
        deliver_by: DeliverBy | None = None,
        warn: Callable[[str, str], None] = lambda queue_id, text: None,
        is_local: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """Raises ConfigError when mydestination or a table cannot be used."""
        self._channel = channel
        self._aliases = aliases
        self._forward = forward
        self._deliver_by = deliver_by
        self._warn = warn
        self._is_local = is_local or DomainList(parameters.mydestination).matches
        self._rules = expansion_rules(parameters)
        self._ways = other_ways(parameters)
        self._original = parameters.enable_original_recipient
        self._frozen_delivered_to = parameters.frozen_delivered_to
        self._marks_forwarded = "forward" in parameters.prepend_delivered_header
        self._scan_bytes = parameters.delivered_header_scan_limit
        self._clock = clock
        # What has a message already while others of the same recipient do not, so that a retry does not give it to
        # them again. In memory: after a crash they get it twice, which is allowed; never is it lost.
        self._done: collections.OrderedDict[tuple[str, str], set[str]] = collections.OrderedDict()

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        if len(request.recipients) == 1:  # the usual case needs no task of its own
            return [await self._deliver(request, request.recipients[0])]
        return await asyncio.gather(*(self._deliver(request, recipient) for recipient in request.recipients))

    async def close(self) -> None:
        """The channel belongs to the worker, who closes it."""

    async def _deliver(self, request: DeliveryRequest, recipient: Recipient) -> DeliveryResult:
        address = recipient.address
        try:
            if was_delivered_to(request.content, address, self._scan_bytes):
                return failed(Status(5, 4, 6), f"mail forwarding loop for {address}", relay=_RELAY)
            expansion = await expand(address.local, self._aliases, self._is_local, self._rules)
            return await _LocalDelivery(self, request, recipient, self._clock.monotonic()).run(expansion)
        except AliasLoop as error:
            return failed(Status(5, 4, 6), str(error), relay=_RELAY)
        except TableTrouble as error:
            return deferred(Status(4, 3, 0), f"alias lookup failed: {error}", relay=_RELAY)
        except OSError as error:
            return deferred(Status(4, 3, 0), f"cannot read the message: {error.strerror}", relay=_RELAY)


class _LocalDelivery:
    """One recipient's mail on its ways; the worst result of all is the recipient's."""

    def __init__(self, agent: LocalAgent, request: DeliveryRequest, recipient: Recipient, started: float) -> None:
        self._agent = agent
        self._request = request
        self._recipient = recipient
        self._started = started
        self._key = (request.queue_id, str(recipient.address))
        self._done = agent._done.pop(self._key, set())
        self._results: list[DeliveryResult] = []
        self._groups: dict[Address | None, dict[str, Address]] = {}
        self._asked_for_unknown = False

    async def run(self, expansion: Expansion) -> DeliveryResult:
        """Raises AliasLoop, TableTrouble."""
        for group in expansion.groups:
            self._add(group.sender, group.addresses)
        users = [user for user in expansion.users if self._key_of(user) not in self._done]
        if len(users) == 1:
            await self._user(users[0])
        else:
            # All are asked before the first is awaited, so that they share packets and waits for the disk.
            await asyncio.gather(*(self._user(user) for user in users))
        for special in expansion.specials:  # one after the other: the same command is run once
            await self._special(special)
        return await self._settle()

    # -- users -------------------------------------------------------------------------------------------------------

    async def _user(self, user: User) -> None:
        agent = self._agent
        address = self._address_of(user.name)
        bare = split_extension(user.name, agent._rules.delimiter, owner_special=agent._rules.owner_special)[0].lower()
        way = await agent._ways.for_user(bare) if agent._ways.instead_of_mailboxes else ""
        answer = await self._ask(
            Transport.MAILBOX if user.final else Transport.LOCAL,
            user.name,
            self._sender(user.owner),
            Recipient(address, self._original),
            without_mailbox=bool(way),
        )
        left = self._left(answer)
        to_own_mailbox = await self._take_targets(left, bare, user.owner)
        self._done.update(left.done)
        if left.to_mailbox:
            await self._by(way, address, self._key_of(user))
        elif to_own_mailbox and (key := f"{_OURS}mailbox {user.name.lower()}") not in self._done:
            if way:
                await self._by(way, address, key)
            else:
                recipient = Recipient(address, self._original)
                self._take(await self._ask(Transport.MAILBOX, user.name, self._sender(user.owner), recipient), key)
        if left.unknown:
            await self._unknown(user, address, bare, answer)
        elif answer.outcome is not Outcome.GOES_ON:
            # What .forward names is still to be sent: until then the user is not done with.
            self._take(answer, "" if left.addresses else self._key_of(user))

    def _key_of(self, user: User) -> str:
        return f"{_OURS}{user.name.lower()}"

    async def _take_targets(self, left: Left, user: str, owner: Address | None) -> bool:
        """Gather where a .forward or :include: file sends the mail; True when it names the user's own mailbox."""
        agent = self._agent
        own = False
        addresses: list[Address] = []
        for target in unpack_targets(left.addresses):
            if not isinstance(target, MailTo):
                continue
            local, domain = target.address.local, target.address.domain or agent._rules.myorigin
            bare = split_extension(local, agent._rules.delimiter, owner_special=agent._rules.owner_special)[0]
            if user and bare.lower() == user and await agent._is_local(domain):
                own = True  # a user's own name in .forward: the mailbox, or the mail would come back for ever
            else:
                addresses.append(Address(local, domain))
        self._add(owner, addresses)
        return own

    async def _unknown(self, user: User, address: Address, bare: str, answer: Answer) -> None:
        """A name that is neither alias nor user."""
        ways = self._agent._ways
        if way := await ways.for_unknown(bare):
            await self._by(way, address, self._key_of(user))
            return
        if ways.luser_relay and not self._asked_for_unknown:
            self._asked_for_unknown = True
            extension = user.name[len(bare) :]
            values = {
                "user": bare, "local": user.name, "mailbox": user.name, "extension": extension[1:],
                "recipient_delimiter": extension[:1], "domain": address.domain, "recipient": str(address),
            }  # fmt: skip
            try:
                text = expand_macros(ways.luser_relay, values).text.strip()
            except ValueError as error:
                self._results.append(deferred(Status(4, 3, 5), f"luser_relay: {error}", relay=_RELAY))
                return
            relay = parse_mailbox(text.removeprefix("\\"), lenient=True)
            if relay is None:
                self._results.append(failed(_UNKNOWN, f'unknown user: "{bare}"; luser_relay = {text}', relay=_RELAY))
                return
            await self._relay_unknown(relay, user.owner)
            return
        self._take(answer, "")

    async def _relay_unknown(self, relay: Address, owner: Address | None) -> None:
        agent = self._agent
        full = relay if relay.domain else Address(relay.local, agent._rules.myorigin)
        if not await agent._is_local(full.domain):
            self._add(owner, [full])
            return
        expansion = await expand(full.local, agent._aliases, agent._is_local, agent._rules)
        for group in expansion.groups:
            self._add(group.sender or owner, group.addresses)
        for user in expansion.users:
            await self._user(user)
        for special in expansion.specials:
            await self._special(special)

    # -- aliases with commands and files -----------------------------------------------------------------------------

    async def _special(self, special: SpecialAlias) -> None:
        answer = await self._ask(
            Transport.ALIAS,
            special.name,
            self._sender(special.owner),
            Recipient(self._address_of(special.came_as), self._original),
            done=tuple(key for key in self._done if not key.startswith(_OURS)),
        )
        left = self._left(answer)
        self._done.update(left.done)
        await self._take_targets(left, "", special.owner)
        if answer.outcome is not Outcome.GOES_ON:
            self._take(answer, "")

    # -- asking and telling ------------------------------------------------------------------------------------------

    @property
    def _original(self) -> Address:
        return self._recipient.original or self._recipient.address

    def _sender(self, owner: Address | None) -> Address:
        return owner or self._request.envelope.sender

    def _address_of(self, name: str) -> Address:
        """The recipient under the name that aliases gave it."""
        address = self._recipient.address
        return address if name == address.local else Address(name, self._agent._rules.myorigin)

    def _ask(
        self,
        transport: Transport,
        name: str,
        sender: Address,
        recipient: Recipient,
        *,
        without_mailbox: bool = False,
        done: tuple[str, ...] | None = None,
    ) -> asyncio.Future[Answer]:
        agent = self._agent
        delivered_to = self._recipient.address if agent._frozen_delivered_to else recipient.address
        if done is None:
            done = tuple(key for key in self._done if not key.startswith(_OURS)) if self._done else ()
        return agent._channel.submit(
            transport,
            name.encode("utf-8", "surrogateescape"),
            address_bytes(sender),
            delivery_header(sender, recipient, original=agent._original, delivered_to=False),
            self._request.content,
            facts=facts_of(self._request, recipient, delivered_to=delivered_to),
            without_mailbox=without_mailbox,
            done=done,
        )

    def _left(self, answer: Answer) -> Left:
        if not answer.content:
            return _NOTHING_LEFT
        try:
            left = decode_left(answer.content)
        except (msgspec.DecodeError, ValueError):
            return _NOTHING_LEFT
        for warning in left.warnings:
            self._agent._warn(self._request.queue_id, warning)
        return left

    def _take(self, answer: Answer, key: str) -> None:
        if answer.outcome is Outcome.DELIVERED and key:
            self._done.add(key)
        self._results.append(result_of(answer, _RELAY, self._agent._clock.monotonic() - self._started))

    async def _by(self, way: str, address: Address, key: str) -> None:
        """Hand the mail to another transport."""
        agent = self._agent
        transport, _, next_hop = way.partition(":")
        if agent._deliver_by is None:
            text = f"mail transport unavailable: {transport}"
            self._results.append(deferred(Status(4, 3, 5), text, relay=_RELAY))
            return
        request = self._request
        recipient = structs.replace(self._recipient, address=address, original=self._original)
        [result] = await agent._deliver_by(
            DeliveryRequest(
                request.queue_id, transport, next_hop or request.next_hop, request.envelope, (recipient,),
                request.content, request.arrived,
            )
        )  # fmt: skip
        if result.action is not Action.DELAYED and result.action is not Action.FAILED:
            self._done.add(key)
        self._results.append(result)

    def _add(self, sender: Address | None, addresses: Sequence[Address]) -> None:
        group = self._groups.setdefault(sender, {})
        for address in addresses:
            group.setdefault(address.key, address)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _settle(self) -> DeliveryResult:
        delayed = [result for result in self._results if result.action is Action.DELAYED]
        if delayed:
            self._remember()
            return delayed[0]
        queue_ids: list[str] = []
        for sender, addresses in self._groups.items():
            key = f"{_OURS}> {sender or ''} {' '.join(sorted(addresses))}"
            if not addresses or key in self._done:
                continue
            try:
                queue_ids.append(await self._forward(sender, tuple(addresses.values())))
            except StoreTrouble as error:
                self._remember()
                return deferred(Status(4, 3, 0), f"cannot forward: {error}", relay=_RELAY, transmit_s=self._elapsed())
            self._done.add(key)
        for result in self._results:
            if result.action is Action.FAILED:
                return result
        if queue_ids:
            text = f"forwarded as {', '.join(queue_ids)}"
            return expanded(OK, text, relay=_RELAY, transmit_s=self._elapsed(), dsn_passed=self._leads_to_one)
        if len(self._results) == 1:
            return self._results[0]
        if not self._results:
            return delivered(OK, "delivered before", relay=_RELAY, transmit_s=self._elapsed())
        return delivered(OK, f"delivered to {len(self._results)} mailboxes", relay=_RELAY, transmit_s=self._elapsed())

    @property
    def _leads_to_one(self) -> bool:
        """One address under the same sender is all that came of the alias: its reports are for there to make."""
        return not self._results and list(map(len, self._groups.values())) == [1] and None in self._groups

    def _elapsed(self) -> float:
        return self._agent._clock.monotonic() - self._started

    async def _forward(self, sender: Address | None, addresses: tuple[Address, ...]) -> str:
        agent, request = self._agent, self._request
        if sender is not None:
            # RFC 3461 §5.2.7.2: a mailing list's mail is new mail, and what the first sender asked for ends here.
            envelope = structs.replace(request.envelope, sender=sender, ret=None, envid="", deliver_by=None)
            request = DeliveryRequest(
                request.queue_id, request.transport, request.next_hop, envelope, request.recipients,
                request.content, request.arrived,
            )  # fmt: skip
        mark = b"Delivered-To: %b\r\n" % address_bytes(self._recipient.address) if agent._marks_forwarded else b""
        if sender is None:
            only = self._leads_to_one
            recipients = tuple(forwarded_recipient(address, self._recipient, only=only) for address in addresses)
        else:  # mail of a list with an owner is for its members from the start
            recipients = tuple(Recipient(address) for address in addresses)
        return await agent._forward(Forwarded(request, recipients, mark))

    def _remember(self) -> None:
        if self._done:
            done = self._agent._done
            done[self._key] = self._done
            if len(done) > _REMEMBERED:
                done.popitem(last=False)
