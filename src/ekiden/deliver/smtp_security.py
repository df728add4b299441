"""TLS and login of one SMTP or LMTP agent: what each server is asked for, and what came of it.

The steps of a session that need a connection are in ``deliver.smtp_session``; here is what they decide by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.deliver.connection import Connection, Endpoint, UnixHost
from ekiden.deliver.smtp_job import Job
from ekiden.message.clock import Clock
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe.events import Note, Observer
from ekiden.protocol.smtp.client_login import Exchange, LoginProblem
from ekiden.route.next_hop import parse_next_hop
from ekiden.sasl.client_login import LoginRules, Safety
from ekiden.sasl.client_mechanisms import Channel, Credentials
from ekiden.tables.open import open_table
from ekiden.tables.table import Table
from ekiden.tls.channel_binding import channel_bindings
from ekiden.tls.client_context import ClientContexts, ClientLayer, ContextTrouble
from ekiden.tls.configured_policy import ConfiguredPolicies
from ekiden.tls.key_files import KeyFiles, client_key_pairs
from ekiden.tls.openssl import openssl
from ekiden.tls.peer_check import Verdict, check_peer
from ekiden.tls.policy import Level, NoDelivery, Problem, TlsOutcome, TlsPolicy, TlsPolicySource

Policies = Callable[[ConfiguredPolicies], TlsPolicySource]

NO_POLICY = Status(4, 7, 5)  # RFC 3463 §3.8: cryptographic failure
NOT_OFFERED = Status(4, 7, 4)  # security features not supported


class Security:
    """``policies`` puts another source of TLS policies in front of the configuration's: DANE, MTA-STS."""

    def __init__(
        self,
        parameters: Parameters,
        prefix: str,
        *,
        clock: Clock,
        observer: Observer,
        policies: Policies | None = None,
        key_files: Callable[[], KeyFiles] = KeyFiles,
        open_table: Callable[..., Table] = open_table,
    ) -> None:
        """``prefix``: smtp or lmtp, whose parameters count. ``key_files``: what the files of our own keys hold now.

        Raises ConfigError.
        """

        def own(name: str) -> Any:
            return getattr(parameters, f"{prefix}_{name}")

        self._transport = prefix
        self._clock, self._observer = clock, observer
        self._configured = ConfiguredPolicies(parameters, prefix, open_table=open_table)
        self._policies: TlsPolicySource = policies(self._configured) if policies is not None else self._configured
        self._contexts = ClientContexts(parameters, prefix, monotonic=clock.monotonic, key_files=key_files)
        self.logins = LoginRules(parameters, prefix, monotonic=clock.monotonic, open_table=open_table)
        # Whether there is anything to ask before a connection is made, or used again.
        self.has_logins = bool(self.logins)
        self.has_tls = not self._configured.is_off
        self.is_implicit: bool = own("tls_wrappermode")
        self.notes_offers: bool = own("tls_note_starttls_offer")
        self._logs: bool = own("tls_loglevel") > 0
        self._digest: str = own("tls_fingerprint_digest")
        if self._digest not in hashlib.algorithms_available:
            raise ConfigError(f"{prefix}_tls_fingerprint_digest = {self._digest}: there is no such digest")
        self._any_label: bool = parameters.tls_wildcard_matches_multiple_labels
        self._plain_after_s: float = parameters.minimal_backoff_time
        self._has_certificate = any(client_key_pairs(parameters, prefix))

    async def policy_for(
        self, next_hop: str, endpoint: Endpoint, *, require_tls: bool, tls_optional: bool
    ) -> TlsPolicy | NoDelivery:
        policy = await self._policies.policy_for(
            next_hop, as_host(endpoint), require_tls=require_tls, tls_optional=tls_optional
        )
        if isinstance(policy, NoDelivery):
            return policy
        if policy.level is Level.DANE_ONLY and not policy.tlsa:
            return NoDelivery(NO_POLICY, f"no TLSA records of {next_hop}, which dane-only asks for, can be relied upon")
        if policy.level is Level.DANE and not policy.tlsa:
            policy = replace(policy, level=Level.MAY)
        if self.is_implicit and policy.level < Level.ENCRYPT:
            return replace(policy, level=Level.ENCRYPT)
        if isinstance(endpoint, UnixHost) and policy.level is Level.MAY:
            return replace(policy, level=Level.NONE)  # nobody listens within this host
        return policy

    def constant_for(self, next_hop: str) -> TlsPolicy | None:
        """The policy of every server of a next hop: connections are compared with it without a question."""
        return None if self.is_implicit else self._policies.constant_for(next_hop)

    async def credentials_for(self, job: Job, next_hop: str, endpoint: Endpoint) -> Credentials | None:
        """Raises TableTrouble."""
        return await self.logins.credentials(job.request.envelope.sender, endpoint.name, next_hop)

    # -- TLS --

    def layer(self, policy: TlsPolicy, next_hop: str, endpoint: Endpoint) -> ClientLayer | ContextTrouble:
        try:
            return self._contexts.layer(policy, domain_of(next_hop), as_host(endpoint))
        except ContextTrouble as trouble:
            self._observer.emit(Note(self._transport, f"client TLS configuration problem: {trouble}", "warning"))
            return trouble

    def verdict(
        self, layer: ClientLayer, policy: TlsPolicy, next_hop: str, endpoint: Endpoint, queue_id: str
    ) -> Verdict:
        """Whether the server is the one that the policy wants, now that the handshake is done."""
        found = check_peer(
            layer,
            policy,
            next_hop_domain=domain_of(next_hop),
            host_name=endpoint.name,
            now=self._clock.time(),
            digest=self._digest,
            # RFC 8461 §4.2 by way of RFC 6125 §6.4.3: what a domain asks for is not for us to widen.
            any_label=self._any_label and policy.source != "sts",
            has_authorities=openssl() is not None or policy.level in (Level.VERIFY, Level.SECURE),
        )
        facts = found.facts
        if self._logs:
            text = (
                f"{facts.trust} TLS connection established to {endpoint}: {facts.protocol} with cipher "
                f"{facts.cipher} ({facts.bits}/{facts.bits} bits)"
            )
            self._observer.emit(Note(self._transport, text))
        if found.problem is not None:
            text = f"certificate verification failed for {endpoint}: {found.detail}"
            self._observer.emit(Note(self._transport, text, queue_id=queue_id))
        return found

    def keep_session(self, layer: ClientLayer, policy: TlsPolicy, next_hop: str, endpoint: Endpoint) -> None:
        self._contexts.remember(layer, policy, domain_of(next_hop), as_host(endpoint))

    def failed_handshake(self, policy: TlsPolicy, next_hop: str, endpoint: Endpoint, why: str, queue_id: str) -> None:
        self._contexts.forget(policy, domain_of(next_hop), as_host(endpoint))
        self._observer.emit(Note(self._transport, f"SSL_connect error to {endpoint}: {why}", queue_id=queue_id))

    def tell(
        self,
        next_hop: str,
        connection: Connection,
        policy: TlsPolicy,
        problem: Problem | None = None,
        detail: str = "",
        facts: TlsFacts | None = None,
    ) -> None:
        """One session's outcome, for reports."""
        outcome = TlsOutcome(
            problem, detail, facts, helo=connection.client.extensions.name, local_address=connection.local_address
        )
        self._policies.tell(next_hop, as_host(connection.endpoint), policy, outcome)

    def may_go_plain(self, job: Job, policy: TlsPolicy) -> bool:
        """Whether a handshake that failed is tried again without TLS: mail that waited in vain would wait for ever.

        Not at the first attempt, for the failure may be over soon; and never with a password.
        """
        waited_s = self._clock.time() - job.request.arrived
        return policy.level is Level.MAY and waited_s >= self._plain_after_s

    # -- login --

    async def exchange(
        self, connection: Connection, credentials: Credentials, next_hop: str
    ) -> Exchange | LoginProblem | None:
        """Raises TableTrouble."""
        layer, facts = connection.layer, connection.tls
        mechanisms = connection.client.extensions.mechanisms
        host = as_host(connection.endpoint)
        channel = Channel(
            bindings=channel_bindings(layer.connection, is_server=False) if layer is not None else {},
            has_certificate=layer is not None and self._has_certificate,
            host=host.name,
            port=host.port,
            offered=frozenset(mechanisms),
        )
        safety = Safety(tls=facts is not None, verified=facts is not None and facts.verified)
        return await self.logins.exchange(credentials, mechanisms, safety, channel)

    async def close(self) -> None:
        await self._configured.close()
        await self.logins.close()


def as_host(endpoint: Endpoint) -> Host:
    return Host(endpoint.name, "", 0) if isinstance(endpoint, UnixHost) else endpoint


def domain_of(next_hop: str) -> str:
    """The domain or host of a next hop, without brackets and port; "" where there is none (a unix socket)."""
    if next_hop.startswith("unix:"):
        return ""
    hop = parse_next_hop(next_hop.removeprefix("inet:"))
    return hop.host if hop is not None else ""
