"""What the checks of sender authentication find about one message, and why, step by step, in plain words.

In:   a message as bytes, and where it came from; a Resolver; the limits and settings of a service.
Out:  Findings, in the order in which the checks build on each other.
Never: stops at a check that is switched off: the settings only count for what this server would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from ekiden.auth.arc.verify import ArcVerification
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dkim.verify import DkimVerification
from ekiden.auth.dmarc.author import author_domains
from ekiden.auth.dmarc.evaluate import evaluate
from ekiden.auth.spf.check import check_host, mail_from_identity
from ekiden.auth.verdict import (
    ArcVerdict,
    DkimVerdict,
    DmarcPolicy,
    DmarcVerdict,
    IprevVerdict,
    Result,
    SpfVerdict,
    Verdicts,
)
from ekiden.dns.resolver import Resolver
from ekiden.message.address import Address
from ekiden.message.envelope import Client
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.receive.client_name import ClientNames

_CHUNK = 1 << 16


class Finding(Struct, frozen=True):
    """``check`` is message, iprev, spf, dkim, arc, dmarc or server; ``details`` are (what, words).

    Words hold what strangers wrote, as they wrote it.
    """

    check: str
    result: str
    text: str
    details: tuple[tuple[str, str], ...] = ()
    setting: str = ""  # the parameter that is the reason


class Examined(Struct, frozen=True):
    """``client`` with address and HELO name; an address of "" (nobody knows) leaves out what needs one."""

    header: bytes  # fields with CRLF, without the empty line
    body: bytes
    client: Client
    sender: Address


def parted(content: bytes) -> tuple[bytes, bytes]:
    """Header and body of a file's content; lines end in CRLF, which is what signatures are about (RFC 6376 §3.4)."""
    if content.startswith(b"From ") or content.startswith(b">From "):
        content = content.partition(b"\n")[2]  # an mbox keeps the sender there
    if content.count(b"\n") != content.count(b"\r\n"):
        content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    header, empty, body = content.partition(b"\r\n\r\n")
    return (header + b"\r\n", body) if empty else (content, b"")


async def verdicts_of(message: Examined, authentication: SenderAuthentication, now: float) -> Verdicts:
    """All checks within this server's limits. ``now`` is when the message came, in seconds since 1970."""
    resolver, parameters, sender = authentication.resolver, authentication.parameters, str(message.sender)
    hashes, header = BodyHashes(), SignableHeader(message.header)
    dkim = DkimVerification(header, hashes, resolver=resolver, limits=authentication.dkim_limits, now=now)
    arc = ArcVerification(header, hashes, resolver=resolver, limits=authentication.arc_limits, now=now)
    dkim.start()
    arc.start()
    for at in range(0, len(message.body), _CHUNK):
        hashes.feed(message.body[at : at + _CHUNK])
    hashes.finish()

    async def spf_of(identity: str, domain: str, sender: str) -> SpfVerdict:
        return await check_host(
            resolver,
            client_address=message.client.address,
            domain=domain,
            sender=sender,
            helo=message.client.helo,
            identity=identity,
            receiver=parameters.myhostname,
            limits=authentication.spf_limits,
            now=now,
        )

    spf = helo = iprev = None
    if message.client.address:
        iprev = await _iprev(message.client.address, resolver)
        if message.client.helo:
            helo = await spf_of("helo", *mail_from_identity("", message.client.helo))
        spf = await spf_of("mailfrom", *mail_from_identity(sender, message.client.helo))
    signatures = await dkim.verdicts()
    dmarc = await evaluate(
        resolver,
        author_domains=author_domains(message.header),
        spf=spf,
        dkim=signatures,
        discovery=authentication.discovery,
    )
    return Verdicts(spf, helo, signatures, await arc.verdict(), dmarc, iprev)


async def _iprev(address: str, resolver: Resolver) -> IprevVerdict:
    """RFC 8601 §3, by the look-up that the SMTP server makes."""
    name = await ClientNames(resolver, {}).look_up(address)
    if name is None:
        return IprevVerdict(Result.TEMPERROR, "", address)
    return IprevVerdict(Result.FAIL if name == "unknown" else Result.PASS, "" if name == "unknown" else name, address)


def findings(verdicts: Verdicts) -> Iterator[Finding]:
    """What the checks found, in words."""
    if verdicts.iprev is not None:
        yield _of_iprev(verdicts.iprev)
    if verdicts.spf is None:
        yield Finding("spf", "none", "nobody knows which client it came from: give --client, and --helo and --from")
    for spf in (verdicts.spf_helo, verdicts.spf):
        if spf is not None:
            yield _of_spf(spf)
    if not verdicts.dkim:
        yield Finding("dkim", "none", "the message has no signature")
    for number, dkim in enumerate(verdicts.dkim, 1):
        yield _of_dkim(dkim, number, len(verdicts.dkim))
    if verdicts.arc is not None:
        yield _of_arc(verdicts.arc)
    if verdicts.dmarc is not None:
        yield _of_dmarc(verdicts.dmarc, verdicts.spf, verdicts.dkim)


