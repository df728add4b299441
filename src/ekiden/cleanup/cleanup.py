"""What happens to a message between its arrival and the queue (cleanup(8), trivial-rewrite(8)).

Every way into the queue goes through one ``Cleanup``: SMTP sessions, the sendmail command, mail that local aliases
send on, notifications. It is made from the parameters at start and at each reload.

In:   the envelope as it was given; the header, complete; which way the message came.
Out:  the final envelope; the header to store; or a Refusal, which is temporary when a table does not answer.
Never: parses a header that needs nothing (plain_header); changes what is not an address, nor what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.cleanup.address_maps import AddressMaps, IsLocal
from ekiden.cleanup.address_rewriting import AddressRewriting, local_rewriting, remote_rewriting
from ekiden.cleanup.characters import CharacterRules, characters
from ekiden.cleanup.header_rewriting import rewrite_header
from ekiden.cleanup.masquerade import Masquerade
from ekiden.cleanup.missing_fields import missing_fields
from ekiden.cleanup.plain_header import PlainHeader, drop_pattern
from ekiden.cleanup.virtual_alias import AliasLoop, VirtualAliases
from ekiden.cleanup.way import HeaderSource, Way
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.address_list import Mailbox, parse_addresses
from ekiden.message.envelope import Notify, Recipient
from ekiden.message.header_fields import fields
from ekiden.message.reply import Refusal, reply
from ekiden.policy.srs_addresses import SrsAddresses
from ekiden.tables.address import find_alias
from ekiden.tables.open import Maps, open_table
from ekiden.tables.table import Table, TableTrouble

BAD_CHARACTER = Refusal(reply(550, "5.7.1", "disallowed character"), "disallowed-character")
_NO_EMPTY_LINE = Refusal(
    reply(550, "5.6.0", "message header was terminated by a non-empty line"), "non-empty-end-of-header"
)
_NO_EMPTY_LINE_FIELD = b"MIME-Error: message-header was terminated by non-empty line\r\n"


class Addressed(Struct, frozen=True):
    """The envelope's addresses as the queue gets them."""

    sender: Address
    recipients: tuple[Recipient, ...]


class Arrival(Struct, frozen=True):
    """What a header may lack and the server knows."""

    queue_id: str
    sender: Address  # of the envelope, as it was given
    at: float  # seconds since the epoch
    full_name: str = ""


