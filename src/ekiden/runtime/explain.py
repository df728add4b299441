"""What this host would do with mail, step by step, with the setting or the line of a table that is the reason.

It asks the decisions that the server itself works by (runtime.decisions), so it cannot say anything else than what
would happen; it only listens to the tables (tables.recorder) and puts names to what they answered.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from msgspec import Struct

from ekiden.cleanup.way import HeaderSource, Way
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.snapshot import Parameters
from ekiden.deliver.alias_expansion import AliasLoop, expand, expansion_rules
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryResult
from ekiden.message.envelope import Client, Recipient
from ekiden.message.reply import Refusal
from ekiden.policy.restrictions import Situation
from ekiden.queue.content_filter import filter_route
from ekiden.route.domain_class import DomainClass
from ekiden.runtime.decisions import Decisions
from ekiden.runtime.explain_tls import TlsExplainer
from ekiden.runtime.key_vault import key_files_of
from ekiden.tables.match import client_list
from ekiden.tables.recorder import Hit, Recorder
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import KeyFiles

_CLEANUP_MAPS = (
    "sender_canonical_maps", "recipient_canonical_maps", "canonical_maps", "sender_bcc_maps", "recipient_bcc_maps",
    "virtual_alias_maps",
)  # fmt: skip
_ROUTE_MAPS = (
    "transport_maps", "relocated_maps", "sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps",
)  # fmt: skip
_RECIPIENT_MAPS = (
    "virtual_alias_maps", "local_recipient_maps", "virtual_mailbox_maps", "relay_recipient_maps", "alias_maps",
)  # fmt: skip
# The list that puts a domain into its class, and the transport that its mail then takes.
_LIST_OF = {
    DomainClass.LOCAL: "mydestination",
    DomainClass.VIRTUAL_ALIAS: "virtual_alias_domains",
    DomainClass.VIRTUAL_MAILBOX: "virtual_mailbox_domains",
    DomainClass.RELAY: "relay_domains",
    DomainClass.DEFAULT: "",
}
_TRANSPORT_OF = {
    DomainClass.LOCAL: "local_transport",
    DomainClass.VIRTUAL_MAILBOX: "virtual_transport",
    DomainClass.RELAY: "relay_transport",
    DomainClass.DEFAULT: "default_transport",
}


class Step(Struct, frozen=True):
    """``recipient`` is whom it is about, "" for the message as a whole; ``setting`` the parameter that is the reason.

    ``place`` is where that stands: ``file:line``, or "" for a default.
    """

    kind: str  # access, rewrite, recipient, filter, class, route, sender, host, tls, alias, trouble
    text: str
    recipient: str = ""
    setting: str = ""
    place: str = ""


class Question(Struct, frozen=True):
    """``client`` is an address that a message would come from by SMTP; "" is the sendmail command."""

    recipient: Address
    sender: Address
    client: str = ""
    helo: str = ""


class Explainer:
    def __init__(self, configuration: Configuration, clock: Clock) -> None:
        """Raises ConfigError."""
        self._configuration = configuration
        self._parameters = configuration.parameters
        self._recorder = Recorder()
        self._files: KeyFiles | None = None
        self._decisions = Decisions(configuration, clock, open_table=self._recorder.open, key_files=self._key_files)
        self._tls = TlsExplainer(configuration.parameters, self._decisions, clock, self._recorder.open)

    async def close(self) -> None:
        await self._tls.close()
        await self._decisions.close()

    async def explain(self, question: Question) -> AsyncIterator[Step]:
        """The whole way of a new message, from the client's RCPT to the hosts that would be tried."""
        service = listener_of_strangers(self._configuration.services) if question.client else None
        service = service or self._pickup()
        parameters = self._configuration.parameters_of(service)
        try:
            if question.client:
                async for step in self._access(question, parameters):
                    yield step
                    if step.kind in ("refused", "trouble"):
                        return
            header = HeaderSource.LOCAL
            if question.client and not await self._decisions.rewrite_clients(parameters).include(
                Client(address=question.client)
            ):
                header = HeaderSource.REMOTE
            way = Way.of_client(header, parameters.receive_override_options)
            cleanup = self._decisions.cleanup_of(parameters)
            self._recorder.taken()
            found = await cleanup.envelope(question.sender, [Recipient(question.recipient)], way)
            for step in self._rewriting(question, cleanup.standard(question.recipient)):
                yield step
        except TableTrouble as trouble:
            yield Step("trouble", f"a table cannot be asked, so the client is told to come back later: {trouble}")
            return
        if isinstance(found, Refusal):
            kind = "trouble" if found.reply.code < 500 else "refused"
            yield Step(kind, f"{found.reply.text} ({found.detail or found.reason})")
            return
        if str(found.sender) != str(question.sender):
            yield Step("rewrite", f"the sender becomes {_shown(found.sender)}")
        for recipient in found.recipients:
            yield Step("recipient", f"goes to {recipient.address}")
        for recipient in found.recipients:
            async for step in self.way_of(recipient, found.sender, parameters.content_filter):
                yield step

    async def way_of(self, queued: Recipient, sender: Address, content_filter: str = "") -> AsyncIterator[Step]:
        """Class, transport, next hop, sender and hosts of a recipient as the queue has it."""
        recipient = queued.address
        shown = str(recipient)
        if content_filter:
            route = filter_route(content_filter, recipient, self._parameters)
            text = f"first to the content filter: transport {route.transport}, next hop {route.next_hop}"
            yield self._step("filter", text, shown, "content_filter")
            async for step in self._hosts(route.transport, route.next_hop, shown):
                yield step
            return
        router = self._decisions.router
        try:
            self._recorder.taken()
            klass = await router.class_of(recipient)
            listed = self._reason(_LIST_OF[klass], self._recorder.taken(), (_LIST_OF[klass],))
            whose = "is no domain of this host" if klass is DomainClass.DEFAULT else f"is a {klass.value} domain"
            yield Step("class", f"{recipient.domain or 'this host'} {whose}", shown, *listed)
            found = await router.resolve(recipient, sender)
            hits = self._recorder.taken()
        except TableTrouble as trouble:
            yield Step("trouble", f"a table cannot be asked, so the message waits: {trouble}", shown)
            return
        if isinstance(found, DeliveryResult):
            kind = "refused" if found.is_final else "trouble"
            yield Step(kind, f"{found.status} {found.text}", shown, *self._reason("", hits, _ROUTE_MAPS))
            return
        setting = _TRANSPORT_OF.get(klass, "")
        if self._parameters.relayhost and found.next_hop == self._parameters.relayhost:
            setting = "relayhost"
        reason = self._reason(setting, hits, _ROUTE_MAPS)
        if self._command(found.transport) == "error":
            kind = "trouble" if found.transport == "retry" else "refused"
            yield Step(kind, f"{found.transport}: {found.next_hop}", shown, *reason)
            return
        yield Step("route", f"transport {found.transport}, next hop {found.next_hop or 'none'}", shown, *reason)
        if found.transport in self._parameters.defer_transports:
            text = f"the transport {found.transport} is not served now: its mail waits for a flush"
            yield self._step("route", text, shown, "defer_transports")
        async for step in self._leaving(queued, sender, shown):
            yield step
        async for step in self._hosts(found.transport, found.next_hop, shown):
            yield step
        if self._command(found.transport) == "local":
            async for step in self._aliases(queued, sender, shown):
                yield step

    # -- the steps

    async def _access(self, question: Question, parameters: Parameters) -> AsyncIterator[Step]:
        trusted = await client_list(parameters, "mynetworks").matches(question.client)
        if trusted:
            text = f"the client {question.client} may send anywhere"
            yield self._step("access", text, "", "mynetworks")
        else:
            yield self._step("access", f"the client {question.client} is a stranger", "", "mynetworks")
        access = self._decisions.relay_access(parameters)
        if question.helo and access.rules is None:
            yield Step("access", f"the name {question.helo} that it gives itself decides nothing")
        self._recorder.taken()
        address = self._decisions.cleanup_of(parameters).standard(question.recipient)
        setting = by = ""
        if access.rules is None:
            refusal = await access.check(address, trusted=trusted)
        else:
            client = Client(address=question.client, helo=question.helo)
            decision = await access.rules.recipient(Situation(client, trusted, question.sender, address))
            for warning in decision.warnings:
                yield Step("access", f"warn_if_reject: RCPT TO would get {warning.reply.text} ({warning.detail})")
            refusal = decision.refusal
            setting, _, by = decision.by.partition(": ")
        reason = self._reason("", self._recorder.taken(), _RECIPIENT_MAPS)
        if refusal is not None:
            # What is refused for a while in case the lists are wrong is refused all the same.
            is_relay = refusal.reason == "relay-denied"
            setting = setting or ("relay_domains" if is_relay else "")
            kind = "trouble" if refusal.reply.code < 500 and not is_relay else "refused"
            text = f"RCPT TO gets {refusal.reply.text}" + (f" ({by})" if by else "")
            yield Step(kind, text, "", setting, self._place(setting) if setting else "")
        else:
            yield Step("access", f"RCPT TO <{address}> is accepted" + (f" ({by})" if by else ""), "", *reason)

    def _rewriting(self, question: Question, standard: Address) -> Iterator[Step]:
        if standard != question.recipient:
            text = f"{_shown(question.recipient)} is completed to {standard}"
            yield self._step("rewrite", text, "", "append_at_myorigin" if not question.recipient.domain else "")
        if (stood_for := self._decisions.srs.reversed(standard)) is not None:
            text = f"{standard} is the sender of forwarded mail and stands for {stood_for}"
            yield self._step("rewrite", text, "", "srs_domain")
        for hit in self._recorder.taken():
            setting, place = self._reason("", [hit], _CLEANUP_MAPS)
            if setting:
                yield Step("rewrite", f"{hit.key} -> {hit.value}", "", setting, place)
        if self._parameters.always_bcc:
            yield self._step("rewrite", f"a copy goes to {self._parameters.always_bcc}", "", "always_bcc")

    async def _hosts(self, transport: str, next_hop: str, recipient: str) -> AsyncIterator[Step]:
        command = self._command(transport)
        if command == "":
            yield Step("trouble", f"master.cf has no service {transport}: its mail waits", recipient)
        if command not in ("smtp", "lmtp") or next_hop.startswith("unix:"):
            return
        service = next(each for each in self._configuration.services if each.name == transport)
        found = await self._decisions.hosts_for(self._configuration.parameters_of(service), command)(next_hop)
        if isinstance(found, DeliveryResult):
            kind = "refused" if found.is_final else "trouble"
            yield Step(kind, f"{found.status} {found.text}", recipient)
            return
        parameters = self._configuration.parameters_of(service)
        said = ("", "")
        for number, host in enumerate(found, 1):
            yield Step("host", f"{number}. {host.name}[{host.address}]:{host.port}", recipient)
            asked = await self._tls.words(parameters, command, next_hop, host)
            if asked != said:  # as good as always the same for all hosts of a domain
                said = asked
                text, setting = asked
                yield self._step("tls", text, recipient, setting) if setting else Step("tls", text, recipient)

    async def _leaving(self, recipient: Recipient, sender: Address, shown: str) -> AsyncIterator[Step]:
        """With which sender mail leaves that is forwarded."""
        try:
            leaving = await self._decisions.forwarded_senders.leaving(recipient, sender)
        except TableTrouble as trouble:
            yield Step("trouble", f"a table cannot be asked, so the message waits: {trouble}", shown)
            return
        if not leaving.reason:
            return
        text = f"forwarded with the sender {_shown(leaving.sender)}: {leaving.reason}"
        if leaving.setting == "srs_secret_file" and os.geteuid() != 0:
            text = f"forwarded with a sender of this host, if the server can do what you may not: {leaving.reason}"
        step = self._step("sender", text, shown, leaving.setting) if leaving.setting else Step("sender", text, shown)
        yield step

    async def _aliases(self, queued: Recipient, sender: Address, shown: str) -> AsyncIterator[Step]:
        """Where local delivery would lead: aliases here; .forward files are the users' and are read at delivery."""
        recipient = queued.address
        self._recorder.taken()
        router, parameters = self._decisions.router, self._parameters
        try:
            rules = expansion_rules(parameters)
            found = await expand(recipient.local, self._decisions.local_aliases, router.is_local, rules)
        except (AliasLoop, TableTrouble) as error:
            yield Step("trouble", str(error), shown)
            return
        for hit in self._recorder.taken():
            yield Step("alias", f"{hit.key}: {hit.value}", shown, "alias_maps", hit.place)
        for user in found.users:
            way = "mailbox" if user.final else "mailbox, or where ~/.forward says"
            yield Step("alias", f"the user {user.name}: {way}", shown)
        for group in found.groups:
            yield Step("alias", f"a new message to {', '.join(map(str, group.addresses))}", shown)
            for address in group.addresses:
                async for step in self._leaving(queued.readdressed(address), group.sender or sender, str(address)):
                    yield step
        for special in found.specials:
            yield Step("alias", f"{special.name}: commands, files or lists, which run at delivery", shown)

    # -- names for things

    def _key_files(self) -> KeyFiles:
        """Read when they are first asked for: whoever asks may not be allowed to, and mostly need not."""
        if self._files is None:
            self._files = key_files_of(self._configuration)
        return self._files

    def _step(self, kind: str, text: str, recipient: str, setting: str) -> Step:
        return Step(kind, text, recipient, setting, self._place(setting))

    def _place(self, setting: str) -> str:
        file, line = self._configuration.place(setting)
        return f"{file}:{line}" if file else ""

    def _reason(self, setting: str, hits: Iterable[Hit], names: Iterable[str]) -> tuple[str, str]:
        """The parameter and place of the last hit in a table of one of ``names``; else those of ``setting``."""
        reason = (setting, self._place(setting)) if setting else ("", "")
        for hit in hits:
            for name in names:
                words = getattr(self._parameters, name) if name else ()
                if any(hit.table == word.lstrip("!") for word in words):
                    reason = (name, hit.place or self._place(name))
                    break
        return reason

    def _command(self, transport: str) -> str:
        found = [
            each.command for each in self._configuration.services if each.name == transport and each.type == "unix"
        ]
        return found[0] if found else ""

    def _pickup(self) -> Service:
        return next(each for each in self._configuration.services if each.command == "pickup")


def listener_of_strangers(services: Sequence[Service]) -> Service | None:
    """The service that a stranger's mail comes to: the one on port 25, else the first."""
    listeners = [each for each in services if each.command == "smtpd" and each.type == "inet"]
    usual = [each for each in listeners if each.endpoint is not None and each.endpoint.port == 25]
    return next(iter(usual or listeners), None)


def _shown(address: Address) -> str:
    return str(address) or "<>"
