"""Writes what was found about a message as an Authentication-Results field (RFC 8601 §2.2, §2.7).

In:   the verdicts; they hold what strangers wrote.
Out:  the results as text of one line, which stands in ARC-Authentication-Results too (RFC 8617 §4.1.1), and the field.
Laws: ``parse`` of read.py gives the same values; no line break but those of folding; the size is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial

from ekiden.auth.results.quoting import REASON_LIMIT, VALUE_LIMIT, comment_text, reason_text, value_text
from ekiden.auth.verdict import ArcVerdict, DkimVerdict, DmarcPolicy, Result, Verdicts

NO_RESULTS = "none"  # RFC 8601 §2.2: no-result
DKIM_RESULTS_LIMIT = 30
_LINE_LENGTH = 78  # RFC 5322 §2.1.1
_FOLD = "\r\n\t"
_ROOM = _LINE_LENGTH - 8  # behind the tab of a line
# What folding must not cut: blanks in quoted strings and comments belong to them.
_WORD = re.compile(r'(?:"[^"\\]*(?:\\.[^"\\]*)*"|\([^()]*\)|[^ ])+')
# Results whose quoted strings hold none of what ends a word or a result, as b= of a signature does.
_PLAIN = re.compile(r'[^"]*+(?:"[A-Za-z0-9+/=]*+"[^"]*+)*+')
# One line of plain results: a result; of a longer one as much as fits, cut where no comment is (of
# which REASON_LIMIT bounds the look ahead); else one word.
_LINE = re.compile(
    rf"[^ ;][^;]{{,{_ROOM - 2}}};(?![^ ])"
    rf"|[^ ;][^;]{{,{_ROOM - 1}}}(?<! )(?:\Z|(?= (?![^();]{{,{REASON_LIMIT}}}\))))"
    rf"|(?:\([^()]*\)|[^ ])+"
)
_WITHOUT_REASON = frozenset({Result.PASS, Result.NONE})
# Results of one method that are remembered: clients, domains and signers come again.
_REMEMBERED = 1024

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
    if (iprev := verdicts.iprev) is not None:
        results.append(_iprev(iprev.result, iprev.name, iprev.address))
    for spf in (verdicts.spf_helo, verdicts.spf):
        if spf is not None:
            results.append(_spf(spf.result, spf.identity, spf.domain, spf.reason[:REASON_LIMIT], utf8))
    for dkim in verdicts.dkim[:DKIM_RESULTS_LIMIT]:
        results.append(_dkim(dkim, utf8))
    if (dmarc := verdicts.dmarc) is not None:
        policy = dmarc.policy if dmarc.policy_domain else None
        reason = dmarc.reason[:REASON_LIMIT]
        results.append(_dmarc(dmarc.result, dmarc.from_domain, policy, dmarc.published, reason, utf8))
    if verdicts.arc is not None:
        results.append(_arc(verdicts.arc, client_address, utf8))
    return "; ".join(results) or NO_RESULTS


def identifier_text(authserv_id: str) -> str:
    """RFC 8601 §2.5: the name of a host or domain, as a rule; from the configuration. Raises ValueError."""
    text = value_text(authserv_id, utf8=True)
    if text is None:
        raise ValueError(f"not an authserv-id: {authserv_id!r}")
    return text


def folded(name: str, authserv_id: str, results: str) -> bytes:
    """The field that begins with ``name``, with its CRLF. ``results`` is what results_text gave.

    Every result begins a line, and lines are cut between words only.

    Raises ValueError: no authserv-id can be like that.
    """
    beginning = _beginning(name, authserv_id)
    if results == NO_RESULTS:
        fits = len(beginning.rpartition("\n")[2].expandtabs()) + 1 + len(NO_RESULTS) <= _LINE_LENGTH
        return f"{beginning}{' ' if fits else _FOLD}{NO_RESULTS}\r\n".encode()
    plain = '"' not in results or _PLAIN.fullmatch(results) is not None
    lines = _LINE.findall(results) if plain else _lines(results)
    return (_FOLD.join((beginning, *lines)) + "\r\n").encode()


authentication_results = partial(folded, "Authentication-Results:")  # the field by that name


def _lines(results: str) -> Iterator[str]:
    """As _LINE, of results that are not plain."""
    line = ""
    for word in _WORD.findall(results):
        if not line:
            line = word
        elif line.endswith(";") or len(line) + 1 + len(word) > _ROOM:
            yield line
            line = word
        else:
            line += " " + word
    yield line


@lru_cache(_REMEMBERED)
def _beginning(name: str, authserv_id: str) -> str:
    """The field as far as its results."""
    text = f"{identifier_text(authserv_id)};"
    return f"{name} {text}" if len(name) + 1 + len(text) <= _LINE_LENGTH else name + _FOLD + text


def _result(method: str, result: Result, comment: str, reason: str, properties: _Properties, utf8: bool) -> str:
    words = [f"{method}={result}"]
    if comment:
        words.append(comment)
    if reason and result not in _WITHOUT_REASON:
        words.append("reason=" + reason_text(reason, utf8=utf8))
    for name, value in properties:
        text = value_text(value, utf8=utf8)
        if text is not None:
            words.append(f"{name}={text}")
    return " ".join(words)


@lru_cache(_REMEMBERED)
def _iprev(result: Result, name: str, address: str) -> str:
    # RFC 8601 §2.7.3
    comment = comment_text(name) if name else ""
    return _result("iprev", result, comment, "", [("policy.iprev", address)], False)


@lru_cache(_REMEMBERED)
def _spf(result: Result, identity: str, domain: str, reason: str, utf8: bool) -> str:
    # RFC 8601 §2.7.2, appendix B.3: SPF says nothing of the local part, so it is not written.
    return _result("spf", result, "", reason, [(f"smtp.{identity}", domain)], utf8)


def _dkim(verdict: DkimVerdict, utf8: bool) -> str:
    # RFC 8601 §2.7.1. What is quoted as a rule comes last: some readers expect the end of a result behind it.
    # What a signature that holds says of lengths is not written, and must not keep its signer from being remembered.
    reason = "" if verdict.result in _WITHOUT_REASON else verdict.reason[:REASON_LIMIT]
    text = _dkim_signer(
        verdict.result,
        verdict.key_bits,
        verdict.testing,
        verdict.body_length,
        reason,
        verdict.domain,
        verdict.selector,
        verdict.identity[: VALUE_LIMIT + 1],  # a longer one is not written, and must not be remembered
        verdict.algorithm,
        utf8,
    )
    signature: str | None = verdict.signature
    if not (verdict.signature.isalnum() and verdict.signature.isascii()):  # most are, and none comes twice
        signature = value_text(verdict.signature, utf8=utf8)
    return text if signature is None else f"{text} header.b={signature}"


@lru_cache(_REMEMBERED)
def _dkim_signer(
    result: Result,
    key_bits: int,
    testing: bool,
    body_length: int | None,
    reason: str,
    domain: str,
    selector: str,
    identity: str,
    algorithm: str,
    utf8: bool,
) -> str:
    notes = [f"{key_bits}-bit key"] if key_bits else []
    if testing:
        notes.append("testing")
    if body_length is not None:
        notes.append(f"l={body_length}")
    comment = comment_text(", ".join(notes)) if notes else ""
    properties = [("header.d", domain), ("header.s", selector), ("header.i", identity), ("header.a", algorithm)]
    return _result("dkim", result, comment, reason, properties, utf8)


@lru_cache(_REMEMBERED)
def _dmarc(
    result: Result, from_domain: str, policy: DmarcPolicy | None, published: DmarcPolicy, reason: str, utf8: bool
) -> str:
    # RFC 7489 §11.1 registers header.from and policy.dmarc: what the owner asks for this message.
    properties = [("header.from", from_domain)]
    comment = ""
    if policy is not None:
        properties.append(("policy.dmarc", policy))
        comment = comment_text(f"p={published}")
    return _result("dmarc", result, comment, reason, properties, utf8)


def _arc(verdict: ArcVerdict, client_address: str, utf8: bool) -> str:
    # RFC 8617 §10.1, §10.2 register header.oldest-pass and smtp.remote-ip.
    if not verdict.instances:
        return _no_arc(verdict.result, verdict.reason[:REASON_LIMIT], client_address, utf8)
    sealers = f", sealed by {' '.join(verdict.sealers)}" if verdict.sealers else ""
    comment = comment_text(f"i={verdict.instances}{sealers}")
    properties = [("header.oldest-pass", str(verdict.oldest_pass))] if verdict.result is Result.PASS else []
    properties.append(("smtp.remote-ip", client_address))
    return _result("arc", verdict.result, comment, verdict.reason, properties, utf8)


@lru_cache(_REMEMBERED)
def _no_arc(result: Result, reason: str, client_address: str, utf8: bool) -> str:
    return _result("arc", result, "", reason, [("smtp.remote-ip", client_address)], utf8)