class Cleanup:
    """``is_local`` tells whether a domain is this host's own: myorigin, mydestination, its addresses in brackets.

    ``srs`` knows whom the senders of forwarded mail stand for, when mail comes back to them.

    Raises ConfigError when a parameter cannot be used.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        is_local: IsLocal,
        open_table: Callable[[str], Table] = open_table,
        srs: SrsAddresses | None = None,
    ) -> None:
        self.parameters = parameters
        self._is_local = is_local
        self._open_table = open_table
        self._srs = srs or None
        self._local = local_rewriting(parameters)
        # An address with what it lacks: the form that access rules and routes are asked for.
        self.standard = self._local.address
        self._remote = remote_rewriting(parameters)
        self._canonical = [
            (self._maps(words, "canonical"), frozenset(classes))
            for words, classes in (
                (parameters.sender_canonical_maps, parameters.sender_canonical_classes),
                (parameters.recipient_canonical_maps, parameters.recipient_canonical_classes),
                (parameters.canonical_maps, parameters.canonical_classes),
            )
            if words
        ]
        self._masquerade = Masquerade(parameters.masquerade_domains, parameters.masquerade_exceptions)
        self._masqueraded = frozenset(parameters.masquerade_classes if self._masquerade else ())
        self._sender_copies = self._open(parameters.sender_bcc_maps)
        self._recipient_copies = self._open(parameters.recipient_bcc_maps)
        self._always_copy = self._one_address("always_bcc", parameters.always_bcc)
        self._empty_recipient = self._one_address("empty_address_recipient", parameters.empty_address_recipient)
        self._aliases = self._virtual_aliases() if parameters.virtual_alias_maps else None
        self._has_maps = bool(self._canonical) or bool(self._masquerade)
        self._has_copies = bool(self._always_copy) or bool(self._sender_copies) or bool(self._recipient_copies)
        self._prepare_header()
        self.characters = self._character_rules()

    # -- the envelope

    async def envelope(self, sender: Address, recipients: Sequence[Recipient], way: Way) -> Addressed | Refusal:
        """The steps of cleanup(8), in its order."""
        try:
            if way.maps and self._has_maps:
                sender = await self._sender(sender, way)
                found = [await self._recipient(recipient, way) for recipient in recipients]
            else:
                sender = self.standard(sender)
                found = self._unmapped_recipients(recipients, way)
            if way.copies and self._has_copies:
                found += await self._copies(sender, found, way)
            if way.maps and self._aliases is not None:
                found = [each for recipient in found for each in await self._aliases.expand(recipient)]
            return Addressed(sender, tuple(found) if len(found) == 1 else self._each_once(found))
        except TableTrouble as trouble:
            return table_refusal(trouble)
        except AliasLoop as loop:
            return Refusal(reply(451, "4.6.0", "Error: alias expansion error"), "alias-loop", str(loop))

    async def _sender(self, address: Address, way: Way) -> Address:
        """Standard form, canonical, masquerade."""
        address = self.standard(address)
        if way.maps and self._has_maps and not address.is_null:
            return await self._mapped(address, "envelope_sender")
        return address

    async def _recipient(self, recipient: Recipient, way: Way) -> Recipient:
        """Standard form, canonical, masquerade; or whom a sender of forwarded mail stands for."""
        if not (way.maps and self._has_maps):
            return self._unmapped_recipients((recipient,), way)[0]
        address = self.standard(recipient.address)
        if not address.domain:
            address = self._unless_empty(address)
        if self._srs is not None and (stood_for := self._srs.reversed(address)) is not None:
            address = stood_for
        else:
            address = await self._mapped(address, "envelope_recipient")
        return recipient if address is recipient.address else recipient.readdressed(address)

    def _unmapped_recipients(self, recipients: Sequence[Recipient], way: Way) -> list[Recipient]:
        """As _recipient, for each of them, where no table has to be asked."""
        srs = self._srs if way.maps else None
        found = []
        for recipient in recipients:
            address = self.standard(recipient.address)
            if not address.domain:
                address = self._unless_empty(address)
            if srs is not None and srs.looks_like(address.local):
                address = srs.reversed(address) or address
            found.append(recipient if address is recipient.address else recipient.readdressed(address))
        return found

    def _unless_empty(self, address: Address) -> Address:
        """Mail for nobody is for empty_address_recipient."""
        return self._empty_recipient if self._empty_recipient is not None and address.is_null else address

    async def _mapped(self, address: Address, which: str) -> Address:
        for maps, classes in self._canonical:
            if which in classes:
                address = await maps.follow(address)
        return await self._masquerade.apply(address) if which in self._masqueraded else address

    async def _copies(self, sender: Address, recipients: Sequence[Recipient], way: Way) -> list[Recipient]:
        """Blind copies. Who sent the message is not told when one cannot be delivered (postconf(5) always_bcc)."""
        wanted: list[Address] = []
        if self._sender_copies and not sender.is_null:
            wanted += await self._copy_for(self._sender_copies, sender)
        if self._always_copy is not None:
            wanted.append(self._always_copy)
        if self._recipient_copies:
            for recipient in recipients:
                wanted += await self._copy_for(self._recipient_copies, recipient.address)
        return [await self._recipient(Recipient(address, notify=Notify.NEVER), way) for address in wanted]

    async def _copy_for(self, maps: Maps, address: Address) -> list[Address]:
        delimiter = self.parameters.recipient_delimiter
        found = await find_alias(maps, address, delimiter=delimiter, is_local=self._is_local)
        if found is None:
            return []
        copy = _only_address(found.value)
        if copy is None:
            raise TableTrouble(f"{found.key}: {found.value!r} is not one address")
        return [self.standard(copy)]

    def _each_once(self, recipients: Sequence[Recipient]) -> tuple[Recipient, ...]:
        """Recipients that come again are left out.

        With enable_original_recipient they do so only from one address, and only if the same is to be told of them.
        duplicate_filter_limit bounds how many are remembered; those beyond it may come twice.
        """
        limit = self.parameters.duplicate_filter_limit
        by_original = self.parameters.enable_original_recipient
        seen: set[tuple[str, str, int]] = set()
        kept: list[Recipient] = []
        for recipient in recipients:
            key = (recipient.address.key, "", 0)
            if by_original:
                original = (recipient.original or recipient.address).key
                key = (key[0], f"{original} {recipient.orcpt}", int(recipient.notify))
            if key in seen:
                continue
            if not limit or len(seen) < limit:
                seen.add(key)
            kept.append(recipient)
        return tuple(kept)

    # -- the header

    async def header(self, header: bytes, arrival: Arrival, way: Way, *, has_end: bool = True) -> bytes | Refusal:
        """The header to store. ``has_end``: an empty line ended it, as it should.

        Addresses are rewritten, mapped and masqueraded; then fields are dropped, and missing ones added.
        """
        parameters = self.parameters
        if not has_end and way.header is not HeaderSource.OWN and self._end_action != "fix_quietly":
            if self._end_action == "reject":
                return _NO_EMPTY_LINE
            header += _NO_EMPTY_LINE_FIELD
        rewriting, adds_missing, plain = self._header_rules[way.header]
        if len(header) > parameters.header_size_limit:
            header = self._cut(header)
        if plain is not None and (not way.maps or not self._header_is_mapped):
            if plain.passes(header):
                return header
        elif not adds_missing and rewriting is None:
            return self._without_dropped(header)
        try:
            if rewriting is not None:
                header = await self._rewritten(header, rewriting, way)
            present = {field.name for field in fields(header)}
            header = self._without_dropped(header)
            if adds_missing:
                header += missing_fields(
                    present,
                    parameters,
                    sender=await self._sender(arrival.sender, way),
                    full_name=arrival.full_name,
                    queue_id=arrival.queue_id,
                    at=arrival.at,
                )
        except TableTrouble as trouble:
            return table_refusal(trouble)
        return header

    async def _rewritten(self, header: bytes, rewriting: AddressRewriting, way: Way) -> bytes:
        """Standard form, canonical, masquerade, for each address of each field."""
        mapped = way.maps and self._header_is_mapped

        async def renew(mailbox: Mailbox, of_sender: bool) -> Address | None:
            standard = rewriting.mailbox(mailbox)
            if not mapped or mailbox.odd:
                return standard
            before = standard or mailbox.address
            if before.is_null:
                return standard
            after = await self._mapped(before, "header_sender" if of_sender else "header_recipient")
            return standard if after == before else after

        return await rewrite_header(header, renew, token_limit=self.parameters.header_address_token_limit)

    def _without_dropped(self, header: bytes) -> bytes:
        if self._dropped is None or self._dropped.search(b"\n" + header) is None:
            return header
        kept = [field for field in fields(header) if field.name not in self._dropped_names]
        return b"".join([header[field.start : field.end] for field in kept])

    def _cut(self, header: bytes) -> bytes:
        """Every field cut off at header_size_limit."""
        limit = self.parameters.header_size_limit
        parts: list[bytes] = []
        for field in fields(header):
            text = header[field.start : field.end]
            parts.append(text if len(text) <= limit else text[:limit].rstrip(b"\r\n") + b"\r\n")
        return b"".join(parts)

    # -- made once

    def _prepare_header(self) -> None:
        parameters = self.parameters
        self._end_action = parameters.non_empty_end_of_header_action
        self._dropped_names = frozenset(name.lower().encode() for name in parameters.message_drop_headers)
        self._dropped = drop_pattern(self._dropped_names)
        in_header = {"header_sender", "header_recipient"}
        self._header_is_mapped = not in_header.isdisjoint(self._masqueraded) or any(
            not in_header.isdisjoint(classes) for _, classes in self._canonical
        )
        always, destination = parameters.always_add_missing_headers, bool(parameters.undisclosed_recipients_header)

        def rules(rewriting: AddressRewriting | None) -> tuple[AddressRewriting | None, bool, PlainHeader | None]:
            dots = rewriting is not None and rewriting.wants_dots
            adds = rewriting is not None or always
            plain = PlainHeader(self._dropped_names, dots=dots, destination=destination) if adds else None
            return rewriting, adds, plain

        self._header_rules = {
            HeaderSource.LOCAL: rules(self._local),
            HeaderSource.REMOTE: rules(self._remote),
            HeaderSource.OWN: (None, False, None),
        }

    def _open(self, words: Sequence[str]) -> Maps:
        return Maps([self._open_table(word) for word in words])

    def _maps(self, words: Sequence[str], extension_class: str) -> AddressMaps:
        return AddressMaps(
            self._open(words),
            delimiter=self.parameters.recipient_delimiter,
            is_local=self._is_local,
            rewriting=self._local,
            propagate=extension_class in self.parameters.propagate_unmatched_extensions,
        )

    def _virtual_aliases(self) -> VirtualAliases:
        parameters = self.parameters
        return VirtualAliases(
            self._maps(parameters.virtual_alias_maps, "virtual").find,
            expansion_limit=parameters.virtual_alias_expansion_limit,
            recursion_limit=parameters.virtual_alias_recursion_limit,
            address_limit=parameters.virtual_alias_address_length_limit,
        )

    def _one_address(self, name: str, text: str) -> Address | None:
        if not text:
            return None
        address = _only_address(text)
        if address is None:
            raise ConfigError(f"{name} = {text}: must be one address")
        return self.standard(address)

    def _character_rules(self) -> CharacterRules | None:
        stripped, rejected = self.parameters.message_strip_characters, self.parameters.message_reject_characters
        if not stripped and not rejected:
            return None
        try:
            return CharacterRules(characters(stripped), characters(rejected))
        except ValueError as error:
            raise ConfigError(f"message_strip_characters, message_reject_characters: {error}") from error


def table_refusal(trouble: TableTrouble) -> Refusal:
    """Nobody knows, so the client tries again later."""
    return Refusal(reply(451, "4.3.0", "Error: a lookup table is not available"), "table-trouble", str(trouble))


def _only_address(text: str) -> Address | None:
    mailboxes = parse_addresses(text.encode("utf-8", "surrogateescape")).mailboxes
    if len(mailboxes) != 1 or mailboxes[0].odd or not mailboxes[0].local:
        return None
    return mailboxes[0].address
