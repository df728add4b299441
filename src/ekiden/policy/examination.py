"""One message of a stranger, examined while it comes in: SPF, DKIM, ARC, DMARC, iprev.

In:   who the client is and whom it names, at MAIL; the header when it is complete; the body in pieces.
Out:  at RCPT a refusal by SPF; at the end what was found, what is done, and the fields that say so.
Never: passes over the body twice, waits for DNS while content can be read, takes silence of DNS for an answer: what
       cannot be found out in time is a temporary error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ekiden.auth.arc.verify import ArcVerification
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dkim.verify import DkimVerification
from ekiden.auth.dmarc.author import author_domains
from ekiden.auth.dmarc.evaluate import evaluate
from ekiden.auth.results.remove import without_own
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.spf.check import check_host, mail_from_identity
from ekiden.auth.spf.received_spf import received_spf
from ekiden.auth.verdict import DmarcVerdict, IprevVerdict, Result, SpfVerdict, Verdicts
from ekiden.dns.cache import remembered_txt
from ekiden.message.address import Address
from ekiden.message.envelope import Client, Recipient
from ekiden.message.reply import Refusal
from ekiden.policy.arc_sealing import Sealed
from ekiden.policy.conclusion import Conclusion
from ekiden.policy.dmarc_decision import NOTHING
from ekiden.policy.spf_decision import spf_refusal

if TYPE_CHECKING:
    from ekiden.policy.sender_authentication import SenderAuthentication

T = TypeVar("T")
_SpfVerdicts = tuple[SpfVerdict, SpfVerdict | None]  # on MAIL FROM, and on HELO


class Examination:
    """Begins at the first recipient that is accepted: nobody is asked about mail that nobody gets."""

    def __init__(self, authentication: SenderAuthentication, client: Client, sender: Address) -> None:
        self._authentication = authentication
        self._client = client
        self._sender = sender
        self._hashes = BodyHashes()
        self._spf: asyncio.Task[_SpfVerdicts] | None = None
        self._spf_found: _SpfVerdicts | None = None
        self._dkim: DkimVerification | None = None
        self._arc: ArcVerification | None = None
        self._authors: tuple[str, ...] = ()
        self.header = b""  # as the client sent it
        self._kept = b""  # as it is stored

    def begin(self) -> None:
        """Has DNS asked for the record of SPF while the rest of the message comes in, unless it is known."""
        authentication = self._authentication
        if self._spf is not None or not authentication.checks_spf:
            return
        domain, _ = mail_from_identity(str(self._sender), self._client.helo)
        if remembered_txt(authentication.resolver, domain) is None:
            self._spf = asyncio.create_task(self._check_spf())

    async def recipient_refusal(self) -> Refusal | None:
        """What SPF says against any recipient; asks nobody where that could not be refused."""
        policy = self._authentication.parameters.spf_policy
        if policy not in ("soft-refuse", "refuse"):
            return None
        return spf_refusal((await self._spf_verdicts())[0], policy)

    def take_header(self, received: bytes, stored: bytes) -> bytes:
        """``received`` as the client sent it, which signatures are about; ``stored`` as it is kept. What to keep."""
        authentication = self._authentication
        parameters, now = authentication.parameters, authentication.clock.time()
        self.header = received
        signable = SignableHeader(received)
        if parameters.dkim_verification:
            self._dkim = DkimVerification(
                signable, self._hashes, resolver=authentication.resolver, limits=authentication.dkim_limits, now=now
            )
            self._dkim.start()
        if parameters.arc_verification:
            self._arc = ArcVerification(
                signable, self._hashes, resolver=authentication.resolver, limits=authentication.arc_limits, now=now
            )
            self._arc.start()
        if parameters.dmarc_policy != "none":
            self._authors = author_domains(received)
        if authentication.sealer:
            authentication.sealer.prepare(self._hashes)
        self._kept = without_own(stored, parameters.authserv_id)
        return self._kept

    def feed(self, body: bytes) -> None:
        self._hashes.feed(body)

    async def conclude(self) -> Conclusion:
        """When the content is whole. Raises TableTrouble."""
        self._hashes.finish()
        verdicts = await self._verdicts()
        authentication, decision = self._authentication, NOTHING
        if verdicts.dmarc is not None:
            decision = await authentication.decide(verdicts, self._client, self.header)
        results = results_text(verdicts, client_address=self._client.address)
        return Conclusion(verdicts, decision, self._head(verdicts, results) + decision.fields, results)

    async def sealed(self, conclusion: Conclusion, recipients: Sequence[Recipient]) -> Sealed:
        """An ARC seal on what was found, where the message goes on to others (arc_seal). Raises TableTrouble."""
        authentication, arc = self._authentication, conclusion.verdicts.arc
        if arc is None or not await authentication.seals_for(recipients):
            return NOT_SEALED
        return authentication.sealer.seal(
            self._kept, self._hashes, chain=arc, results=conclusion.results, now=authentication.clock.time()
        )

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        if self._spf is not None:
            self._spf.cancel()
        if self._dkim is not None:
            self._dkim.cancel()
        if self._arc is not None:
            self._arc.cancel()

    # -- the checks

    async def _verdicts(self) -> Verdicts:
        parameters = self._authentication.parameters
        spf = helo = arc = dmarc = None
        if self._authentication.checks_spf:
            spf, helo = await self._spf_verdicts()
        dkim = () if self._dkim is None else await self._dkim.verdicts()
        if self._arc is not None:
            arc = await self._arc.verdict()
        if parameters.dmarc_policy != "none":
            dmarc = await self._in_time(
                evaluate(
                    self._authentication.resolver,
                    author_domains=self._authors,
                    spf=spf,
                    dkim=dkim,
                    discovery=self._authentication.discovery,
                ),
                DmarcVerdict(Result.TEMPERROR, from_domain=self._authors[0] if self._authors else "", reason=_LATE),
            )
        named = iprev(self._client) if parameters.smtpd_peername_lookup else None
        return Verdicts(spf=spf, spf_helo=helo, dkim=dkim, arc=arc, dmarc=dmarc, iprev=named)

    async def _spf_verdicts(self) -> _SpfVerdicts:
        if self._spf_found is None:
            self._spf_found = await (self._check_spf() if self._spf is None else self._spf)
        return self._spf_found

    async def _check_spf(self) -> _SpfVerdicts:
        parameters, client, sender = self._authentication.parameters, self._client, self._sender
        helo = None
        if parameters.spf_checks_helo and not sender.is_null:  # for the null sender the HELO name stands anyway
            helo = await self._spf_of("helo", *mail_from_identity("", client.helo))
        return await self._spf_of("mailfrom", *mail_from_identity(str(sender), client.helo)), helo

    async def _spf_of(self, identity: str, domain: str, sender: str) -> SpfVerdict:
        authentication, client = self._authentication, self._client
        return await check_host(
            authentication.resolver,
            client_address=client.address,
            domain=domain,
            sender=sender,
            helo=client.helo,
            identity=identity,
            receiver=authentication.parameters.myhostname,
            limits=authentication.spf_limits,
            now=authentication.clock.time(),
        )

    async def _in_time(self, checking: Awaitable[T], late: T) -> T:
        try:
            async with asyncio.timeout(self._authentication.parameters.authentication_time_limit):
                return await checking
        except TimeoutError:
            return late

    # -- the header

    def _head(self, verdicts: Verdicts, results: str) -> bytes:
        parameters = self._authentication.parameters
        head = authentication_results(parameters.authserv_id, results)
        if parameters.spf_received_header and verdicts.spf is not None:
            head += received_spf(
                verdicts.spf,
                client_address=self._client.address,
                helo=self._client.helo,
                receiver=parameters.myhostname,
                envelope_from=str(self._sender),
            )
        return head


NOT_SEALED = Sealed()
_LATE = "DNS did not answer in time (authentication_time_limit)"


def iprev(client: Client) -> IprevVerdict:
    """What the look-up of the client's name found (RFC 8601 §3)."""
    if client.name != "unknown":
        return IprevVerdict(Result.PASS, client.name, client.address)
    return IprevVerdict(Result.TEMPERROR if client.name_failed else Result.FAIL, "", client.address)
