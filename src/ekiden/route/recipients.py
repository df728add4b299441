"""Who exists here: the answer to RCPT TO before a message is taken (smtpd_reject_unlisted_recipient)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.reply import Refusal, reply
from ekiden.route.domain_class import DomainClass, domain_key
from ekiden.tables.address import find_alias, split_extension
from ekiden.tables.open import Maps
from ekiden.tables.table import Table

# The system's user list, which is no table of ours: it is asked through ``user_exists``.
_PASSWORD_WORDS = frozenset({"unix:passwd.byname", "proxy:unix:passwd.byname"})


_RECIPIENT = "envelope_recipient"


class LocalAliases(Protocol):
    """alias_maps, whose files have a form of their own: it stands for them when local recipients are checked."""

    async def lookup(self, key: str) -> object | None:
        """Anything but None when the alias ``key`` (a local part in lower case) is there. Raises TableTrouble."""


class KnownRecipients:
    """Checks addresses of own domains. Local parts are compared without regard to case, as they are delivered."""

    def __init__(
        self,
        parameters: Parameters,
        open_table: Callable[[str], Table],
        *,
        user_exists: Callable[[str], bool],
        local_aliases: LocalAliases | None = None,
    ) -> None:
        """Without ``local_aliases``, local recipients are checked only if local_recipient_maps lacks alias_maps."""

        def open_tables(words: Sequence[str]) -> Maps:
            return Maps([open_table(word) for word in words])

        self._origin = domain_key(parameters.myorigin)  # the domain of names that have none
        self._delimiter = parameters.recipient_delimiter
        aliases = open_tables(parameters.virtual_alias_maps)
        # Cleanup replaces these, so nobody knows here whether they are anybody's.
        canonical = open_tables(
            [
                *(parameters.recipient_canonical_maps if _RECIPIENT in parameters.recipient_canonical_classes else ()),
                *(parameters.canonical_maps if _RECIPIENT in parameters.canonical_classes else ()),
            ]
        )
        self._mapping = [maps for maps in (aliases, canonical) if maps]
        words = parameters.local_recipient_maps
        aliases_wanted = not set(parameters.alias_maps).isdisjoint(words)
        # Aliases that nobody can read for us must not make their recipients unknown.
        self._checks_local = bool(words) and not (aliases_wanted and local_aliases is None)
        self._user_exists = user_exists if _PASSWORD_WORDS.intersection(words) else None
        self._local_aliases = local_aliases if aliases_wanted else None
        not_ours = _PASSWORD_WORDS.union(parameters.alias_maps)
        self._local = open_tables([word for word in words if word not in not_ours])
        self._mailboxes = open_tables(parameters.virtual_mailbox_maps)
        self._relay = open_tables(parameters.relay_recipient_maps)
        self._always = frozenset({"postmaster", parameters.double_bounce_sender.lower()})
        # Classes of which any recipient is good, and no table has to be asked about one.
        self.unlisted = frozenset({DomainClass.DEFAULT}) | frozenset(
            klass
            for klass, is_listed in (
                (DomainClass.LOCAL, self._checks_local),
                (DomainClass.VIRTUAL_MAILBOX, self._mailboxes),
                (DomainClass.RELAY, self._relay),
            )
            if not is_listed and not self._mapping
        )
        self._show_table = parameters.show_user_unknown_table_name
        self._codes = {
            DomainClass.LOCAL: parameters.unknown_local_recipient_reject_code,
            DomainClass.VIRTUAL_ALIAS: parameters.unknown_virtual_alias_reject_code,
            DomainClass.VIRTUAL_MAILBOX: parameters.unknown_virtual_mailbox_reject_code,
            DomainClass.RELAY: parameters.unknown_relay_recipient_reject_code,
        }

    async def is_mapped(self, address: Address, domain: str, klass: DomainClass) -> bool:
        """Whether virtual_alias_maps or canonical maps make another address of it. Raises TableTrouble."""
        if not self._mapping:
            return False
        asked = self._asked(address, domain)
        is_local = _yes if klass is DomainClass.LOCAL else None
        for maps in self._mapping:
            if await find_alias(maps, asked, delimiter=self._delimiter, is_local=is_local) is not None:
                return True
        return False

    async def check(self, address: Address, domain: str, klass: DomainClass) -> Refusal | None:
        """A refusal for an address of an own domain that is not mapped and does not exist. Raises TableTrouble."""
        if klass is DomainClass.DEFAULT:
            return None
        if klass is DomainClass.LOCAL and address.local.lower() in self._always:
            return None  # RFC 5321 §4.5.1: this host's postmaster can always be reached
        asked = self._asked(address, domain)
        if klass is DomainClass.LOCAL:
            known = await self._is_local(asked)
        elif klass is DomainClass.VIRTUAL_MAILBOX:
            known = await self._is_listed(self._mailboxes, asked)
        elif klass is DomainClass.RELAY:
            known = await self._is_listed(self._relay, asked)
        else:
            known = False
        return None if known else self._unknown(address, klass)

    def _asked(self, address: Address, domain: str) -> Address:
        return Address(address.local.lower(), domain or self._origin)

    async def _is_local(self, asked: Address) -> bool:
        if not self._checks_local:
            return True
        user, extension = split_extension(asked.local, self._delimiter)
        if self._user_exists is not None and self._user_exists(user):
            return True
        if self._local_aliases is not None:
            for name in (asked.local, user) if extension else (user,):
                if await self._local_aliases.lookup(name) is not None:
                    return True
        return await find_alias(self._local, asked, delimiter=self._delimiter, is_local=_yes) is not None

    async def _is_listed(self, tables: Maps, asked: Address) -> bool:
        # No table of recipients: they are not listed here, and only the delivery can say who exists.
        return not tables or await find_alias(tables, asked, delimiter=self._delimiter) is not None

    def _unknown(self, address: Address, klass: DomainClass) -> Refusal:
        code = self._codes[klass]
        where = f" in {_TABLES[klass]} table" if self._show_table else ""
        text = f"<{address}>: Recipient address rejected: User unknown{where}"
        return Refusal(reply(code, f"{code // 100}.1.1", text), "unknown-user", klass.value)


_TABLES = {
    DomainClass.LOCAL: "local recipient",
    DomainClass.VIRTUAL_ALIAS: "virtual alias",
    DomainClass.VIRTUAL_MAILBOX: "virtual mailbox",
    DomainClass.RELAY: "relay recipient",
}


async def _yes(_domain: str) -> bool:
    return True
