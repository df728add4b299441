"""Login at other servers: which account, by which mechanism, and which logins are known to be refused.

In:   a sender, a server and a next hop; what the server offers and how safe the connection is.
Out:  Credentials, an Exchange, or why there is none.
Never: a mechanism that smtp_sasl_security_options (or its TLS twins) exclude, a secret in any text.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.protocol.smtp.client_login import Exchange, LoginProblem
from ekiden.sasl.client_mechanisms import BINDINGS, KNOWN, TOKENS, Channel, Credentials, exchange_of
from ekiden.sasl.exchange import MechanismTraits
from ekiden.tables.address import find_alias
from ekiden.tables.match import DomainList
from ekiden.tables.open import Maps, open_table
from ekiden.tables.table import Table

_REFUSALS = 1000  # logins that are remembered; the oldest go first


class Safety(Struct, frozen=True):
    """How safe a connection is: TLS or not, and whether the server has shown who it is."""

    tls: bool = False
    verified: bool = False


class LoginRules:
    """``prefix``: smtp or lmtp, whose parameters count."""

    def __init__(
        self,
        parameters: Parameters,
        prefix: str,
        *,
        monotonic: Callable[[], float],
        open_table: Callable[..., Table] = open_table,
    ) -> None:
        """Raises ConfigError."""

        def own(name: str) -> Any:
            return getattr(parameters, f"{prefix}_{name}")

        words: Sequence[str] = own("sasl_password_maps") if own("sasl_auth_enable") else ()
        self._maps = Maps([open_table(word, parameters=parameters) for word in words])
        self.by_sender: bool = own("sender_dependent_authentication")
        self._delimiter: str = own("sasl_password_result_delimiter")
        self._options = (
            own("sasl_security_options"),
            own("sasl_tls_security_options"),
            own("sasl_tls_verified_security_options"),
        )
        names: tuple[str, ...] = own("sasl_mechanism_filter")
        self._filter = DomainList(names, opener=lambda word: open_table(word, parameters=parameters))
        self._named = frozenset(name.upper() for name in names)
        self.soft_bounce: bool = own("sasl_auth_soft_bounce")
        self._remember_s: float = own("sasl_auth_cache_time") if own("sasl_auth_cache_name") else 0.0
        self._monotonic = monotonic
        self._refused: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._maps)

    async def credentials(self, sender: Address, host: str, next_hop: str) -> Credentials | None:
        """The account at a server: by sender, then by its name, then by the next hop. Raises TableTrouble."""
        found: str | None = None
        if self.by_sender and not sender.is_null:
            match = await find_alias(self._maps, sender)
            found = match.value if match is not None else None
        if found is None:
            found = await self._maps.lookup(host)
        if found is None:
            found = await self._maps.lookup(next_hop)
        if not found:
            return None
        user, _, password = found.partition(self._delimiter) if self._delimiter else (found, "", "")
        return Credentials(user, password) if user or password else None

    async def exchange(
        self, credentials: Credentials, offered: Sequence[str], safety: Safety, channel: Channel
    ) -> Exchange | LoginProblem | None:
        """The strongest mechanism that both sides know and the options allow; None: there is none.

        Raises TableTrouble.
        """
        options = self._options[safety.tls + (safety.tls and safety.verified)]
        for traits in KNOWN:
            if (
                traits.name in offered
                and _is_allowed(traits, options)
                and self._is_wanted(traits.name, credentials, channel)
                and (not self._filter or await self._filter.matches(traits.name))
            ):
                return exchange_of(traits.name, credentials, channel)
        return None

    def _is_wanted(self, name: str, credentials: Credentials, channel: Channel) -> bool:
        if name in TOKENS:
            return name in self._named  # nothing tells a token from a password but the administrator
        if name == "EXTERNAL":
            return channel.has_certificate and (not credentials.password or name in self._named)
        if not credentials.password:
            return False
        return not name.endswith("-PLUS") or any(kind in channel.bindings for kind in BINDINGS)

    def refused_before(self, credentials: Credentials, host: str) -> str:
        """What the server said to this login lately, so that it is not tried again; "" for nothing."""
        found = self._refused.get(_mark(credentials, host)) if self._remember_s else None
        if found is None or found[0] <= self._monotonic():
            return ""
        return found[1]

    def remember_refusal(self, credentials: Credentials, host: str, said: str) -> None:
        """535: the password is wrong, and will be until somebody changes it (smtp_sasl_auth_cache_name)."""
        if self._remember_s:
            self._refused[_mark(credentials, host)] = self._monotonic() + self._remember_s, said
            if len(self._refused) > _REFUSALS:
                self._refused.popitem(last=False)

    async def close(self) -> None:
        for table in self._maps.tables:
            await table.close()


def _is_allowed(traits: MechanismTraits, options: Sequence[str]) -> bool:
    return not (
        ("noplaintext" in options and traits.plaintext)
        or ("noactive" in options and traits.active)
        or ("nodictionary" in options and traits.dictionary)
        or ("noanonymous" in options and traits.anonymous)
        or ("mutual_auth" in options and not traits.mutual)
        or ("forward_secrecy" in options and not traits.forward_secrecy)
    )


def _mark(credentials: Credentials, host: str) -> bytes:
    """A login, so that its password need not be kept."""
    text = "\0".join((host.lower(), credentials.user, credentials.password))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
