"""Reading the XML of an aggregate report, from whomever it comes (RFC 9990 Appendix A, RFC 7489 Appendix C).

In:   the document in pieces.
Out:  an AggregateReport, and what was wrong with it in ``problems``.
Never: raises anything but ReportError; follows a document type, an entity or an address; keeps more of a text than a
       line, or more records than the limit; does more than linear work.

Elements are taken by their names and their parents, in any order, in any name space or none: receivers have used three.
What is no well-formed XML but short is read once more, leniently: unknown tags are text then, and what is open ends
with what encloses it. Real receivers send reports with a bare "<" or "&" in a name, or without an end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from xml.parsers import expat

from ekiden.reports.aggregate import AggregateReport, DkimResult, OverrideReason, PolicyPublished, Record, SpfResult
from ekiden.tls.tlsrpt import ReportError

DEPTH_LIMIT = 32
_TEXT_LIMIT = 1000  # characters kept of an element's text
_TOKEN_LIMIT_BYTES = 512 * 1024  # a tag or comment: the parser reads it anew with every piece until it is whole
_LENIENT_LIMIT_BYTES = 2 * 1024 * 1024
_PROBLEMS_LIMIT = 20
_PROBLEM_CHARACTERS = 200
_RESULTS_LIMIT = 100  # of a record: signatures, checks, reasons, each (RFC 9990 §3.1.3)
_COUNT_LIMIT = 10**12
_TIME_LIMIT = 10**11  # seconds: a date with 5 digits in its year; more of it is no time
# Nobody's text follows a bare "<" of these names.
_NAMES = (
    "feedback version report_metadata org_name email extra_contact_info report_id date_range begin end error generator "
    "policy_published domain p sp np adkim aspf fo pct testing t psd discovery_method record row source_ip count "
    "policy_evaluated disposition dkim spf reason type comment identifiers identities header_from envelope_from "
    "envelope_to auth_results selector result human_result scope"
)
_KNOWN = frozenset(_NAMES.split())
_TAG = re.compile(r"<!--.*?-->|<\?[^<>]*>|<(/?)(?:[A-Za-z_][\w.-]*:)?([a-z_]+)(?:\s[^<>]*?)?(/?)>", re.DOTALL)
_REFERENCE = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_DOCTYPE = re.compile(r"<!doctype", re.IGNORECASE)
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

_Values = dict[str, str]


class AggregateReader:
    """``feed()`` pieces, then ``finish()``."""

    def __init__(self, *, records: int) -> None:
        """``records``: the most that a report may have."""
        self.problems: list[str] = []
        self._builder = _Builder(records, self.problems)
        self._pieces: list[bytes] = []  # for the lenient reading, while it is possible
        self._fed = 0
        self._broken = ""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._builder.end
        self._parser.CharacterDataHandler = self._builder.text
        self._parser.StartDoctypeDeclHandler = _refuse_doctype

    def feed(self, piece: bytes) -> None:
        """Raises ReportError."""
        self._fed += len(piece)
        if self._fed <= _LENIENT_LIMIT_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        if self._broken:
            if not self._pieces:
                raise ReportError(f"the report is no XML: {self._broken}")
            return
        self._parse(piece, last=False)
        if not self._broken and self._fed - max(self._parser.CurrentByteIndex, 0) > _TOKEN_LIMIT_BYTES:
            raise ReportError("the report has a tag that is too long")

    def finish(self) -> AggregateReport:
        """Raises ReportError."""
        if not self._broken:
            self._parse(b"", last=True)
        if self._broken and not self._builder.is_whole:
            if not self._pieces:
                raise ReportError(f"the report is no XML: {self._broken}")
            self.problems[:] = [f"no well-formed XML: {self._broken}"]
            self._builder = _Builder(self._builder.records_limit, self.problems)
            _read_leniently(b"".join(self._pieces), self._builder)
        return self._builder.report()

    def _start(self, name: str, _attributes: _Values) -> None:
        self._builder.start(name)

    def _parse(self, piece: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(piece, last)
        except ReportError:
            raise
        except expat.ExpatError as error:
            self._broken = str(error)
        except (LookupError, ValueError):  # UnicodeError is one
            self._broken = "unknown character set"


def _refuse_doctype(*_: object) -> None:
    """Entities that grow and files of ours are spoken of in a document type only; a report has none."""
    raise ReportError("the report has a document type")


def _read_leniently(octets: bytes, builder: _Builder) -> None:
    """Raises ReportError."""
    text = octets.decode("utf-16" if octets[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    if _DOCTYPE.search(text):
        _refuse_doctype()
    at = 0
    for tag in _tags(text):
        if tag.start() > at:
            builder.text(_dereferenced(text[at : tag.start()]))
        at = tag.end()
        ends, name, empty = tag[1], tag[2], tag[3]
        if name is None:
            continue
        if ends or name == "record":  # records do not nest
            builder.close(name)
        if not ends:
            builder.start(name)
            if empty:
                builder.close(name)
    builder.close("feedback")


def _tags(text: str) -> Iterator[re.Match[str]]:
    """Tags of known names and what is no text."""
    comment_ends = text.rfind("-->")
    at = text.find("<")
    while at >= 0:
        # Without an end in sight, a comment's beginning would be looked at to the end of the text, each time.
        found = None if text.startswith("<!--", at) and at > comment_ends else _TAG.match(text, at)
        if found is not None and (found[2] is None or found[2] in _KNOWN):
            yield found
            at = found.end() - 1
        at = text.find("<", at + 1)


def _dereferenced(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        decimal, hexadecimal, name = found.groups()
        if name:
            return _NAMED[name]
        code = int(decimal) if decimal else int(hexadecimal, 16)
        return chr(code) if code < 0x110000 else "\ufffd"

    return _REFERENCE.sub(character, text) if "&" in text else text


class _Builder:
    """Takes elements as they begin and end, and makes a report of them."""

    def __init__(self, records: int, problems: list[str]) -> None:
        self.records_limit = records
        self.is_whole = False
        self._problems = problems
        self._open: list[str] = []
        self._prefix: str | None = None  # of the report's own elements
        self._text: list[str] = []
        self._length = 0
        self._groups: dict[str, _Values] = {}  # parent -> element -> text
        self._errors: list[str] = []
        self._begun = 0
        self._records: list[Record] = []
        self._reasons: list[OverrideReason] = []
        self._dkim: list[DkimResult] = []
        self._spf: list[SpfResult] = []

    # -- elements

    def start(self, name: str) -> None:
        prefix, _, local = name.rpartition(":")
        if self._prefix is None and local == "feedback":
            self._prefix = prefix
        elif prefix != self._prefix:
            local = ""  # an extension's element (RFC 9990 §5), or what encloses the report
        if len(self._open) >= DEPTH_LIMIT:
            raise ReportError(f"the report is nested deeper than {DEPTH_LIMIT} elements")
        self._open.append(local)
        self._text.clear()
        self._length = 0
        if local == "record":
            self._begin_record()

    def text(self, data: str) -> None:
        if self._length < _TEXT_LIMIT:
            self._text.append(data[: _TEXT_LIMIT - self._length])
            self._length += len(data)

    def end(self, _name: str) -> None:
        local = self._open.pop()
        if not local:
            self._text.clear()
            return
        parent = self._open[-1] if self._open else ""
        if self._length:
            value = "".join(self._text).strip()
            self._text.clear()
            self._length = 0
            if value and parent:
                if local == "error" and parent == "report_metadata":
                    if len(self._errors) < _PROBLEMS_LIMIT:
                        self._errors.append(value)
                else:
                    self._groups.setdefault(parent, {}).setdefault(local, value)
        if local == "record":
            self._end_record()
        elif local == "reason" and parent == "policy_evaluated":
            self._end_reason()
        elif local in ("dkim", "spf") and parent == "auth_results":
            self._end_result(local)
        elif local == "feedback":
            self.is_whole = True

    def close(self, name: str) -> None:
        """End what is open up to an element of this name; nothing where none is."""
        if name in self._open:
            while self._open[-1] != name:
                self.end("")
            self.end("")

    # -- records

    def _begin_record(self) -> None:
        """Raises ReportError. Records that will be passed over count, too: each costs its work."""
        self._begun += 1
        if self._begun > self.records_limit:
            raise ReportError(f"the report has more than {self.records_limit} records")
        for group in ("row", "policy_evaluated", "identifiers", "identities", "dkim", "spf", "reason"):
            self._groups.pop(group, None)
        self._reasons.clear()
        self._dkim.clear()
        self._spf.clear()

    def _end_reason(self) -> None:
        values = self._groups.pop("reason", {})
        if values and len(self._reasons) < _RESULTS_LIMIT:
            self._reasons.append(OverrideReason(values.get("type", "").lower(), values.get("comment", "")))

    def _end_result(self, kind: str) -> None:
        values = self._groups.pop(kind, {})
        domain, result = values.get("domain", "").lower(), values.get("result", "none").lower()
        human = values.get("human_result", "")
        if not domain:
            return
        if kind == "dkim":
            if len(self._dkim) < _RESULTS_LIMIT:
                self._dkim.append(DkimResult(domain, result, values.get("selector", ""), human))
        elif len(self._spf) < _RESULTS_LIMIT:
            self._spf.append(SpfResult(domain, result, values.get("scope", "").lower(), human))

    def _end_record(self) -> None:
        groups = self._groups
        row, evaluated = groups.get("row", {}), groups.get("policy_evaluated", {})
        names = groups.get("identifiers") or groups.get("identities") or {}
        try:
            address = _address(row.get("source_ip", ""))
            count = _number(row.get("count", ""), _COUNT_LIMIT)
        except ValueError as error:
            self._problem(f"a record is passed over: {error}")
            return
        self._records.append(
            Record(
                address,
                count,
                evaluated.get("disposition", "none").lower(),
                evaluated.get("dkim", "fail").lower(),
                evaluated.get("spf", "fail").lower(),
                names.get("header_from", "").lower(),
                names.get("envelope_from", "").lower(),
                names.get("envelope_to", "").lower(),
                tuple(self._reasons),
                tuple(self._dkim),
                tuple(self._spf),
            )
        )

    # -- the whole

    def report(self) -> AggregateReport:
        """Raises ReportError."""
        if self._prefix is None:
            raise ReportError("the document is no aggregate report")
        groups = self._groups
        metadata, dates = groups.get("report_metadata", {}), groups.get("date_range", {})
        published = {name: value.lower() for name, value in groups.get("policy_published", {}).items()}
        try:
            begin, end = (_number(dates.get(each, "").partition(".")[0], _TIME_LIMIT) for each in ("begin", "end"))
        except ValueError as error:
            raise ReportError(f"the report does not say what time it is about: {error}") from None
        domain = published.get("domain", "").rstrip(".")
        if not domain:
            raise ReportError("the report does not say what domain it is about")
        if not (metadata.get("org_name") or metadata.get("email")):
            raise ReportError("the report does not say who made it")
        if not self._records:
            self._problem("no records")
        policy = PolicyPublished(
            domain=domain,
            p=published.get("p", ""),
            sp=published.get("sp", ""),
            np=published.get("np", ""),
            adkim=published.get("adkim", ""),
            aspf=published.get("aspf", ""),
            fo=published.get("fo", ""),
            testing=published.get("testing", published.get("t", "")),
            psd=published.get("psd", ""),
            discovery_method=published.get("discovery_method", ""),
            pct=published.get("pct", ""),
        )
        return AggregateReport(
            org_name=metadata.get("org_name", ""),
            email=metadata.get("email", ""),
            report_id=metadata.get("report_id", ""),
            begin=begin,
            end=end,
            policy=policy,
            records=tuple(self._records),
            extra_contact_info=metadata.get("extra_contact_info", ""),
            errors=tuple(self._errors),
            generator=metadata.get("generator", ""),
            version=groups.get("feedback", {}).get("version", ""),
        )

    def _problem(self, text: str) -> None:
        if len(self._problems) < _PROBLEMS_LIMIT:
            self._problems.append(text[:_PROBLEM_CHARACTERS])


def _address(text: str) -> str:
    """Raises ValueError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text[:50]!r} is no address") from None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _number(text: str, limit: int) -> int:
    """Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) > limit:
        raise ValueError(f"{text[:50]!r} is no number" if text else "a number is missing")
    return int(text)
