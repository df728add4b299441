"""Which TLS a server would have to have, in words, and which setting is the reason (for ``ekiden why``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.host import Host
from ekiden.observe.events import Event
from ekiden.runtime.decisions import Decisions
from ekiden.runtime.domain_tls import DomainTls
from ekiden.tables.table import Table
from ekiden.tls.configured_policy import ConfiguredPolicies
from ekiden.tls.policy import Level, NoDelivery, TlsPolicy

_BY_LEVEL = {
    Level.NONE: "plain text",
    Level.MAY: "TLS if the server offers it, with any certificate",
    Level.ENCRYPT: "TLS, with any certificate",
    Level.FINGERPRINT: "TLS, with a certificate of a known fingerprint",
}


class TlsExplainer:
    """Asks what a delivery asks; policies that it fetches are kept as a worker keeps them."""

    def __init__(self, main: Parameters, decisions: Decisions, clock: Clock, open_table: Callable[..., Table]) -> None:
        self._open_table = open_table
        self._domain_tls = DomainTls(
            main,
            resolver=decisions.resolver,
            secure_resolver=lambda: decisions.secure_resolver,
            submit=_nothing_to_send,
            clock=clock,
            observer=_Silence(),
            makes_files=False,
        )

    async def words(self, parameters: Parameters, prefix: str, next_hop: str, host: Host) -> tuple[str, str]:
        """What is asked of a server, and the setting that asks it ("": DNS or the domain does).

        ``prefix``: smtp or lmtp. Raises ConfigError.
        """
        configured = ConfiguredPolicies(parameters, prefix, open_table=self._open_table)
        found = await self._domain_tls.policies(parameters, prefix)(configured).policy_for(next_hop, host)
        if isinstance(found, NoDelivery):
            return f"nothing is sent to {host.name}: {found.text}", ""
        if found.source == "dane":
            return _by_dane(found), ""
        if found.source == "sts":
            mode = "testing: it is only reported" if found.testing else "enforce"
            return f"TLS, with a certificate for {host.name}, as MTA-STS says ({mode})", ""
        plain = await configured.policy_for(next_hop, host)
        by_table = isinstance(plain, TlsPolicy) and plain is not configured.default
        setting = f"{prefix}_tls_policy_maps" if by_table else f"{prefix}_tls_security_level"
        if found.level in _BY_LEVEL:
            return _BY_LEVEL[found.level], setting
        return f"TLS, with a certificate that an authority gave to {' or '.join(found.match)}", setting

    async def close(self) -> None:
        await self._domain_tls.close()


def _by_dane(policy: TlsPolicy) -> str:
    if not policy.tlsa:
        return "TLS, with any certificate: the server has TLSA records that cannot be used"
    kinds = ", ".join(sorted({f"{each.usage} {each.selector} {each.matching}" for each in policy.tlsa}))
    return f"TLS, with a certificate that a TLSA record of {policy.tlsa_base} knows ({kinds})"


async def _nothing_to_send(*_: object) -> NoReturn:
    raise AssertionError("who only asks sends nothing")


class _Silence:
    def emit(self, event: Event) -> None:
        pass
