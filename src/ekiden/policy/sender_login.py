"""Whose sender addresses are: smtpd_sender_login_maps, and the restrictions that hold senders against it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from ekiden.message.address import Address
from ekiden.message.reply import Refusal, reply
from ekiden.tables.address import find_alias
from ekiden.tables.open import Maps


class SenderLogins:
    def __init__(self, maps: Maps, *, delimiter: str, is_local: Callable[[str], Awaitable[bool]]) -> None:
        """``delimiter`` is recipient_delimiter; ``is_local``: whose users are looked up by name alone."""
        self._maps = maps
        self._delimiter = delimiter
        self._is_local = is_local

    async def owners(self, sender: Address) -> Collection[str] | None:
        """The login names, in lower case, that may use the address; None where no table has it. Raises TableTrouble."""
        found = await find_alias(self._maps, sender, delimiter=self._delimiter, is_local=self._is_local)
        return None if found is None else found.value.casefold().replace(",", " ").split()

    async def check_authenticated(self, sender: Address, login: str, *, only_known: bool = False) -> Refusal | None:
        """A refusal for a client that has logged in and does not own its sender. Raises TableTrouble.

        ``only_known``: addresses that no table has are anybody's.
        """
        if not login or sender.is_null:
            return None
        owners = await self.owners(sender)
        if owners is None:
            if only_known:
                return None
        elif login.casefold() in owners:
            return None
        text = f"<{sender}>: Sender address rejected: not owned by user {login}"
        return Refusal(reply(553, "5.7.1", text), "sender-login-mismatch")

    async def check_unauthenticated(self, sender: Address, login: str) -> Refusal | None:
        """A refusal for a client that has not logged in and uses the address of somebody. Raises TableTrouble."""
        if login or sender.is_null or await self.owners(sender) is None:
            return None
        return Refusal(reply(553, "5.7.1", f"<{sender}>: Sender address rejected: not logged in"), "not-logged-in")
