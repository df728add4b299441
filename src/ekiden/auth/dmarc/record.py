"""DMARC policy records: what the owner of a domain asks for (RFC 9989 §4.7, §4.8).

In:   the TXT records of ``_dmarc.DOMAIN``.
Out:  a DmarcRecord, or None where there is none.
Never: raises. A tag that is wrong is as if it were not there; only a wrong p, sp or np decides more (§4.10.1).

``pct``, ``rf`` and ``ri`` of RFC 7489 are unknown tags now, and passed over (RFC 9989 Appendix C).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from msgspec import Struct

from ekiden.auth.verdict import DmarcPolicy

T = TypeVar("T")

RECORD_OCTETS_LIMIT = 4096
REPORT_PLACES_LIMIT = 10  # of one tag; those behind are passed over

# RFC 9989 §4.8   dmarc-record  = dmarc-version *(dmarc-sep dmarc-tag) [dmarc-sep]
#                 dmarc-version = "v" equals %s"DMARC1"
#                 dmarc-tag     = 1*ALPHA equals 1*dmarc-value
#                 dmarc-value   = %x20-3A / %x3C-7E
_VERSION = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_NAME = re.compile(r"[A-Za-z]+")
_VALUE = re.compile(r"[\t -:<-~]+")  # a tab may stand around a comma (dmarc-urilist)
# RFC 3986 §2.1, §3; a comma and "!" come encoded. RFC 7489 §6.2 let "!" and a size follow, and records have that still.
_PLACE = re.compile(
    r"(?P<uri>[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9\-._~:/?#\[\]@$&'()*+=]|%[0-9A-Fa-f]{2})+)"
    r"(?:!(?P<size>[0-9]{1,12})(?P<unit>[kmgtKMGT]?))?"
)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_POLICIES = {policy.value: policy for policy in DmarcPolicy}
_YES_OR_NO = {"y": True, "n": False}
_STRICT = {"s": True, "r": False}
_FAILURE_OPTIONS = frozenset("01ds")


class PublicSuffixDomain(enum.Enum):
    """The tag psd."""

    YES = "y"
    NO = "n"
    UNKNOWN = "u"


_PSD = {psd.value: psd for psd in PublicSuffixDomain}


class ReportPlace(Struct, frozen=True):
    """Where reports go. ``size_limit_bytes``: RFC 7489 §6.2; None where the owner names none."""

    uri: str
    size_limit_bytes: int | None = None


class DmarcRecord(Struct, frozen=True):
    """``usable`` is False where the owner's wish cannot be known: the record has no policy, or a wrong one (§4.10.1).

    ``subdomain_policy`` and ``nonexistent_policy`` are None where the record leaves them to sp or p.
    ``faulty`` are the names of tags whose values were passed over.
    """

    text: str
    policy: DmarcPolicy = DmarcPolicy.NONE
    subdomain_policy: DmarcPolicy | None = None
    nonexistent_policy: DmarcPolicy | None = None
    usable: bool = True
    dkim_strict: bool = False
    spf_strict: bool = False
    psd: PublicSuffixDomain = PublicSuffixDomain.UNKNOWN
    testing: bool = False
    failure_options: tuple[str, ...] = ("0",)
    rua: tuple[ReportPlace, ...] = ()
    ruf: tuple[ReportPlace, ...] = ()
    faulty: tuple[str, ...] = ()

    def policy_for(self, *, subdomain: bool, exists: bool = True) -> DmarcPolicy:
        """What is asked for the domain itself, or for one below it (§4.10.1), before ``testing`` weakens it."""
        if not subdomain:
            return self.policy
        if not exists and self.nonexistent_policy is not None:
            return self.nonexistent_policy
        return self.policy if self.subdomain_policy is None else self.subdomain_policy


def record_name(domain: str) -> str:
    return f"_dmarc.{domain}"


def records_in(texts: Sequence[bytes]) -> list[DmarcRecord]:
    """Those of a name's TXT records that are DMARC records. More than one is as if there were none (§4.10)."""
    found = (parse_record(text) for text in texts)
    return [record for record in found if record is not None]


@lru_cache(maxsize=512)
def parse_record(octets: bytes) -> DmarcRecord | None:
    """None: no DMARC record, for it does not begin with the version (§4.7), or is too long to be one."""
    if len(octets) > RECORD_OCTETS_LIMIT:
        return None
    text = octets.decode("latin-1")
    version = _VERSION.match(text)
    if version is None:
        return None
    tags, faulty = _tags(text[version.end() :])
    policies = {name: _known(tags, name, _POLICIES, faulty) for name in ("p", "sp", "np")}
    rua = _places(tags, "rua", faulty)
    policy = policies["p"]
    if policy is None or not faulty.isdisjoint(policies):
        # RFC 9989 §4.10.1: as "p=none" where reports are wanted, else DMARC says nothing of the message.
        policies = {}
        usable = bool(rua)
        policy = DmarcPolicy.NONE
    else:
        usable = True
    psd = _known(tags, "psd", _PSD, faulty)
    return DmarcRecord(
        text=text,
        policy=policy,
        subdomain_policy=policies.get("sp"),
        nonexistent_policy=policies.get("np"),
        usable=usable,
        dkim_strict=_known(tags, "adkim", _STRICT, faulty) or False,
        spf_strict=_known(tags, "aspf", _STRICT, faulty) or False,
        psd=psd or PublicSuffixDomain.UNKNOWN,
        testing=_known(tags, "t", _YES_OR_NO, faulty) or False,
        failure_options=_failure_options(tags, faulty),
        rua=rua,
        ruf=_places(tags, "ruf", faulty),
        faulty=tuple(sorted(faulty)),
    )


def _tags(text: str) -> tuple[dict[str, str], set[str]]:
    """The values by name in lower case, and the names that have none, a wrong one or several (RFC 6376 §3.2)."""
    tags: dict[str, str] = {}
    faulty: set[str] = set()
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        name, value = name.strip(" \t").lower(), value.strip(" \t")
        if not equals or _NAME.fullmatch(name) is None:
            continue
        if name in tags or _VALUE.fullmatch(value) is None:
            faulty.add(name)
        else:
            tags[name] = value
    for name in faulty:
        tags.pop(name, None)
    return tags, faulty


def _known(tags: dict[str, str], name: str, values: Mapping[str, T], faulty: set[str]) -> T | None:
    if name not in tags:
        return None
    value = values.get(tags[name].lower())
    if value is None:
        faulty.add(name)
    return value


def _failure_options(tags: dict[str, str], faulty: set[str]) -> tuple[str, ...]:
    """The tag fo: a list with colons (§4.7)."""
    if "fo" not in tags:
        return ("0",)
    options = tuple(dict.fromkeys(word.strip(" \t").lower() for word in tags["fo"].split(":")))
    if _FAILURE_OPTIONS.issuperset(options):
        return options
    faulty.add("fo")
    return ("0",)


def _places(tags: dict[str, str], name: str, faulty: set[str]) -> tuple[ReportPlace, ...]:
    """The URIs that can be read (§4.6); one that cannot does not spoil the others."""
    if name not in tags:
        return ()
    places: list[ReportPlace] = []
    for word in tags[name].split(","):
        match = _PLACE.fullmatch(word.strip(" \t"))
        if match is None:
            faulty.add(name)
        elif len(places) < REPORT_PLACES_LIMIT:
            size = match["size"]
            limit = None if size is None else int(size) * _UNITS[match["unit"].lower()]
            places.append(ReportPlace(match["uri"], limit))
    return tuple(dict.fromkeys(places))
