"""Whether an authenticated domain speaks for the author's domain (RFC 9989 §4.4, §4.10.2)."""

from __future__ import annotations

from ekiden.auth.dmarc.discovery import Discovery


def is_at_or_below(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


async def aligned(discovery: Discovery, identifier: str, author: str, *, strict: bool) -> bool:
    """``identifier`` is the domain that passed SPF or signed with DKIM. Raises DnsTrouble.

    Strict: the same domain. Relaxed: of the same organization. Who is not below the author's organizational domain
    cannot be of that organization, so such a domain is not asked about: its owner's DNS has no say in the verdict.
    """
    if identifier == author:
        return True
    if strict:
        return False
    organization = await discovery.organizational_domain(author)
    if not is_at_or_below(identifier, organization):
        return False
    return await discovery.organizational_domain(identifier) == organization
