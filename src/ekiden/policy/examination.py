"""One message of a stranger, examined while it comes in: SPF, DKIM, ARC, DMARC, iprev.

In:   who the client is and whom it names, at MAIL; the header when it is complete; the body in pieces.
Out:  at RCPT a refusal by SPF; at the end what was found, what is done, and the fields that say so.
Never: passes over the body twice, waits for DNS while content can be read, takes silence of DNS for an answer: what
       cannot be found out in time is a temporary error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ekiden.auth.arc.chain import ARC_FIELDS
from ekiden.auth.arc.verify import NO_CHAIN, ArcVerification
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dkim.verify import DkimVerification
from ekiden.auth.dmarc.author import author_domains
from ekiden.auth.results.remove import RESULTS_FIELDS, without_own
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.spf.check import mail_from_identity
from ekiden.auth.spf.remembered import SpfFindings
from ekiden.auth.verdict import DkimVerdict, DmarcVerdict, IprevVerdict, Result, SpfVerdict, Verdicts
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


class Examination:
    """Begins at the first recipient that is accepted: nobody is asked about mail that nobody gets."""

    def __init__(self, authentication: SenderAuthentication, client: Client, sender: Address) -> None:
        self._authentication = authentication
        self._client = client
        self._sender = sender
        self._hashes = BodyHashes()
        self._spf: SpfFindings | None = None
        self._spf_check: asyncio.Task[SpfFindings] | None = None
        self._dkim: DkimVerification | None = None
        self._arc: ArcVerification | None = None  # None also where the message has no ARC fields
        self._authors: tuple[str, ...] = ()
        self.seals = authentication.seals
        self.header = b""  # as the client sent it
        self._kept = b""  # as it is stored

    def begin(self) -> None:
        """Has DNS asked for the record of SPF while the rest of the message comes in, unless it is known."""
        authentication = self._authentication
        if self._spf is not None or self._spf_check is not None or not authentication.checks_spf:
            return
        self._spf = authentication.spf.known(self._client, self._sender)
        if self._spf is not None:
            return
        domain, _ = mail_from_identity(str(self._sender), self._client.helo)
        if remembered_txt(authentication.resolver, domain) is None:
            self._spf_check = asyncio.create_task(authentication.spf.check(self._client, self._sender))

    async def recipient_refusal(self) -> Refusal | None:
        """What SPF says against any recipient; asks nobody where that could not be refused."""
        if not self._authentication.refuses_by_spf:
            return None
        return spf_refusal((await self._spf_findings()).mail_from, self._authentication.parameters.spf_policy)

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
        if parameters.arc_verification and signable.has_any(ARC_FIELDS):
            self._arc = ArcVerification(
                signable, self._hashes, resolver=authentication.resolver, limits=authentication.arc_limits, now=now
            )
            self._arc.start()
        if parameters.dmarc_policy != "none":
            self._authors = author_domains(signable)
        if self.seals:
            authentication.sealer.prepare(self._hashes)
        # What was stored as it came has no more fields than were seen just now.
        is_clean = stored is received and not signable.has_any(RESULTS_FIELDS)
        self._kept = stored if is_clean else without_own(stored, parameters.authserv_id)
        return self._kept

    def feed(self, body: bytes) -> None:
        self._hashes.feed(body)

    async def conclude(self) -> Conclusion:
        """When the content is whole. Raises TableTrouble."""
        self._hashes.finish()
        authentication, client = self._authentication, self._client
        parameters = authentication.parameters
        spf = self._spf
        if spf is None and authentication.checks_spf:
            spf = await self._spf_findings()
        dkim = () if self._dkim is None else await self._dkim.verdicts()
        arc = NO_CHAIN if parameters.arc_verification else None
        if self._arc is not None:
            arc = await self._arc.verdict()
        mail_from, helo = (None, None) if spf is None else (spf.mail_from, spf.helo)
        dmarc = None
        if parameters.dmarc_policy != "none":
            dmarc = authentication.dmarc.known(self._authors, mail_from, dkim)
            if dmarc is None:
                dmarc = await self._dmarc_verdict(mail_from, dkim)
        named = iprev(client) if parameters.smtpd_peername_lookup else None
        verdicts = Verdicts(spf=mail_from, spf_helo=helo, dkim=dkim, arc=arc, dmarc=dmarc, iprev=named)
        decision = NOTHING
        if dmarc is not None and dmarc.result is Result.FAIL:
            decision = await authentication.decide(verdicts, client, self.header)
        results = results_text(verdicts, client_address=client.address)
        head = authentication_results(parameters.authserv_id, results)
        if spf is not None:
            head += spf.field
        return Conclusion(verdicts, decision, head + decision.fields, results)

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
        if self._spf_check is not None:
            self._spf_check.cancel()
        if self._dkim is not None:
            self._dkim.cancel()
        if self._arc is not None:
            self._arc.cancel()

    # -- the checks

    async def _spf_findings(self) -> SpfFindings:
        if self._spf is None:
            check = self._spf_check
            self._spf = await (self._authentication.spf.check(self._client, self._sender) if check is None else check)
        return self._spf

    async def _dmarc_verdict(self, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]) -> DmarcVerdict:
        authentication, authors = self._authentication, self._authors
        try:
            async with asyncio.timeout(authentication.parameters.authentication_time_limit):
                return await authentication.dmarc.evaluate(authors, spf, dkim)
        except TimeoutError:
            return DmarcVerdict(Result.TEMPERROR, from_domain=authors[0] if authors else "", reason=_LATE)


NOT_SEALED = Sealed()
_LATE = "DNS did not answer in time (authentication_time_limit)"


def iprev(client: Client) -> IprevVerdict:
    """What the look-up of the client's name found (RFC 8601 §3)."""
    if client.name != "unknown":
        return IprevVerdict(Result.PASS, client.name, client.address)
    return IprevVerdict(Result.TEMPERROR if client.name_failed else Result.FAIL, "", client.address)
