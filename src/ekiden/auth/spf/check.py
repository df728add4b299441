"""check_host(): the function that RFC 7208 §4 defines, with the identities that it is asked about (§2.3, §2.4).

In:   the client's address, the domain, the sender, the HELO name; a Resolver; the time, for the macro t.
Out:  SpfVerdict.
Never: raises for what a domain publishes or DNS does: that is "permerror" or "temperror"; reads clocks.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from ekiden.auth.spf.client import Client, client_of
from ekiden.auth.spf.explanation import explanation_text, printable
from ekiden.auth.spf.lookups import Lookups, SpfLimits, Stop
from ekiden.auth.spf.macros import MacroString
from ekiden.auth.spf.names import a_labels, query_name, shown, splits
from ekiden.auth.spf.record import (
    BITS,
    All,
    Exists,
    Hosts,
    Include,
    Mechanism,
    Network,
    Ptr,
    Record,
    RecordError,
    parse_record,
    record_of,
)
from ekiden.auth.spf.validated_names import ValidatedNames
from ekiden.auth.verdict import Result, SpfVerdict
from ekiden.dns.resolver import Found, Resolver

_LIMITS = SpfLimits()


def mail_from_identity(sender: str, helo: str) -> tuple[str, str]:
    """The domain and the sender to check for a MAIL FROM: ``postmaster@HELO`` for the null sender (RFC 7208 §2.4)."""
    if not sender:
        return helo, f"postmaster@{helo}"
    return splits(sender)[1], sender


def checked_mailbox(local: str, domain: str) -> str:
    """The sender as macros see it (RFC 7208 §4.3)."""
    return f"{local or 'postmaster'}@{domain}"


async def check_host(
    resolver: Resolver,
    *,
    client_address: str,
    domain: str,
    sender: str,
    helo: str,
    identity: str = "mailfrom",
    receiver: str = "",
    limits: SpfLimits = _LIMITS,
    now: float,
    expanded: set[str] | None = None,
) -> SpfVerdict:
    """``domain`` and ``sender`` as of ``mail_from_identity``, or HELO and ``postmaster@HELO`` for identity "helo".

    ``receiver`` is this host's name, for explanations; ``now`` is in seconds since 1970. ``expanded`` is given the
    letters of all macros that were expanded on the way.
    """
    asked = a_labels(domain)
    local, sender_domain = splits(sender)
    sender_domain = a_labels(sender_domain)
    sender = checked_mailbox(local, sender_domain or asked)

    def verdict(result: Result, reason: str) -> SpfVerdict:
        return SpfVerdict(result, identity, asked, sender, reason=reason)

    client = client_of(client_address)
    if client is None:
        return verdict(Result.NONE, "the client has no IP address")
    # RFC 7208 §4.3
    if not asked:
        return verdict(Result.NONE, "there is no domain to ask about")
    if asked.startswith("[") or query_name(asked) is None:
        return verdict(Result.NONE, f"{shown(asked)} is not a domain name")
    if "." not in asked:
        return verdict(Result.NONE, f"{shown(asked)} is not the name of a domain on the Internet: it has one label")
    values = {
        "s": sender,
        "l": local or "postmaster",
        "o": sender_domain or asked,
        "h": a_labels(helo),
        "i": client.dotted,
        "c": client.text,
        "v": client.zone,
        "r": receiver or "unknown",
        "t": str(int(now)),
    }
    check = _Check(resolver, client, values, limits, set() if expanded is None else expanded)
    try:
        if limits.time_s:
            async with asyncio.timeout(limits.time_s):
                ending = await check.evaluate(asked)
        else:
            ending = await check.evaluate(asked)
    except Stop as stop:
        ending = _Ending(stop.result, stop.reason)
    except TimeoutError:
        ending = _Ending(Result.TEMPERROR, f"it took longer than {limits.time_s:g} seconds")
    explanation = ""
    if ending.result is Result.FAIL and ending.explanation is not None and limits.explains:
        explanation = await check.explain(ending.explanation, ending.explained)
    return SpfVerdict(
        ending.result,
        identity,
        asked,
        sender,
        mechanism=ending.mechanism,
        record=check.record,
        explanation=explanation,
        via=ending.via if ending.via != asked else "",
        reason=ending.reason,
        lookups=check.lookups.terms,
        void_lookups=check.lookups.void_terms,
    )


class _Ending(Struct, frozen=True):
    """How the evaluation of one record, and of those that it leads to, ended."""

    result: Result
    reason: str
    mechanism: str = ""
    via: str = ""  # whose record that is in
    explanation: MacroString | None = None
    explained: str = ""  # the domain whose exp= that is


class _Check:
    """One call of check_host, with what its records share: the limits, and the client's names."""

    def __init__(
        self, resolver: Resolver, client: Client, values: dict[str, str], limits: SpfLimits, expanded: set[str]
    ) -> None:
        self._client = client
        self._values = values
        self._expanded = expanded
        self.lookups = Lookups(resolver, limits)
        self._names = ValidatedNames(self.lookups, client)
        self.record = ""  # the first that was read: the domain's own

    async def evaluate(self, domain: str) -> _Ending:
        """RFC 7208 §4.4 to §4.7. Raises Stop."""
        record, why = await self._read(domain)
        if record is None:
            return _Ending(Result.NONE, why)
        for term in record.mechanisms:
            if isinstance(term, Network):
                # RFC 7208 §5.6. They are most of all terms, and need nothing.
                if term.family == self._client.family and self._client.bits >> term.shift == term.bits:
                    return self._matched(term, domain, record)
            elif isinstance(term, Include):
                inner = await self._include(term, domain)
                if inner is not None:
                    ending = self._matched(term, domain, record)
                    if term.result is not Result.PASS:
                        return ending
                    reason = f"{inner.reason}; the record of {shown(domain)} includes it"
                    return _Ending(Result.PASS, reason, inner.mechanism, inner.via)
            elif await self._matches(term, domain):
                return self._matched(term, domain, record)
        if record.redirect is not None:
            return await self._redirect(record.redirect, domain)
        # RFC 7208 §4.7
        return _Ending(Result.NEUTRAL, f"no term of the record of {shown(domain)} says anything of {self._client.text}")

    async def explain(self, spec: MacroString, domain: str) -> str:
        """RFC 7208 §6.2: the explanation of the domain whose record says "fail"; "" for all that is wrong with it."""
        limits = self.lookups.limits
        self.lookups.end()
        try:
            if limits.explanation_time_s:
                async with asyncio.timeout(limits.explanation_time_s):
                    return await self._explanation(spec, domain)
            return await self._explanation(spec, domain)
        except (Stop, TimeoutError):
            return ""

    async def _explanation(self, spec: MacroString, domain: str) -> str:
        name = query_name(await self._name(spec, domain))
        text = explanation_text((await self.lookups.txt(name)).records) if name is not None else None
        if text is None:
            return ""
        return printable(text.words(await self._values_for(text, domain), self.lookups.limits.explanation_characters))

    def _matched(self, term: Mechanism, domain: str, record: Record) -> _Ending:
        if isinstance(term, All):
            what = f"ends in {shown(term.text)}, and no term before that names {self._client.text}"
        else:
            what = f"has the term {shown(term.text)}, which matches {self._client.text}"
        reason = f"the record of {shown(domain)} {what}"
        return _Ending(term.result, reason, term.text, domain, record.explanation, domain)

    async def _read(self, domain: str) -> tuple[Record | None, str]:
        """RFC 7208 §4.4, §4.5, §4.6: the domain's record, or why it has none."""
        name = query_name(domain)
        if name is None:
            return None, f"{shown(domain)} is not a domain name"
        answer = await self.lookups.txt(name)
        try:
            octets = record_of(answer.records)
            if octets is None:
                absent = answer.found is Found.NXDOMAIN
                return None, f"there is no domain {shown(name)}" if absent else f"{shown(name)} has no SPF record"
            record = parse_record(octets)
        except RecordError as error:
            raise Stop(Result.PERMERROR, f"the SPF record of {shown(name)} has an error: {error}") from None
        self.record = self.record or record.text
        return record, ""

    async def _include(self, term: Include, domain: str) -> _Ending | None:
        """RFC 7208 §5.2: how the other record passed, or None where it does not pass."""
        self.lookups.begin(term.text)
        name = await self._name(term.domain, domain)
        inner = await self.evaluate(name)
        if inner.result is Result.NONE:
            raise Stop(Result.PERMERROR, f"{shown(term.text)} of {shown(domain)} leads nowhere: {inner.reason}")
        return inner if inner.result is Result.PASS else None

    async def _redirect(self, target: MacroString, domain: str) -> _Ending:
        """RFC 7208 §6.1."""
        self.lookups.begin(f"redirect={target.text}")
        name = await self._name(target, domain)
        ending = await self.evaluate(name)
        if ending.result is Result.NONE:
            raise Stop(Result.PERMERROR, f"redirect={shown(target.text)} leads nowhere: {ending.reason}")
        return ending

    async def _matches(self, term: Mechanism, domain: str) -> bool:
        if isinstance(term, All):
            return True
        self.lookups.begin(term.text)
        if isinstance(term, Hosts):
            name = query_name(domain if term.domain is None else await self._name(term.domain, domain))
            if name is None:
                # RFC 7208 §4.8 leaves what cannot be asked for undefined; §4.3 takes it as not there.
                return False
            return await (self._mx_matches(term, name) if term.of_mx else self._address_matches(term, name))
        if isinstance(term, Exists):
            name = query_name(await self._name(term.domain, domain))
            # RFC 7208 §5.7: an A record, whatever the client's address is.
            return name is not None and bool(await self.lookups.addresses(name, 4))
        if isinstance(term, Ptr):
            target = domain if term.domain is None else await self._name(term.domain, domain)
            return await self._names.any_below(target.lower().removesuffix("."))
        raise AssertionError(term)

    async def _mx_matches(self, term: Hosts, name: str) -> bool:
        """RFC 7208 §5.4, §4.6.4. A null MX (RFC 7505) names no host."""
        answer = await self.lookups.mx(name)
        limit = self.lookups.limits.names
        if len(answer.records) > limit:
            raise Stop(Result.PERMERROR, f"{shown(name)} has more than {limit} MX records")
        for mx in sorted(answer.records):
            exchange = query_name(mx.exchange)
            if exchange is not None and await self._address_matches(term, exchange):
                return True
        return False

    async def _address_matches(self, term: Hosts, name: str) -> bool:
        """RFC 7208 §5.3."""
        family = self._client.family
        shift = BITS[family] - (term.prefix4 if family == 4 else term.prefix6)
        bits = self._client.bits >> shift
        return any(address >> shift == bits for address in await self.lookups.addresses(name, family))

    async def _name(self, spec: MacroString, domain: str) -> str:
        return spec.name(await self._values_for(spec, domain))

    async def _values_for(self, spec: MacroString, domain: str) -> dict[str, str]:
        values = self._values
        if spec.letters:
            self._expanded |= spec.letters
            values["d"] = domain
            if "p" in spec.letters:
                values["p"] = await self._names.best(domain)
        return values