def _of_iprev(verdict: IprevVerdict) -> Finding:
    text = {
        Result.PASS: f"{verdict.address} has the name {verdict.name}, which has that address",
        Result.TEMPERROR: f"DNS does not say now which name {verdict.address} has",
    }.get(verdict.result, f"{verdict.address} has no name that leads back to it")
    return Finding("iprev", verdict.result.value, text)


def _of_spf(verdict: SpfVerdict) -> Finding:
    who = {"helo": "HELO"}.get(verdict.identity, "MAIL FROM")
    details = [("identity", f"{who} {verdict.domain if verdict.identity == 'helo' else verdict.sender}")]
    if verdict.record:
        details.append(("record", f"{verdict.record} (of {verdict.domain})"))
    if verdict.mechanism:
        details.append(("term", f"{verdict.mechanism} (in the record of {verdict.via or verdict.domain})"))
    if verdict.lookups:
        terms = "1 term asks" if verdict.lookups == 1 else f"{verdict.lookups} terms ask"
        details.append(("look-ups", f"{terms} DNS (10 may), {verdict.void_lookups} of them for what is not there"))
    if verdict.explanation:
        details.append(("says", f"{verdict.domain} explains: {verdict.explanation}"))
    return Finding("spf", verdict.result.value, verdict.reason, tuple(details))


def _of_dkim(verdict: DkimVerdict, number: int, count: int) -> Finding:
    which = f"{number} of {count}" if count > 1 else "the only one"
    details = [("signature", f"{which}: d={verdict.domain} s={verdict.selector} b={verdict.signature}...")]
    if verdict.algorithm:
        key = f"{verdict.selector}._domainkey.{verdict.domain}"
        bits = f", {verdict.key_bits} bits" if verdict.key_bits else ""
        testing = ", its owner is testing (t=y)" if verdict.testing else ""
        details.append(("key", f"{key}: {verdict.algorithm}{bits}{testing}"))
    if verdict.identity and verdict.identity != f"@{verdict.domain}":
        details.append(("for", verdict.identity))
    if verdict.signed_headers:
        details.append(("fields", " ".join(verdict.signed_headers)))
    if verdict.body_length is not None:
        details.append(("body", f"only the first {verdict.body_length} octets are signed (l=): anybody can add to it"))
    return Finding("dkim", verdict.result.value, verdict.reason, tuple(details))


def _of_arc(verdict: ArcVerdict) -> Finding:
    details: list[tuple[str, str]] = []
    if verdict.sealers:
        details.append(("sealed by", " -> ".join(verdict.sealers)))
    if verdict.result is Result.PASS and verdict.oldest_pass:
        details.append(("unchanged", f"since set {verdict.oldest_pass} of {verdict.instances}"))
    return Finding("arc", verdict.result.value, verdict.reason, tuple(details))


def _of_dmarc(verdict: DmarcVerdict, spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]) -> Finding:
    details = [("author", verdict.from_domain)] if verdict.from_domain else []
    if verdict.record:
        details.append(("record", f"{verdict.record} (of {verdict.policy_domain})"))
        organization = verdict.organizational_domain or "its organization"
        details.append(
            ("SPF", _alignment(verdict.spf_aligned, [(spf.domain, spf.result)] if spf else [], organization))
        )
        signers = [(each.domain, each.result) for each in dkim]
        details.append(("DKIM", _alignment(verdict.dkim_aligned, signers, organization)))
    if verdict.result is Result.FAIL:
        details.append(("asks for", _asked(verdict)))
    return Finding("dmarc", verdict.result.value, verdict.reason, tuple(details))


def _alignment(aligned: bool, identifiers: Sequence[tuple[str, Result]], organization: str) -> str:
    passed = list(dict.fromkeys(domain for domain, result in identifiers if result is Result.PASS))
    if not identifiers:
        return "not aligned: there is nothing to go by"
    if not passed:
        return f"not aligned: it did not pass for {identifiers[0][0] or 'anybody'}"
    names = ", ".join(passed)
    if aligned:
        return f"aligned: it passed for {names}, {organization} is the organization"
    return f"not aligned: it passed for {names}, which is not what {organization} asks for"


def _asked(verdict: DmarcVerdict) -> str:
    if verdict.policy is DmarcPolicy.NONE:
        what = "nothing is to be done about it"
    else:
        what = "it is to be rejected" if verdict.policy is DmarcPolicy.REJECT else "it is to be kept apart (quarantine)"
    published = f", p={verdict.published.value} is published" if verdict.published is not verdict.policy else ""
    return f"{verdict.policy.value}: {what}{published}"
