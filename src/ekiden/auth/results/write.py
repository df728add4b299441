"""Writes what was found about a message as an Authentication-Results field (RFC 8601 §2.2, §2.7).

In:   the verdicts; they hold what strangers wrote.
Out:  the results as text of one line, which stands in ARC-Authentication-Results too (RFC 8617 §4.1.1), and the field.
Laws: ``parse`` of read.py gives the same values; no line break but those of folding; the size is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ekiden.auth.results.quoting import comment_text, reason_text, value_text
from ekiden.auth.verdict import ArcVerdict, DkimVerdict, DmarcVerdict, IprevVerdict, Result, SpfVerdict, Verdicts

NO_RESULTS = "none"  # RFC 8601 §2.2: no-result
DKIM_RESULTS_LIMIT = 30
_LINE_LENGTH = 78  # RFC 5322 §2.1.1
# What folding must not cut: blanks in quoted strings and comments belong to them.
_WORD = re.compile(r'(?:"[^"\\]*(?:\\.[^"\\]*)*"|\([^()]*\)|[^ ])+')
_WITHOUT_REASON = frozenset({Result.PASS, Result.NONE})

_Properties = Iterable[tuple[str, str]]


def results_text(
    verdicts: Verdicts,
    *,
    client_address: str = "",
    login: str = "",
    login_mechanism: str = "",
    utf8: bool = False,
) -> str:
    """The results, separated by "; "; "none" where there are none (RFC 8601 §2.2: no-result / 1*resinfo).

    ``client_address`` is written to the result of ARC (RFC 8617 §4.1.1: smtp.remote-ip), ``login`` is the account whose
    password was right. Domains are in A-labels; only ``utf8`` lets another value be more than ASCII, in a message that
    needs SMTPUTF8 anyway (RFC 8601 §2.2). A value that cannot be written is left out.
    """
    results = []
    if login:
        comment = comment_text(login_mechanism.lower()) if login_mechanism else ""
        results.append(_result("auth", Result.PASS, comment, "", [("smtp.auth", login)], utf8))
    if verdicts.iprev is not None:
        results.append(_iprev(verdicts.iprev))
    results += [_spf(spf, utf8) for spf in (verdicts.spf_helo, verdicts.spf) if spf is not None]
    results += [_dkim(dkim, utf8) for dkim in verdicts.dkim[:DKIM_RESULTS_LIMIT]]
    if verdicts.dmarc is not None:
        results.append(_dmarc(verdicts.dmarc, utf8))
    if verdicts.arc is not None:
        results.append(_arc(verdicts.arc, client_address, utf8))
    return "; ".join(results) or NO_RESULTS


def authentication_results(authserv_id: str, text: str) -> bytes:
    """The whole field with its CRLF. ``text`` is what results_text gave. Raises ValueError: no id can be like that."""
    return folded("Authentication-Results:", f"{identifier_text(authserv_id)}; {text}")


def identifier_text(authserv_id: str) -> str:
    """RFC 8601 §2.5: the name of a host or domain, as a rule; from the configuration. Raises ValueError."""
    text = value_text(authserv_id, utf8=True)
    if text is None:
        raise ValueError(f"not an authserv-id: {authserv_id!r}")
    return text


def folded(name: str, text: str) -> bytes:
    """The field that begins with ``name:``. Every result begins a line, and lines are cut between words only."""
    field = name
    column, ended = len(name), False
    # Results are mostly short, and mostly without a quotation mark in which a semicolon could stand.
    for word in _WORD.findall(text) if '"' in text else _lines(text.strip()):
        if (ended and word != NO_RESULTS) or column + 1 + len(word) > _LINE_LENGTH:
            field += "\r\n\t"
            column = 8
        else:
            field += " "
            column += 1
        field += word
        column += len(word)
        ended = word.endswith(";")
    return (field + "\r\n").encode()


def _lines(text: str) -> Iterator[str]:
    """The results of a text without quoted strings, whole where they fit a line, else word by word."""
    results = text.split("; ")
    last = len(results) - 1
    for at, result in enumerate(results):
        whole = result if at == last else result + ";"
        if len(whole) + 8 <= _LINE_LENGTH:
            yield whole
        else:
            yield from _WORD.findall(whole)


def _result(method: str, result: Result, comment: str, reason: str, properties: _Properties, utf8: bool) -> str:
    words = [f"{method}={result.value}"]
    if comment:
        words.append(comment)
    if reason and result not in _WITHOUT_REASON:
        words.append("reason=" + reason_text(reason, utf8=utf8))
    for name, value in properties:
        text = value_text(value, utf8=utf8)
        if text is not None:
            words.append(f"{name}={text}")
    return " ".join(words)


def _iprev(verdict: IprevVerdict) -> str:
    # RFC 8601 §2.7.3
    comment = comment_text(verdict.name) if verdict.name else ""
    return _result("iprev", verdict.result, comment, "", [("policy.iprev", verdict.address)], False)


def _spf(verdict: SpfVerdict, utf8: bool) -> str:
    # RFC 8601 §2.7.2, appendix B.3: SPF says nothing of the local part, so it is not written.
    properties = [(f"smtp.{verdict.identity}", verdict.domain)]
    return _result("spf", verdict.result, "", verdict.reason, properties, utf8)


def _dkim(verdict: DkimVerdict, utf8: bool) -> str:
    # RFC 8601 §2.7.1. What is quoted as a rule comes last: some readers expect the end of a result behind it.
    notes = [f"{verdict.key_bits}-bit key"] if verdict.key_bits else []
    if verdict.testing:
        notes.append("testing")
    if verdict.body_length is not None:
        notes.append(f"l={verdict.body_length}")
    properties = [
        ("header.d", verdict.domain),
        ("header.s", verdict.selector),
        ("header.i", verdict.identity),
        ("header.a", verdict.algorithm),
        ("header.b", verdict.signature),
    ]
    comment = comment_text(", ".join(notes)) if notes else ""
    return _result("dkim", verdict.result, comment, verdict.reason, properties, utf8)


def _dmarc(verdict: DmarcVerdict, utf8: bool) -> str:
    # RFC 7489 §11.1 registers header.from and policy.dmarc: what the owner asks for this message.
    properties = [("header.from", verdict.from_domain)]
    comment = ""
    if verdict.policy_domain:
        properties.append(("policy.dmarc", verdict.policy.value))
        comment = comment_text(f"p={verdict.published.value}")
    return _result("dmarc", verdict.result, comment, verdict.reason, properties, utf8)


def _arc(verdict: ArcVerdict, client_address: str, utf8: bool) -> str:
    # RFC 8617 §10.1, §10.2 register header.oldest-pass and smtp.remote-ip.
    comment = ""
    properties = []
    if verdict.instances:
        sealers = f", sealed by {' '.join(verdict.sealers)}" if verdict.sealers else ""
        comment = comment_text(f"i={verdict.instances}{sealers}")
        if verdict.result is Result.PASS:
            properties.append(("header.oldest-pass", str(verdict.oldest_pass)))
    properties.append(("smtp.remote-ip", client_address))
    return _result("arc", verdict.result, comment, verdict.reason, properties, utf8)
