"""Which TLS policy a server gets, given what its domain and DNS say: DANE before MTA-STS before the configuration.

In:   the configured policy; what was found of DANE and of MTA-STS; the parameters on both.
Out:  the TlsPolicy of the server, or NoDelivery.
Never: does I/O, makes a policy weaker than the configured one (except DANE's level, which is no level by itself).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.tls.dane import strongest, usable
from ekiden.tls.dane_records import ServerRecords
from ekiden.tls.mta_sts import Mode, Policy
from ekiden.tls.policy import Level, NoDelivery, TlsPolicy

_NO_POLICY = Status(4, 7, 5)
REQUIRETLS_IMPOSSIBLE = Status(5, 7, 30)  # RFC 8689 §4.2.1: REQUIRETLS support required


class DaneRules(Struct, frozen=True):
    """``insecure_mx``: smtp_tls_dane_insecure_mx_policy. ``digests``: those in use, the strongest first."""

    insecure_mx: Level
    digests: Sequence[int]
    has_dnssec: bool  # smtp_dns_support_level = dnssec


def by_dane(
    policy: TlsPolicy, host: Host, found: ServerRecords | None, rules: DaneRules
) -> TlsPolicy | NoDelivery | None:
    """What DANE makes of a policy of level dane or dane-only; None: it has nothing to say, and the level is may.

    RFC 7672 §2.2: usable records authenticate; records of which none is usable still ask for TLS.
    """
    only = policy.level is Level.DANE_ONLY
    if not rules.has_dnssec:
        text = "TLS policy dane needs smtp_dns_support_level = dnssec"
        return NoDelivery(_NO_POLICY, text) if only else replace(policy, level=Level.ENCRYPT)
    if only and host.insecure_mx:
        return NoDelivery(_NO_POLICY, f"non DNSSEC destination: the MX records that name {host.name} are not proven")
    if found is None or (host.insecure_mx and rules.insecure_mx is Level.MAY):
        if only:
            return NoDelivery(_NO_POLICY, f"no TLSA records found for {host.name}:{host.port}")
        return None
    records = strongest(usable(found.records, rules.digests), rules.digests)
    if not records:
        if only:
            return NoDelivery(_NO_POLICY, f"no usable TLSA records for {host.name}:{host.port}")
        return replace(policy, level=Level.ENCRYPT, source="dane")
    if host.insecure_mx and rules.insecure_mx is Level.ENCRYPT:
        return replace(policy, level=Level.ENCRYPT, source="dane")
    return replace(policy, source="dane", tlsa=records, tlsa_base=found.base)


def by_mta_sts(
    policy: TlsPolicy, secure: TlsPolicy, host: Host, said: Policy, *, only_tests: bool
) -> TlsPolicy | NoDelivery:
    """What a domain's MTA-STS policy makes of the one that would hold without it (RFC 8461 §4, §5).

    ``secure``: how TLS is spoken at level secure. ``only_tests``: smtp_mta_sts_policy = testing.
    """
    testing = only_tests or said.mode is Mode.TESTING
    if not said.names(host.name):
        # RFC 8461 §4.1: such a host is not tried. In testing mode that is only told.
        return policy if testing else NoDelivery(_NO_POLICY, f"{host.name} is not in the MTA-STS policy")
    if testing and policy.level is not Level.MAY:
        return policy  # what the configuration asks for stays: a test must not undo it
    return replace(
        secure,
        level=Level.SECURE,
        source="sts",
        match=("hostname",),  # RFC 8461 §4.2
        server_name="hostname",
        trust_anchors=(),
        public_authorities=True,
        testing=testing,
        reuse=policy.reuse,
    )


def require_tls_problem(host: Host, said: Policy | None, *, by_configuration: bool) -> NoDelivery | None:
    """Why a message with REQUIRETLS may not go to a host (RFC 8689 §4.2.1, step 2): its name is nobody's word.

    ``by_configuration``: the administrator named the host, or what its certificate must be called.
    """
    if by_configuration or not host.insecure_mx or (said is not None and said.names(host.name)):
        return None
    return NoDelivery(
        REQUIRETLS_IMPOSSIBLE, f"REQUIRETLS: neither DNSSEC nor MTA-STS proves that {host.name} serves the domain"
    )
