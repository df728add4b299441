"""The verdict of DMARC on a message (RFC 9989 §5.3).

In:   the author's domains, what SPF and DKIM found, a Resolver.
Out:  a DmarcVerdict: for the one author's domain, or for that of several which asks for the most.
Never: raises for what DNS or a stranger says; makes a failure of DNS a pass or a fail (§5.3.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ekiden.auth.dmarc.alignment import aligned
from ekiden.auth.dmarc.author import UNREAD
from ekiden.auth.dmarc.discovery import Discovery, Method
from ekiden.auth.dmarc.record import DmarcRecord
from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, SpfVerdict
from ekiden.dns.resolver import DnsTrouble, Resolver

AUTHOR_DOMAINS_LIMIT = 5  # of one message; more cannot be asked about
IDENTIFIERS_LIMIT = 20  # domains of one mechanism that are tried

_WEAKER = {
    DmarcPolicy.REJECT: DmarcPolicy.QUARANTINE,
    DmarcPolicy.QUARANTINE: DmarcPolicy.NONE,
    DmarcPolicy.NONE: DmarcPolicy.NONE,
}


async def evaluate(
    resolver: Resolver,
    *,
    author_domains: Sequence[str],
    spf: SpfVerdict | None,
    dkim: Sequence[DkimVerdict],
    discovery: Method = "tree-walk",
) -> DmarcVerdict:
    """``spf`` is the verdict on MAIL FROM: that on HELO does not count (RFC 9989 §4.4.2).

    With several authors RFC 9989 §5.3.1 lets us go on: each domain is checked, and the strictest outcome holds.
    """
    if not author_domains:
        return DmarcVerdict(Result.NONE, reason="no From field with a domain")
    discoverer = Discovery(resolver, discovery)
    authors = list(dict.fromkeys(author_domains))
    verdicts = [await _one(discoverer, author, spf, dkim) for author in authors[:AUTHOR_DOMAINS_LIMIT] if author]
    strictest = max(verdicts, key=_strictness, default=DmarcVerdict(Result.NONE))
    too_many = len(authors) > AUTHOR_DOMAINS_LIMIT or UNREAD in authors
    if too_many and not (strictest.result is Result.FAIL and strictest.policy is not DmarcPolicy.NONE):
        return DmarcVerdict(
            Result.PERMERROR, author_domains[0], reason=f"more than {AUTHOR_DOMAINS_LIMIT} domains in the From field"
        )
    return strictest


def _strictness(verdict: DmarcVerdict) -> int:
    """A domain that nobody vouches for is no pass, whoever else stands in the From field."""
    if verdict.result is Result.FAIL:
        return {DmarcPolicy.REJECT: 6, DmarcPolicy.QUARANTINE: 5, DmarcPolicy.NONE: 3}[verdict.policy]
    return {Result.TEMPERROR: 4, Result.PERMERROR: 2, Result.NONE: 1}.get(verdict.result, 0)


async def _one(discovery: Discovery, author: str, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]) -> DmarcVerdict:
    found = DmarcVerdict(Result.NONE, author)
    try:
        policy = await discovery.policy(author)
        record = policy.record
        if record is None:
            organization = discovery.known_organization(author) or author
            return replace(found, organizational_domain=organization, reason=policy.reason)
        found = replace(found, policy_domain=policy.domain, published=record.policy, record=record.text)
        if not record.usable:
            # RFC 9989 §4.10.1: no DMARC processing is applied; that the record is at fault is for its owner to know.
            reason = f"the DMARC record of {policy.domain} has no valid policy and no rua"
            return replace(found, result=Result.PERMERROR, reason=reason)
        spf_domains = [(spf.domain, spf.result)] if spf is not None and spf.identity == "mailfrom" else []
        spf_aligned, spf_trouble = await _aligned(discovery, author, spf_domains, strict=record.spf_strict)
        dkim_domains = [(signature.domain, signature.result) for signature in dkim]
        dkim_aligned, dkim_trouble = await _aligned(discovery, author, dkim_domains, strict=record.dkim_strict)
        found = replace(
            found,
            organizational_domain=discovery.known_organization(author) or author,
            spf_aligned=spf_aligned,
            dkim_aligned=dkim_aligned,
        )
        if spf_aligned or dkim_aligned:
            who = " and ".join(name for name, holds in (("SPF", spf_aligned), ("DKIM", dkim_aligned)) if holds)
            asked = _asked(record, subdomain=author != policy.domain)
            return replace(found, result=Result.PASS, policy=asked, reason=f"{who} passed for {author}")
        if spf_trouble or dkim_trouble:
            return replace(found, result=Result.TEMPERROR, reason=spf_trouble or dkim_trouble)
        asked = await _asked_of(discovery, author, policy.domain, record)
        found = replace(found, organizational_domain=await _organization(discovery, author))
        reason = f"neither SPF nor DKIM passed for {author} or a domain of its organization"
        return replace(found, result=Result.FAIL, policy=asked, reason=reason)
    except DnsTrouble as trouble:
        return replace(found, result=Result.TEMPERROR, reason=f"{author}: {trouble}")


async def _aligned(
    discovery: Discovery, author: str, identifiers: Iterable[tuple[str, Result]], *, strict: bool
) -> tuple[bool, str]:
    """Whether an identifier that passed is aligned; if none is, the trouble that may have kept one from it."""
    domains = list(dict.fromkeys(identifiers))[:IDENTIFIERS_LIMIT]
    trouble = ""
    for wanted in (Result.PASS, Result.TEMPERROR):
        for domain, result in domains:
            if result is not wanted or not domain:
                continue
            try:
                holds = await aligned(discovery, domain, author, strict=strict)
            except DnsTrouble as error:
                trouble = f"whether {domain} is of the organization of {author}: {error}"
                continue
            if holds and result is Result.PASS:
                return True, ""
            if holds:
                trouble = f"what {domain} authenticates could not be checked for trouble with DNS"
    return False, trouble


async def _organization(discovery: Discovery, author: str) -> str:
    """For those who read the verdict: nothing hangs on it any more, and so nothing on trouble with DNS."""
    try:
        return await discovery.organizational_domain(author)
    except DnsTrouble:
        return author


async def _asked_of(discovery: Discovery, author: str, domain: str, record: DmarcRecord) -> DmarcPolicy:
    """What the record of ``domain`` asks for mail of ``author`` that fails. Raises DnsTrouble."""
    subdomain = author != domain
    asked = _asked(record, subdomain=subdomain)
    for_nonexistent = _asked(record, subdomain=subdomain, exists=False)
    # RFC 9989 §4.10.1: np holds where the author's domain does not exist; the question is asked where it matters.
    if for_nonexistent is not asked and not await discovery.exists(author):
        return for_nonexistent
    return asked


def _asked(record: DmarcRecord, *, subdomain: bool, exists: bool = True) -> DmarcPolicy:
    """RFC 9989 §4.7: with t=y the policy one below what is published."""
    asked = record.policy_for(subdomain=subdomain, exists=exists)
    return _WEAKER[asked] if record.testing else asked
