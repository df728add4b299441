"""Any bytes are an address that is read back as it is written, or a PathProblem; strictly right is leniently right."""

from __future__ import annotations

from ekiden.message.address import Address
from ekiden.protocol.smtp.commands import Invalid, Mail, Rcpt
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.path import PathProblem, parse_mailbox, parse_path
from ekiden.protocol.smtp.verbs import VERBS, Rules

SEEDS = [
    b"<>",
    b"<a@b.example>",
    b"<a.b+c@d-e.example> SIZE=100 BODY=8BITMIME",
    b"<@x.example,@y.example:a@b.example>",
    b'<"a\\"b c"@[192.0.2.1]>',
    b"<a@[IPv6:2001:db8::1]>",
    b" test@example.com",
    b"<postmaster>",
    b"<..a..@b.example.>",
    "<jürgen@bücher.example>".encode(),
    b"<" + b"a" * 300 + b"@" + b"b." * 130 + b"c>",
]
_RULES = [Rules(Limits(), 1000, strict) for strict in (False, True)]


def one_input(data: bytes) -> None:
    lenient = parse_path(data, lenient=True)
    strict = parse_path(data, lenient=False)
    if not isinstance(strict, PathProblem):
        assert lenient == strict
    if not isinstance(lenient, PathProblem):
        address, rest = lenient
        assert data.endswith(rest)
        _check(address)
    for rules in _RULES:
        mail = VERBS[b"MAIL"].parse(b"FROM:" + data, rules)
        assert isinstance(mail, Mail | Invalid)
        rcpt = VERBS[b"RCPT"].parse(b"TO:" + data, rules)
        assert isinstance(rcpt, Rcpt | Invalid)
        # The quick form and the full parser must not disagree.
        if isinstance(mail, Mail):
            path = parse_path(data, lenient=not rules.strict_envelopes)
            assert not isinstance(path, PathProblem)
            assert mail.sender == path[0]
        if isinstance(rcpt, Rcpt):
            assert not rcpt.address.is_null
            path = parse_path(data, lenient=not rules.strict_envelopes)
            assert not isinstance(path, PathProblem)
            assert (rcpt.address, path[1].strip(b" ")) == (path[0], b"")


def _check(address: Address) -> None:
    text = str(address)
    assert all(" " <= char <= "~" for char in address.local + address.domain)
    assert not address.domain.endswith(".")
    if address.domain:
        # Written out it may have become longer by its quotes.
        again = parse_path(b"<" + text.encode("ascii") + b">", lenient=False)
        assert again in ((address, b""), PathProblem.TOO_LONG)
        assert parse_mailbox(text) in (address, None)
