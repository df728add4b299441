"""A failure report: a message that did not authenticate, told to the owner of its domain (RFC 9991, RFC 6591).

In:   what was found of the message, and its header; what the domain's record asks for (fo=).
Out:  whether there is something to report; the content of a message in the Abuse Reporting Format.
Never: holds the body of the message; shows local parts or names where a Redaction is given; lets what strangers wrote
       end a line, a field or a part.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct
from msgspec.structs import replace

from ekiden import __version__
from ekiden.auth.dmarc.record import DmarcRecord, PublicSuffixDomain
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, SpfVerdict, Verdicts
from ekiden.message.date import header_date
from ekiden.reports.collect import Evaluated
from ekiden.reports.mail_text import header_text
from ekiden.reports.redaction import Redaction
from ekiden.reports.request import parsed

HEADER_LIMIT_BYTES = 32 * 1024
_LINE_LIMIT_BYTES = 998  # RFC 5322 §2.1.1
_RECORD_LIMIT_CHARACTERS = 500
_BAD_SIGNATURE = frozenset({Result.FAIL, Result.POLICY, Result.PERMERROR, Result.NEUTRAL})
_BAD_CLIENT = frozenset({Result.FAIL, Result.SOFTFAIL, Result.PERMERROR})
_UNKNOWN = frozenset({Result.TEMPERROR})
_DELIVERY = {DmarcPolicy.NONE: "delivered", DmarcPolicy.QUARANTINE: "policy", DmarcPolicy.REJECT: "reject"}
_NOT_PRINTABLE = re.compile(rb"[^\t -~]")


class Failure(Struct, frozen=True):
    """What is reported, in the words of RFC 6591 §3.1 and RFC 9991 §4."""

    kind: str  # Auth-Failure: dmarc, signature, spf
    unaligned: tuple[str, ...]  # Identity-Alignment: dkim, spf, where they authenticated no aligned name


class FailureMail(Struct, frozen=True):
    """``sender`` and ``to`` are addresses; ``host`` is our name; ``redaction`` None: the whole header is shown."""

    evaluated: Evaluated
    failure: Failure
    header: bytes
    sender: str
    to: str
    host: str
    authserv_id: str
    now: float
    redaction: Redaction | None
    incidents: int = 1


def failure_of(evaluated: Evaluated) -> Failure | None:
    """What the owner of the domain wants to be told of this message; None: nothing (RFC 9989 §4.7: ruf, fo)."""
    dmarc = evaluated.verdicts.dmarc
    if dmarc is None or not dmarc.record or dmarc.result not in (Result.PASS, Result.FAIL):
        return None
    record = parsed(dmarc.record)
    # RFC 9991 §2: what a public suffix asks for does not count. A report on a report would have no end.
    if record is None or not record.ruf or record.psd is PublicSuffixDomain.YES or evaluated.is_report:
        return None
    return _wanted(record, dmarc, evaluated.verdicts)


def _wanted(record: DmarcRecord, dmarc: DmarcVerdict, verdicts: Verdicts) -> Failure | None:
    unaligned = tuple(
        name for name, aligned in (("dkim", dmarc.dkim_aligned), ("spf", dmarc.spf_aligned)) if not aligned
    )
    options, spf = record.failure_options, verdicts.spf
    if "0" in options and dmarc.result is Result.FAIL:
        return Failure("dmarc", unaligned)
    if "1" in options:
        # What DNS could not say is nobody's failure.
        unknown = {"dkim"} if any(each.result in _UNKNOWN for each in verdicts.dkim) else set()
        if spf is not None and spf.result in _UNKNOWN:
            unknown.add("spf")
        if set(unaligned) - unknown:
            return Failure("dmarc", unaligned)
    if "d" in options and any(each.result in _BAD_SIGNATURE for each in verdicts.dkim):
        return Failure("signature", unaligned)
    if "s" in options and spf is not None and spf.result in _BAD_CLIENT:
        return Failure("spf", unaligned)
    return None


def compose_failure(mail: FailureMail) -> bytes:
    """In wire form, 7-bit."""
    domain = header_text(_dmarc(mail).from_domain)
    original = _original(mail)
    machine = b"".join(_machine_fields(mail))
    boundary = f"=_failure_{hashlib.sha256(machine + original).hexdigest()[:40]}"
    host = header_text(mail.host)
    head = (
        f"From: {header_text(mail.sender)}",
        f"To: {header_text(mail.to)}",
        f"Date: {header_date(mail.now)}",
        f"Message-ID: <{boundary[2:]}.{int(mail.now)}@{host}>",
        f"Subject: DMARC failure report for {domain}",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=feedback-report;\r\n boundary="{boundary}"',
        "",
        f"--{boundary}",
        'Content-Type: text/plain; charset="us-ascii"',
        "Content-Transfer-Encoding: 7bit",
        "",
        f"This is a report from {host} on a message that says it is from {domain}",
        f"and did not authenticate. It came from {header_text(mail.evaluated.client_address)}.",
        "",
        f"--{boundary}",
        "Content-Type: message/feedback-report",
        "Content-Transfer-Encoding: 7bit",
        "",
        "",
    )
    middle = f"\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    return "\r\n".join(head).encode("ascii", "replace") + machine + b"%b%b\r\n--%b--\r\n" % (
        middle.encode("ascii"), original, boundary.encode("ascii"),
    )  # fmt: skip


def _machine_fields(mail: FailureMail) -> list[bytes]:
    """The fields of message/feedback-report (RFC 5965 §3, RFC 6591 §3, RFC 9991 §4)."""
    evaluated, failure, dmarc = mail.evaluated, mail.failure, _dmarc(mail)
    verdicts = evaluated.verdicts if mail.redaction is None else _redacted(evaluated.verdicts, mail.redaction)
    values: list[tuple[str, str]] = [
        ("Feedback-Type", "auth-failure"),
        ("Version", "1"),
        ("User-Agent", f"Ekiden/{__version__}"),
        ("Auth-Failure", failure.kind),
        ("Identity-Alignment", ", ".join(failure.unaligned) or "none"),
        ("Delivery-Result", _DELIVERY[evaluated.disposition]),
        ("Source-IP", evaluated.client_address),
        ("Arrival-Date", header_date(evaluated.now)),
        ("Reported-Domain", dmarc.from_domain),
        ("Reporting-MTA", f"dns; {mail.host}"),
    ]
    spf = verdicts.spf
    if spf is not None and spf.sender and evaluated.envelope_from:
        values.append(("Original-Mail-From", f"<{spf.sender}>"))
    signature = _failed_signature(verdicts, dmarc)
    if signature is not None:
        values += [("DKIM-Domain", signature.domain), ("DKIM-Selector", signature.selector)]
        values += [("DKIM-Identity", signature.identity)] if signature.identity else []
    if spf is not None and spf.result in _BAD_CLIENT and spf.record:
        values.append(("SPF-DNS", _spf_dns(spf)))
    if mail.incidents > 1:
        values.append(("Incidents", str(mail.incidents)))
    fields = [f"{name}: {header_text(value)}\r\n".encode("ascii") for name, value in values]
    authentication = authentication_results(mail.authserv_id, results_text(verdicts))
    return [*fields, _printable_lines(authentication)]


def _redacted(verdicts: Verdicts, redaction: Redaction) -> Verdicts:
    """Before they are quoted, for a digest in place of a part of a quoted string would end it elsewhere."""
    spf, text = verdicts.spf, redaction.text
    return Verdicts(
        spf=None if spf is None else replace(spf, sender=text(spf.sender), reason=text(spf.reason)),
        dkim=tuple(replace(each, identity=text(each.identity), reason=text(each.reason)) for each in verdicts.dkim),
        dmarc=verdicts.dmarc,
    )


def _failed_signature(verdicts: Verdicts, dmarc: DmarcVerdict) -> DkimVerdict | None:
    """The one that would have helped, if there is one; else the first that failed."""
    if dmarc.dkim_aligned:
        return None
    failed = [each for each in verdicts.dkim if each.result in _BAD_SIGNATURE and each.domain]
    below = f".{dmarc.organizational_domain or dmarc.from_domain}"
    return next((each for each in failed if f".{each.domain}".endswith(below)), failed[0] if failed else None)


def _spf_dns(spf: SpfVerdict) -> str:
    """RFC 6591 §3.2.6."""
    record = spf.record[:_RECORD_LIMIT_CHARACTERS].replace("\\", "\\\\").replace('"', '\\"')
    return f'txt : {spf.domain} : "{record}"'


def _original(mail: FailureMail) -> bytes:
    """The header of the message, whole lines of it, in printable ASCII."""
    header = mail.header[:HEADER_LIMIT_BYTES]
    if len(header) < len(mail.header):
        header = header[: header.rfind(b"\n") + 1]
    return _printable_lines(header if mail.redaction is None else mail.redaction.header(header))


def _printable_lines(octets: bytes) -> bytes:
    lines = octets.replace(b"\r\n", b"\n").split(b"\n")
    return b"\r\n".join(_NOT_PRINTABLE.sub(b"?", line[:_LINE_LIMIT_BYTES]) for line in lines)


def _dmarc(mail: FailureMail) -> DmarcVerdict:
    dmarc = mail.evaluated.verdicts.dmarc
    assert dmarc is not None, "failure_of has found it"
    return dmarc
