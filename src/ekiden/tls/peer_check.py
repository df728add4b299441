"""Who the server of a finished handshake is, held against the policy that it was made under.

In:   the layer, the policy, the names of the next hop and the host, the time.
Out:  a Verdict: the facts for log and reports, and the problem where the policy is not met.
Never: raises for a server's certificates.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from ekiden.message.tls_facts import TlsFacts
from ekiden.tls import dane
from ekiden.tls.certificate_names import names_of
from ekiden.tls.client_context import ClientLayer
from ekiden.tls.facts import facts_of
from ekiden.tls.policy import Level, Problem, TlsPolicy


class Verdict(Struct, frozen=True):
    """``text`` and ``detail`` say why a server is not the one that was wanted: Postfix's words, and the particulars."""

    facts: TlsFacts
    problem: Problem | None = None
    text: str = ""
    detail: str = ""


NOT_TRUSTED = "Server certificate not trusted"
NOT_VERIFIED = "Server certificate not verified"


def check_peer(
    layer: ClientLayer,
    policy: TlsPolicy,
    *,
    next_hop_domain: str,
    host_name: str,
    now: float,
    digest: str,
    any_label: bool,
    has_authorities: bool = True,
) -> Verdict:
    """``digest`` names the algorithm of fingerprints; ``any_label``: tls_wildcard_matches_multiple_labels.

    ``has_authorities``: some are trusted, so that there is sense in asking whether the server is.
    """
    trouble = layer.verify_trouble
    trusted = not trouble and has_authorities
    facts = facts_of(layer.connection, digest=digest, trusted=trusted, server_name=layer.server_name)
    match policy.level:
        case Level.FINGERPRINT:
            known = {facts.fingerprint, facts.key_fingerprint} & set(policy.fingerprints)
            if known:
                return Verdict(replace(facts, trusted=True, verified=True))
            detail = f"its fingerprint is {facts.fingerprint or 'none: there is no certificate'}"
            return Verdict(facts, Problem.NOT_TRUSTED, NOT_VERIFIED, detail)
        case Level.DANE | Level.DANE_ONLY:
            names = list(dict.fromkeys(name for name in (policy.tlsa_base, host_name, next_hop_domain) if name))
            found = dane.verify(layer.chain, policy.tlsa, names, now)
            if isinstance(found, dane.Match):
                return Verdict(replace(facts, trusted=True, verified=True))
            text = NOT_VERIFIED if found.problem is Problem.WRONG_NAME else NOT_TRUSTED
            return Verdict(facts, found.problem, text, found.text)
        case Level.VERIFY | Level.SECURE:
            if trouble:
                return Verdict(facts, _problem_of(trouble), NOT_TRUSTED, trouble)
            certificate = layer.certificate
            wanted = tuple(_wanted(policy, next_hop_domain, host_name))
            names = list(names_of(certificate)) if certificate is not None else []
            if any(name_fits(name, pattern, any_label=any_label) for name in names for pattern in wanted):
                return Verdict(replace(facts, verified=True))
            detail = f"its names are {', '.join(names[:5]) or 'none'}, wanted is {' or '.join(wanted) or 'none'}"
            return Verdict(facts, Problem.WRONG_NAME, NOT_VERIFIED, detail)
    return Verdict(facts)


def _wanted(policy: TlsPolicy, next_hop_domain: str, host_name: str) -> Iterator[str]:
    """What the certificate may be called; a leading dot stands for any name below."""
    for word in policy.match:
        match word:
            case "hostname":
                yield host_name
            case "nexthop":
                yield next_hop_domain
            case "dot-nexthop":
                yield f".{next_hop_domain}"
            case _:
                yield word


def name_fits(presented: str, wanted: str, *, any_label: bool) -> bool:
    """Whether a certificate's name, perhaps with ``*.`` in front, is the one that is wanted (postconf(5)).

    ``.example.com`` wants any name below example.com. ``any_label``: the asterisk stands for several labels too.
    """
    presented, wanted = presented.lower().removesuffix("."), wanted.lower().removesuffix(".")
    if not presented or not wanted or "\0" in presented:
        return False
    if wanted.startswith("."):
        return len(presented) > len(wanted) and presented.endswith(wanted)
    if presented == wanted:
        return True
    if not presented.startswith("*.") or "." not in presented[2:]:  # "*.com" names nobody in particular
        return False
    parent = wanted[wanted.find(".") :] if "." in wanted else ""
    return parent.endswith(presented[1:]) if any_label else parent == presented[1:]


def _problem_of(trouble: str) -> Problem:
    """OpenSSL's words for what is wrong with a certificate, as reports call it (RFC 8460 §4.3.2.2)."""
    return Problem.EXPIRED if "expired" in trouble or "not yet valid" in trouble else Problem.NOT_TRUSTED
