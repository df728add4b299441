"""The one place where sender authentication is decided: whose mail is examined, by what limits, and what follows.

Made from the parameters of a service at start and at each reload; an Examination is made for each message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ekiden.auth.arc.verify import ArcLimits
from ekiden.auth.dkim.verify import DkimLimits
from ekiden.auth.dmarc.discovery import Method
from ekiden.auth.dmarc.remembered import DmarcEvaluations
from ekiden.auth.results.write import identifier_text
from ekiden.auth.spf.lookups import SpfLimits
from ekiden.auth.spf.remembered import SpfChecks
from ekiden.auth.verdict import Verdicts
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import Resolver
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.envelope import Client, Recipient
from ekiden.policy.arc_sealing import ArcSealer
from ekiden.policy.arc_trust import ArcTrust
from ekiden.policy.dmarc_decision import NOTHING, Decision, DmarcDecisions
from ekiden.policy.examination import Examination
from ekiden.reports.aggregate import OverrideReason
from ekiden.reports.collect import Evaluated
from ekiden.tables.match import client_list
from ekiden.tables.open import Maps
from ekiden.tables.table import Table
from ekiden.tls.key_files import KeyFiles

GoesOn = Callable[[Address], Awaitable[bool]]


class SenderAuthentication:
    """Raises ConfigError when a parameter cannot be used."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        resolver: Resolver,
        clock: Clock,
        open_table: Callable[[str], Table],
        report: Callable[[Evaluated, bytes], None] | None,
        key_files: Callable[[], KeyFiles] = KeyFiles,
        goes_on: GoesOn | None = None,
    ) -> None:
        """``report`` takes what is counted for reports to the owners of domains, and the header as it came; None where
        nothing is counted.

        ``key_files``: what the files of keys hold now; ``goes_on``: whether mail for an address is for another host;
        None where nothing is sealed for being passed on.
        """
        self.parameters = parameters
        self.resolver = resolver
        self.clock = clock
        self.report = report
        self.discovery: Method = "public-suffix" if parameters.dmarc_discovery == "public-suffix" else "tree-walk"
        self.refuses_by_spf = parameters.spf_policy in ("soft-refuse", "refuse")
        self.checks_spf = parameters.spf_policy != "none" or parameters.dmarc_policy != "none"
        self.spf_limits = SpfLimits(
            void_lookups=parameters.spf_void_lookup_limit,
            time_s=parameters.authentication_time_limit,
            explains=self.refuses_by_spf,  # who else would read it
        )
        self.spf = SpfChecks(
            resolver,
            receiver=parameters.myhostname,
            limits=self.spf_limits,
            checks_helo=parameters.spf_checks_helo,
            writes_field=parameters.spf_received_header,
            time=clock.time,
        )
        self.dmarc = DmarcEvaluations(resolver, self.discovery)
        self.dkim_limits = DkimLimits(
            signatures=parameters.dkim_signature_limit, time_s=parameters.authentication_time_limit
        )
        self.arc_limits = ArcLimits(time_s=parameters.authentication_time_limit)
        try:
            identifier_text(parameters.authserv_id)
        except ValueError as error:
            raise ConfigError(
                f"authserv_id = {parameters.authserv_id}: must be a name such as that of a host"
            ) from error
        self._exempt = client_list(parameters, "authentication_exempt_clients")
        self.exempts_some = bool(self._exempt)
        self._decisions = DmarcDecisions(parameters)
        self._trust = ArcTrust(parameters, open_table=open_table)
        self.sealer = ArcSealer(parameters, key_files=key_files)
        self.seals = bool(self.sealer)
        self._goes_on = goes_on
        self._overrides = Maps([open_table(word) for word in parameters.dmarc_override_maps])

    @staticmethod
    def is_wanted(parameters: Parameters) -> bool:
        """Whether there is anything to find out. A content filter's way back takes no_milters for that."""
        if "no_milters" in parameters.receive_override_options:
            return False
        checks = parameters.dkim_verification or parameters.arc_verification
        return checks or parameters.spf_policy != "none" or parameters.dmarc_policy != "none"

    async def is_exempt(self, client: Client) -> bool:
        """Raises TableTrouble."""
        return self.exempts_some and await self._exempt.matches(client.address, client.name)

    def examine(self, client: Client, sender: Address) -> Examination:
        return Examination(self, client, sender)

    async def seals_for(self, recipients: Sequence[Recipient]) -> bool:
        """Whether mail for these gets an ARC seal. Raises TableTrouble."""
        if not self.seals or self.sealer.seals_all:
            return self.seals
        goes_on = self._goes_on
        if goes_on is None:
            return False
        for recipient in recipients:
            if await goes_on(recipient.address):
                return True
        return False

    async def decide(self, verdicts: Verdicts, client: Client, header: bytes) -> Decision:
        """``header`` is the one that came. Raises TableTrouble."""
        dmarc = verdicts.dmarc
        if dmarc is None:
            return NOTHING
        decision = self._decisions.decide(dmarc, None)
        if decision is NOTHING:
            return decision
        override = await self._override(client, dmarc.from_domain)
        if override is None and self._trust:
            rescue = await self._trust.rescue(header, verdicts.arc, dmarc)
            if rescue.rescued:  # RFC 9990 §3.1.6
                override = OverrideReason("trusted_forwarder", rescue.reason)
        return decision if override is None else self._decisions.decide(dmarc, override)

    async def _override(self, client: Client, from_domain: str) -> OverrideReason | None:
        if self._overrides:
            for key in (client.address, client.name, from_domain):
                if key and (found := await self._overrides.lookup(key)) is not None:
                    return OverrideReason("local_policy", found)
        return None
