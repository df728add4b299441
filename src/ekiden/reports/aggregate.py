"""An aggregate report of DMARC as values, for those that make one and those that read one (RFC 9990 §3.1.1).

Fields have the names of the XML elements. Words such as "pass" are in lower case; a reader keeps a word that no RFC
knows as it came. Where a report leaves out an optional element, its text is "" here. What only RFC 7489 Appendix C has
is here too.

What a stranger's report holds is a stranger's text: whoever shows it quotes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"  # RFC 9990 Appendix A; that of 2012 was http://dmarc.org/dmarc-xml/0.1


class PolicyPublished(Struct, frozen=True):
    """The record that the receiver found (RFC 9990 §3.1.1.5)."""

    domain: str  # where the record was found
    p: str = ""  # none, quarantine, reject
    sp: str = ""
    np: str = ""
    adkim: str = ""  # r, s
    aspf: str = ""
    fo: str = ""  # "1:d:s"
    testing: str = ""  # y, n: the tag t
    psd: str = ""  # y, n, u
    discovery_method: str = ""  # treewalk, psl
    pct: str = ""  # RFC 7489 only


class OverrideReason(Struct, frozen=True):
    """Why the receiver did not do what the policy asks (RFC 9990 §3.1.6)."""

    type: str = (
        ""  # local_policy, mailing_list, other, policy_test_mode, trusted_forwarder; before: forwarded, sampled_out
    )
    comment: str = ""


class DkimResult(Struct, frozen=True):
    domain: str  # d=
    result: str  # none, pass, fail, policy, neutral, temperror, permerror (RFC 8601 §2.7.1)
    selector: str = ""
    human_result: str = ""


class SpfResult(Struct, frozen=True):
    domain: str
    result: str  # the same and softfail (RFC 8601 §2.7.2)
    scope: str = ""  # mfrom; before RFC 9990 also helo
    human_result: str = ""


class Record(Struct, frozen=True):
    """Messages that came alike from one address (RFC 9990 §3.1.1.7)."""

    source_ip: str
    count: int
    disposition: str  # none, pass (RFC 9990: it was authentic), quarantine, reject
    dkim: str  # aligned and verified: pass, fail
    spf: str
    header_from: str
    envelope_from: str = ""  # a domain
    envelope_to: str = ""
    reasons: tuple[OverrideReason, ...] = ()
    dkim_results: tuple[DkimResult, ...] = ()
    spf_results: tuple[SpfResult, ...] = ()

    @property
    def is_authentic(self) -> bool:
        """DMARC passes when one of both does (RFC 9989 §5.3.5)."""
        return self.dkim == "pass" or self.spf == "pass"


class AggregateReport(Struct, frozen=True):
    org_name: str
    email: str
    report_id: str
    begin: int  # seconds since the epoch, UTC
    end: int
    policy: PolicyPublished
    records: tuple[Record, ...] = ()
    extra_contact_info: str = ""
    errors: tuple[str, ...] = ()
    generator: str = ""
    version: str = ""

    @property
    def messages(self) -> int:
        return _messages(self.records)

    @property
    def failed_messages(self) -> int:
        """Those that neither DKIM nor SPF makes authentic."""
        return _messages(record for record in self.records if not record.is_authentic)


def _messages(records: Iterable[Record]) -> int:
    return sum(record.count for record in records)
