"""Whether forwarders that are trusted vouch for a message that fails DMARC (RFC 8617 §7.2.1, RFC 9989 §5.7).

In:   the header as it came, the verdicts on its ARC chain and by DMARC, arc_trusted_sealers.
Out:  a Rescue: whether the message is to be taken as if it had passed, and why, in plain words.
Never: believes results that somebody who is not trusted could have changed: all who sealed behind them are trusted too.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ekiden.auth.arc.chain import ArcSet, collect, results_value
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dmarc.alignment import is_at_or_below
from ekiden.auth.dmarc.record import DmarcRecord, parse_record
from ekiden.auth.results.read import MethodResult, ResultsError, parse
from ekiden.auth.verdict import ArcVerdict, DmarcVerdict, Result
from ekiden.config.snapshot import Parameters
from ekiden.dns.name import dns_name
from ekiden.tables.match import DomainList, Subdomains
from ekiden.tables.table import Table

# The domain that a result of each method speaks of; RFC 8601 §2.7.1, §2.7.2.
_DKIM_DOMAINS = (("header", "d"), ("header", "i"))
_SPF_DOMAINS = (("smtp", "mailfrom"),)


class Rescue(Struct, frozen=True):
    """``sealer`` and ``instance``: whose results count."""

    rescued: bool
    reason: str
    sealer: str = ""
    instance: int = 0


class ArcTrust:
    """False where nobody is trusted. Raises ConfigError for a list that cannot be used."""

    def __init__(self, parameters: Parameters, *, open_table: Callable[[str], Table]) -> None:
        self._trusted = DomainList(parameters.arc_trusted_sealers, subdomains=Subdomains.DOTTED, opener=open_table)

    def __bool__(self) -> bool:
        return bool(self._trusted)

    async def rescue(self, header: bytes | SignableHeader, arc: ArcVerdict | None, dmarc: DmarcVerdict) -> Rescue:
        """For a message that fails DMARC; asked where it was delivered from, so ``header`` is as it came.

        Raises TableTrouble.
        """
        if arc is None or arc.result is Result.NONE:
            return Rescue(False, "no ARC chain says more")
        if arc.result is not Result.PASS:
            return Rescue(False, f"its ARC chain does not hold: {arc.reason}")
        taken_apart = header if isinstance(header, SignableHeader) else SignableHeader(header)
        author = _Author(dmarc)
        trusted: list[str] = []
        for one in reversed(collect(taken_apart).sets):
            sealer = one.seal.signature.signer.domain
            if not await self._trusted.matches(sealer):
                break
            found = author.vouched(_results(one))
            if found:
                behind = f", as are all {len(trusted)} who sealed it behind" if trusted else ""
                reason = f"{sealer} (i={one.instance}) found {found}, and is a trusted sealer{behind}"
                return Rescue(True, reason, sealer, one.instance)
            trusted.append(sealer)
        if not trusted:
            last = arc.sealers[-1] if arc.sealers else "who sealed it last"
            return Rescue(False, f"{last}, which sealed it last, is no trusted sealer")
        return Rescue(False, f"its trusted sealers ({', '.join(trusted[:5])}) did not find it good")


def _results(one: ArcSet) -> tuple[MethodResult, ...]:
    try:
        return parse(results_value(one.results.value), lenient=True).results
    except ResultsError:
        return ()


class _Author:
    """The author's domain as results of others speak of it."""

    def __init__(self, dmarc: DmarcVerdict) -> None:
        self._domain = dmarc.from_domain
        self._organization = dmarc.organizational_domain or dmarc.from_domain
        self._record = (parse_record(dmarc.record.encode("latin-1", "replace")) if dmarc.record else None) or (
            DmarcRecord(dmarc.record)
        )

    def vouched(self, results: tuple[MethodResult, ...]) -> str:
        """What of them speaks for the author, "" for nothing."""
        if not self._domain:
            return ""
        for one in sorted(results, key=lambda one: one.method != "dmarc"):
            if one.result != "pass":
                continue
            if one.method == "dmarc" and _domain(one.value("header", "from")) == self._domain:
                # Without the name it could be of another author: the field may have been changed behind.
                return f"dmarc=pass for {self._domain}"
            if one.method == "dkim" and (name := self._aligned(one, _DKIM_DOMAINS, strict=self._record.dkim_strict)):
                return f"a DKIM signature of {name}"
            if one.method == "spf" and (name := self._aligned(one, _SPF_DOMAINS, strict=self._record.spf_strict)):
                return f"spf=pass for {name}"
        return ""

    def _aligned(self, one: MethodResult, places: tuple[tuple[str, str], ...], *, strict: bool) -> str:
        """RFC 9989 §4.4; of the domain that the first of ``places`` names."""
        for place in places:
            name = _domain(one.value(*place))
            if name:
                aligned = name == self._domain or (not strict and is_at_or_below(name, self._organization))
                return name if aligned else ""
        return ""


def _domain(value: str | None) -> str:
    """In A-labels; of an address what is behind the last "@"."""
    return dns_name(value.rpartition("@")[2]) or "" if value else ""
