"""Which mechanisms of login a client may use now, and what they may know of its connection (RFC 4954 §3, RFC 4422)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from ekiden.config.parameters.smtpd_sasl import SECURITY_OPTIONS
from ekiden.config.snapshot import Parameters
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe.events import Observer
from ekiden.receive.protocol_rules import CommandList
from ekiden.sasl.exchange import Facts, Mechanisms, MechanismTraits
from ekiden.sasl.external import EXTERNAL
from ekiden.sasl.scram_server import PLUS
from ekiden.tables.match import client_list
from ekiden.tables.open import is_table, open_table, open_tables
from ekiden.tls.certificate_names import mail_addresses_of
from ekiden.tls.channel_binding import channel_bindings

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession

# A client that takes a -PLUS mechanism may know no other kind of binding than this one (RFC 5802 §6, RFC 9266 §3).
_EXPECTED_BINDINGS = frozenset({"tls-unique", "tls-exporter"})

_NO_BINDINGS: Mapping[str, bytes] = {}


class Usable(Struct, frozen=True):
    """Mechanisms that a client may use: in the order of preference, and to look one up."""

    names: tuple[str, ...]
    words: frozenset[str]


class LoginService:
    """Login at one smtpd service; all its sessions share this."""

    def __init__(self, parameters: Parameters, mechanisms: Mechanisms, observer: Observer) -> None:
        """Raises ConfigError when a table that a parameter names cannot be had."""
        self.mechanisms = mechanisms
        self._parameters = parameters
        self._filter = CommandList(
            parameters.smtpd_sasl_mechanism_filter, observer, lambda word: open_table(word, parameters=parameters)
        )
        # Every session asks for the same; what tables say may change.
        self._filter_stays = not any(
            is_table(word.lstrip("!")) and not word.lstrip("!").startswith("static:")
            for word in parameters.smtpd_sasl_mechanism_filter
        )
        self._usable: dict[tuple[tuple[MechanismTraits, ...], bool, bool, bool], Usable] = {}
        self._there: tuple[MechanismTraits, ...] = ()
        self._needs_bindings = False  # ... some mechanism of these
        self._exceptions = client_list(parameters, "smtpd_sasl_exceptions_networks")
        self._certificates = open_tables(parameters.smtpd_sasl_certificate_maps, parameters=parameters)
        self._clear = frozenset(parameters.smtpd_sasl_security_options)
        self._encrypted = frozenset(parameters.smtpd_sasl_tls_security_options)

    def needs_tls(self, tls: TlsFacts | None) -> bool:
        """Whether nobody can log in before STARTTLS."""
        return tls is None and self._parameters.smtpd_tls_auth_only

    async def announced(self, session: SmtpSession) -> tuple[str, ...]:
        """The mechanisms for the answer to EHLO. Raises TableTrouble."""
        client, tls = session.client, session.client.tls
        if self.needs_tls(tls) or await self._exceptions.matches(client.address, client.name):
            return ()
        there = await self.mechanisms.mechanisms()
        name = await self._certificate_name(tls, session.connection.encryption) if tls and self._certificates else ""
        return self._usable_over(there, tls is not None, bool(name), self._channel_bindings(session, there)).names

    async def usable(self, facts: Facts) -> tuple[str, ...]:
        """The mechanisms that work over such a connection and are good enough for it, in the order of preference."""
        there = await self.mechanisms.mechanisms()
        return self._usable_over(there, facts.tls, bool(facts.certificate_name), facts.channel_bindings).names

    def _usable_over(
        self, there: tuple[MechanismTraits, ...], tls: bool, has_certificate: bool, bindings: Mapping[str, bytes]
    ) -> Usable:
        is_bound = not _EXPECTED_BINDINGS.isdisjoint(bindings)
        key = (there, tls, has_certificate, is_bound)
        found = self._usable.get(key)
        if found is None:
            wanted = self._encrypted if tls else self._clear
            names = tuple(
                traits.name
                for traits in there
                if (traits.name != EXTERNAL.name or has_certificate)
                and (is_bound or not traits.name.endswith(PLUS))
                and _is_worth(traits, wanted)
                and self._filter.holds(traits.name.encode())
            )
            found = Usable(names, frozenset(names))
            if self._filter_stays:
                self._usable[key] = found
        return found

    async def facts(self, session: SmtpSession) -> Facts:
        """Raises TableTrouble."""
        client, tls = session.client, session.client.tls
        here = session.connection.transport.get_extra_info("sockname") or ("", 0)
        there = await self.mechanisms.mechanisms()
        name = await self._certificate_name(tls, session.connection.encryption) if tls and self._certificates else ""
        bindings = self._channel_bindings(session, there)
        return Facts(
            service=self._parameters.smtpd_sasl_service,
            local_address=str(here[0]),
            local_port=int(here[1]),
            remote_address=client.address,
            remote_port=client.port,
            tls=tls is not None,
            server_name=(tls.server_name if tls is not None else "") or self._parameters.myhostname,
            channel_bindings=bindings,
            certificate_verified=bool(name),
            certificate_name=name,
            offered=self._usable_over(there, tls is not None, bool(name), bindings).words,
        )

    def _channel_bindings(self, session: SmtpSession, there: tuple[MechanismTraits, ...]) -> Mapping[str, bytes]:
        """They cost some time, so they are asked for where a mechanism needs them."""
        if there is not self._there:
            self._there, self._needs_bindings = there, any(each.name.endswith(PLUS) for each in there)
        connection = session.connection.encryption if self._needs_bindings else None
        return _NO_BINDINGS if connection is None else channel_bindings(connection, is_server=True)

    async def _certificate_name(self, tls: TlsFacts, connection: ssl.SSLObject | None = None) -> str:
        """The account that the client's certificate is for; "" for none."""
        keys = [tls.fingerprint, tls.key_fingerprint]
        if tls.trusted:
            # What a certificate says of itself counts only where we trust who made it.
            der = None if connection is None else connection.getpeercert(binary_form=True)
            keys += [*(mail_addresses_of(der) if der else ()), tls.peer_name]
        for key in keys:
            if key and (found := await self._certificates.lookup(key)) is not None:
                return found.strip()
        return ""


def _is_worth(traits: MechanismTraits, options: frozenset[str]) -> bool:
    """Whether a mechanism meets all the security options."""
    met = {
        "noanonymous": not traits.anonymous,
        "noplaintext": not traits.plaintext,
        "nodictionary": not traits.dictionary,
        "noactive": not traits.active,
        "forward_secrecy": traits.forward_secrecy,
        "mutual_auth": traits.mutual,
    }
    assert met.keys() == set(SECURITY_OPTIONS)
    return all(met[option] for option in options)
