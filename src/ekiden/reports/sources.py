"""Hosts that send in the name of a domain: what fails for them, and why, in the words of a finding."""

from __future__ import annotations

from collections import Counter

from ekiden.reports.aggregate import Record
from ekiden.reports.tally import by, first, many, note

_FORWARDED = frozenset({"forwarded", "trusted_forwarder", "mailing_list"})
_OF_RECORD = {
    "fail": "not in your record",
    "softfail": "not in your record",
    "neutral": "your record says nothing of it",
    "none": "they find no record of yours",
    "permerror": "they cannot read your record",
    "temperror": "DNS did not give them your record",
}


class Source:
    """One address and the author domain that it uses: what fails, and why."""

    def __init__(self) -> None:
        self.count = self.authentic = self.forwarded = 0
        self.disposition: Counter[str] = Counter()
        self.spf: Counter[str] = Counter()
        self.dkim: Counter[str] = Counter()
        self.makers: Counter[str] = Counter()

    def add(self, record: Record, maker: str) -> None:
        count = record.count
        self.count += count
        if record.is_authentic:
            self.authentic += count
        else:
            note(self.dkim, _dkim_reason(record), count)
        if any(reason.type in _FORWARDED for reason in record.reasons):
            self.forwarded += count
        note(self.disposition, record.disposition, count)
        note(self.spf, _spf_reason(record), count)
        note(self.makers, maker)

    def text(self, address: str, name: str) -> str:
        fails = "SPF" if self.authentic == self.count else "SPF and DKIM"
        why = first(self.spf)
        if self.authentic == self.count:
            why = f"{why}; its DKIM signature is good"
        else:
            why = f"{why}, {first(self.dkim)}"
            if self.authentic:
                why += f"; with a good DKIM signature in {self.authentic} messages"
        facts = [many(self.count, "message")]
        for word, shown in (("reject", "refused"), ("quarantine", "quarantined")):
            if self.disposition[word]:
                facts.append(f"{self.disposition[word]} {shown}")
        if self.forwarded:
            facts.append(f"{self.forwarded} forwarded, say the receivers")
        return f"{address} sends as {name or 'nobody'} and fails {fails}: {why}; {', '.join(facts)}{by(self.makers)}"


def is_of(domain: str, author: str, policy_domain: str) -> bool:
    """Whether a domain belongs to the author's: one is below the other, or below where the policy is."""
    return domain in (author, policy_domain) or any(
        one.endswith("." + other)
        for one, other in ((domain, author), (author, domain), (domain, policy_domain))
        if other
    )


def _spf_reason(record: Record) -> str:
    for result in record.spf_results:
        if result.result == "pass":
            return f"its envelope sender is of {result.domain}"
        if is_of(result.domain, record.header_from, record.header_from):
            return _OF_RECORD.get(result.result, f"they say {result.result}")
        return f"its envelope sender is of {result.domain}, where it fails too"
    return "they do not say why"


def _dkim_reason(record: Record) -> str:
    if not record.dkim_results:
        return "no signature"
    for result in record.dkim_results:
        if is_of(result.domain, record.header_from, record.header_from) and result.result != "pass":
            return f"the signature of {result.domain} does not hold"
    return f"signed by {record.dkim_results[0].domain}"
