"""What sender authentication found, as values: made by the checks, read by policy, headers, log, reports and people.

Result names are those of RFC 8601 §2.7. A verdict says why in plain words (``reason``), for people and logs: it holds
what strangers wrote, so whoever shows it quotes it.
"""

from __future__ import annotations

import enum

from msgspec import Struct


class Result(enum.StrEnum):
    NONE = "none"  # nothing to check
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SOFTFAIL = "softfail"  # SPF only (RFC 7208 §2.6.5)
    NEUTRAL = "neutral"
    POLICY = "policy"  # it would pass, but for a rule of ours (a key that is too short)
    TEMPERROR = "temperror"  # DNS could not say: never "fail", never "pass"
    PERMERROR = "permerror"


class SpfVerdict(Struct, frozen=True):
    """One identity (RFC 7208 §2.3, §2.4)."""

    result: Result
    identity: str = "mailfrom"  # or "helo"
    domain: str = ""  # that was checked, in A-labels
    sender: str = ""  # the mailbox that macros saw: postmaster@HELO for the null sender
    mechanism: str = ""  # the term that matched, as the record has it: "ip4:192.0.2.0/24", "-all"
    record: str = ""
    explanation: str = ""  # of the domain, printable ASCII, for the reply to a refusal (RFC 7208 §6.2)
    via: str = ""  # whose record the mechanism is in, where include or redirect led elsewhere
    reason: str = ""
    lookups: int = 0
    void_lookups: int = 0


class DkimVerdict(Struct, frozen=True):
    """One signature (RFC 6376 §6.1)."""

    result: Result
    domain: str = ""  # d=, in A-labels
    selector: str = ""
    identity: str = ""  # i=
    algorithm: str = ""  # "rsa-sha256", "ed25519-sha256"
    signature: str = ""  # the first 8 characters of b= (RFC 8601 §2.7.1: header.b)
    testing: bool = False  # the key has t=y
    key_bits: int = 0
    signed_headers: tuple[str, ...] = ()
    body_length: int | None = None  # l=
    reason: str = ""


class ArcVerdict(Struct, frozen=True):
    """The chain as a whole (RFC 8617 §5.2)."""

    result: Result  # NONE, PASS or FAIL; TEMPERROR where DNS did not answer
    instances: int = 0
    sealers: tuple[str, ...] = ()  # d= of the seals, the oldest first
    oldest_pass: int = 0  # RFC 8617 §5.2: the oldest set from which on all message signatures hold; 0: all do
    reason: str = ""


class DmarcPolicy(enum.StrEnum):
    """RFC 9989 §4.7."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


class DmarcVerdict(Struct, frozen=True):
    result: Result
    from_domain: str = ""  # of the author, in A-labels
    policy_domain: str = ""  # where the record was found
    organizational_domain: str = ""
    policy: DmarcPolicy = DmarcPolicy.NONE  # what the owner asks for this message (p, sp or np; t=y weakened)
    published: DmarcPolicy = DmarcPolicy.NONE  # p= as published
    spf_aligned: bool = False
    dkim_aligned: bool = False
    record: str = ""
    reason: str = ""


class IprevVerdict(Struct, frozen=True):
    """Reverse and forward names of the client agree (RFC 8601 §3)."""

    result: Result
    name: str = ""
    address: str = ""


class Verdicts(Struct, frozen=True):
    """All that was found about one message."""

    spf: SpfVerdict | None = None  # of MAIL FROM
    spf_helo: SpfVerdict | None = None
    dkim: tuple[DkimVerdict, ...] = ()
    arc: ArcVerdict | None = None
    dmarc: DmarcVerdict | None = None
    iprev: IprevVerdict | None = None
