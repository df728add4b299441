"""Verdicts of DMARC, remembered: the mail of one author's domain is mostly authenticated by the same few domains.

In:   whose name a message bears, what SPF and DKIM found; once for all a Resolver and the way of discovery.
Out:  what evaluate() finds.
Never: outlives an answer of the DNS that it rests on; remembers trouble with DNS, whether SPF, DKIM or DMARC had it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.auth.dmarc.discovery import Method
from ekiden.auth.dmarc.evaluate import evaluate
from ekiden.auth.verdict import DkimVerdict, DmarcVerdict, Result, SpfVerdict
from ekiden.dns.derived import Basis, Derived
from ekiden.dns.resolver import Resolver

REMEMBERED = 2000
REMEMBERED_SIGNATURES = 4  # of one message: the memory is bounded, and hardly any mail has more


class DmarcEvaluations:
    """Those of one service."""

    def __init__(self, resolver: Resolver, discovery: Method) -> None:
        self._resolver = resolver
        self._discovery: Method = discovery
        self._verdicts: Derived[tuple[str, ...], DmarcVerdict] = Derived(resolver, limit=REMEMBERED)

    def known(
        self, author_domains: Sequence[str], spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]
    ) -> DmarcVerdict | None:
        """Without asking anybody; None where evaluate() must find it out."""
        key = _key(author_domains, spf, dkim)
        return None if key is None else self._verdicts.known(key)

    async def evaluate(
        self, author_domains: Sequence[str], spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]
    ) -> DmarcVerdict:
        basis = Basis(self._resolver)
        verdict = await evaluate(basis, author_domains=author_domains, spf=spf, dkim=dkim, discovery=self._discovery)
        key = _key(author_domains, spf, dkim)
        if key is not None:
            self._verdicts.keep(key, verdict, basis)
        return verdict


def _key(author_domains: Sequence[str], spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]) -> tuple[str, ...] | None:
    """What decides, beside the DNS: the author's domain, that which passed SPF, and those which passed DKIM.

    None where more than that has a say: several authors, or trouble that may have kept a domain from passing.
    """
    if len(author_domains) != 1 or len(dkim) > REMEMBERED_SIGNATURES:
        return None
    by_spf = ""
    by_dkim: tuple[str, ...] = ()
    if spf is not None and spf.identity == "mailfrom":
        if spf.result is Result.TEMPERROR:
            return None
        if spf.result is Result.PASS:
            by_spf = spf.domain
    for signature in dkim:
        if signature.result is Result.TEMPERROR:
            return None
        if signature.result is Result.PASS:
            by_dkim += (signature.domain,)
    return author_domains[0], by_spf, *by_dkim
