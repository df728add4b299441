"""What domains and DNS say of TLS, put in front of what the configuration says: DANE, MTA-STS, REQUIRETLS.

In:   the configured policies; a Resolver that knows what is authentic; the discovery of MTA-STS policies; who counts.
Out:  the policy of each server (tls.policy.TlsPolicySource), and every outcome told to who counts for reports.
Never: lets what DNS fails to say weaken a policy; looks anything up for a server whose policy a table has.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from ekiden.config.snapshot import Parameters
from ekiden.dns.name import dns_name
from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.route.next_hop import parse_next_hop
from ekiden.tls.dane import DIGESTS
from ekiden.tls.dane_records import ServerRecords, server_records
from ekiden.tls.decision import DaneRules, by_dane, by_mta_sts, require_tls_problem
from ekiden.tls.mta_sts import Policy
from ekiden.tls.policy import LEVELS, Level, NoDelivery, Problem, TlsOutcome, TlsPolicy, TlsPolicySource
from ekiden.tls.sts_discovery import Discovered, StsDiscovery

_DANE_LEVELS = (Level.DANE, Level.DANE_ONLY)
_KNOWN_LIMIT = 2000  # domains whose policy is remembered until its session's outcome is told


class Configured(TlsPolicySource, Protocol):
    """What tls.configured_policy is to us."""

    @property
    def default(self) -> TlsPolicy:
        """The policy of servers that no table knows."""

    def base(self, level: Level) -> TlsPolicy:
        """How TLS is spoken at a level, as the parameters have it."""


class Counts(Protocol):
    """Who counts outcomes for reports (RFC 8460). Methods never block and never raise."""

    def tlsa(self, domain: str, host: Host, records: ServerRecords, outcome: TlsOutcome) -> None: ...
    def sts(self, domain: str, host: Host, policy: Policy | None, outcome: TlsOutcome) -> None: ...
    def none(self, domain: str, host: Host, outcome: TlsOutcome) -> None: ...


def dane_rules(parameters: Parameters, prefix: str) -> DaneRules:
    """``prefix``: smtp or lmtp, whose parameters count."""
    return DaneRules(
        insecure_mx=LEVELS[parameters.smtp_tls_dane_insecure_mx_policy],
        digests=[DIGESTS[word] for word in parameters.tls_dane_digests],
        has_dnssec=getattr(parameters, f"{prefix}_dns_support_level") == "dnssec",
    )


class DomainPolicies:
    """A TlsPolicySource in front of ``configured``. ``sts`` and ``counts`` None: not in use."""

    def __init__(
        self,
        configured: Configured,
        rules: DaneRules,
        resolver: Resolver,
        *,
        sts: StsDiscovery | None = None,
        only_tests: bool = False,
        counts: Counts | None = None,
        counts_resumed: bool = True,
    ) -> None:
        self._configured = configured
        self._rules = rules
        self._resolver = resolver
        self._sts = sts
        self._only_tests = only_tests
        self._counts = counts
        self._counts_resumed = counts_resumed
        self._said: dict[str, Discovered] = {}

    def constant_for(self, next_hop: str) -> TlsPolicy | None:
        policy = self._configured.constant_for(next_hop)
        if policy is None or self._sts is None or policy.level not in (Level.MAY, Level.ENCRYPT):
            return policy
        # A host that is named outright is no domain that could have an MTA-STS policy.
        return policy if next_hop.startswith("[") else None

    async def policy_for(
        self, next_hop: str, host: Host, *, require_tls: bool = False, tls_optional: bool = False
    ) -> TlsPolicy | NoDelivery:
        policy = await self._configured.policy_for(next_hop, host)
        if isinstance(policy, NoDelivery):
            return policy
        if tls_optional and not require_tls:
            return replace(policy, level=Level.MAY) if policy.level is Level.DANE else policy
        if require_tls and policy.level > Level.DANE_ONLY:
            return policy
        is_default = policy is self._configured.default
        if policy.level in _DANE_LEVELS:
            decided = await self._by_dane(policy, next_hop, host)
            if decided is None:
                policy = replace(policy, level=Level.MAY)
            elif isinstance(decided, NoDelivery) or not (decided.tlsa or decided.source == "dane"):
                return decided
            else:
                return await self._under_dane(decided, next_hop, host, is_default, require_tls=require_tls)
        elif (policy.level is Level.NONE and not require_tls) or policy.level > Level.DANE_ONLY:
            return policy
        domain = sts_domain(next_hop) if is_default else None
        said = await self._discovered(domain) if domain is not None and policy.level is not Level.NONE else None
        found = said.policy if said is not None else None
        if require_tls:
            return self._required(next_hop, host, found)
        if found is None or domain is None:
            return policy
        decided = by_mta_sts(policy, self._configured.base(Level.SECURE), host, found, only_tests=self._only_tests)
        if not found.names(host.name):
            outcome = TlsOutcome(Problem.FAILED, f"{host.name} is not in the MTA-STS policy")
            self._count_sts(domain, host, found, outcome)
        return decided

    async def _by_dane(self, policy: TlsPolicy, next_hop: str, host: Host) -> TlsPolicy | NoDelivery | None:
        records: ServerRecords | None = None
        if self._rules.has_dnssec:
            try:
                records = await server_records(self._resolver, host)
            except DnsTrouble as trouble:
                # RFC 7672 §2.1.2: without this anybody who breaks DNS would do away with DANE.
                text = f"TLSA lookup error for {host.name}:{host.port}: {trouble}"
                self._count_tlsa(next_hop, host, records, TlsOutcome(Problem.DNSSEC_INVALID, text))
                return NoDelivery(Status(4, 7, 5), text)
        decided = by_dane(policy, host, records, self._rules)
        if isinstance(decided, NoDelivery) and self._rules.has_dnssec:
            problem = Problem.DANE_REQUIRED if records is None else Problem.TLSA_INVALID
            self._count_tlsa(next_hop, host, records, TlsOutcome(problem, decided.text))
        return decided

    async def _under_dane(
        self, policy: TlsPolicy, next_hop: str, host: Host, is_default: bool, *, require_tls: bool
    ) -> TlsPolicy | NoDelivery:
        """MTA-STS adds nothing to DANE (RFC 8461 §2), except a word on MX records that DNSSEC does not prove."""
        if not host.insecure_mx:
            said = None
        else:
            domain = sts_domain(next_hop) if is_default else None
            discovered = await self._discovered(domain) if domain is not None else None
            said = discovered.policy if discovered is not None else None
            if said is not None and not self._only_tests and said.mode.value == "enforce" and not said.names(host.name):
                return by_mta_sts(policy, policy, host, said, only_tests=False)
        if require_tls:
            if not policy.tlsa:
                return self._required(next_hop, host, said)
            problem = require_tls_problem(host, said, by_configuration=domain_of(next_hop) is None)
            return problem if problem is not None else policy
        return policy

    def _required(self, next_hop: str, host: Host, said: Policy | None) -> TlsPolicy | NoDelivery:
        """REQUIRETLS: the server is proven to be the domain's, and an authority vouches for its certificate."""
        problem = require_tls_problem(host, said, by_configuration=sts_domain(next_hop) is None)
        if problem is not None:
            return problem
        return replace(self._configured.base(Level.VERIFY), public_authorities=True)

    async def _discovered(self, domain: str) -> Discovered:
        if self._sts is None:
            return Discovered()
        found = await self._sts.policy_of(domain)
        if self._counts is not None:
            self._said.pop(domain, None)
            if len(self._said) >= _KNOWN_LIMIT:
                del self._said[next(iter(self._said))]
            self._said[domain] = found
        return found

    # -- outcomes --

    def tell(self, next_hop: str, host: Host, policy: TlsPolicy, outcome: TlsOutcome) -> None:
        self._configured.tell(next_hop, host, policy, outcome)
        domain = domain_of(next_hop)
        if self._counts is None or domain is None:
            return
        if outcome.facts is not None and outcome.facts.resumed and not self._counts_resumed:
            return
        said = self._said.get(domain, Discovered())
        if policy.source == "dane":
            self._counts.tlsa(domain, host, ServerRecords(policy.tlsa, policy.tlsa_base or host.name), outcome)
        elif policy.source == "sts" or (said.policy is not None and policy.level >= Level.MAY):
            self._count_sts(domain, host, said.policy, outcome)
        else:
            if said.problem is not None:
                # Its own line in the report; the session itself had no policy to follow.
                self._count_sts(domain, host, None, TlsOutcome(said.problem, said.detail))
            self._counts.none(domain, host, outcome)

    def _count_tlsa(self, next_hop: str, host: Host, records: ServerRecords | None, outcome: TlsOutcome) -> None:
        if self._counts is not None and (domain := domain_of(next_hop)) is not None:
            self._counts.tlsa(domain, host, records or ServerRecords((), host.canonical or host.name), outcome)

    def _count_sts(self, domain: str, host: Host, policy: Policy | None, outcome: TlsOutcome) -> None:
        if self._counts is not None:
            self._counts.sts(domain, host, policy, outcome)


def sts_domain(next_hop: str) -> str | None:
    """The domain of a next hop that is looked up by its MX records; None for hosts that are named outright."""
    domain = domain_of(next_hop)
    return domain if domain is not None and ":" not in next_hop else None


def domain_of(next_hop: str) -> str | None:
    """In A-labels; None for ``[host]``, addresses and sockets."""
    if next_hop.startswith(("[", "unix:", "inet:")):
        return None
    hop = parse_next_hop(next_hop)
    return dns_name(hop.host) if hop is not None and hop.use_mx and not hop.is_address else None
