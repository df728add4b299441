"""xtext, ORCPT and the keywords of EHLO, as values."""

from __future__ import annotations

import pytest

from ekiden.message.address import Address
from ekiden.message.envelope import DeliverBy, Envelope, Recipient
from ekiden.message.reply import Reply
from ekiden.protocol.smtp.client_extensions import Extensions, Limits, extensions_of
from ekiden.protocol.smtp.client_parameters import mail_parameters, recipient_parameters, seconds_left, xtext


@pytest.mark.parametrize(
    ("text", "written"),
    [("plain@a.b", b"plain@a.b"), ("a+b=c", b"a+2Bb+3Dc"), (" \r\n\x7f", b"+20+0D+0A+7F"), ("\u00e9", b"+C3+A9")],
)
def test_xtext(text: str, written: bytes) -> None:
    """RFC 3461 §4."""
    assert xtext(text) == written


def test_values_that_are_longer_than_the_rfc_allows_stay_away() -> None:
    """RFC 3461 §4.2, §4.4: 500 and 100 characters."""
    extensions = Extensions(dsn=True)
    assert mail_parameters(Envelope(envid="e" * 100), extensions, now=0) == b" ENVID=" + b"e" * 100
    assert mail_parameters(Envelope(envid="e" * 101), extensions, now=0) == b""
    long = Recipient(Address("a", "d.example"), orcpt="rfc822;" + "x" * 493)
    assert recipient_parameters(long, smtputf8=False) == b" ORCPT=rfc822;" + b"x" * 493
    longer = Recipient(Address("a", "d.example"), orcpt="rfc822;" + "x" * 494)
    assert recipient_parameters(longer, smtputf8=False) == b""


@pytest.mark.parametrize(
    ("until", "left"), [(100.9, 90), (10.0, 0), (0.0, -10), (1e300, 999_999_999), (-1e300, -999_999_999)]
)
def test_the_time_that_is_left(until: float, left: int) -> None:
    """RFC 2852 §4: up to nine digits."""
    assert seconds_left(DeliverBy(until, returns=False), 10.0) == left


@pytest.mark.parametrize(
    ("line", "limits"),
    [
        ("LIMITS MAILMAX=5 rcptmax=20 RCPTDOMAINMAX=1", Limits(20, 5, 1)),
        ("LIMITS", Limits()),
        ("LIMITS RCPTMAX=many MAILMAX RCPTMAX2=3 =", Limits()),
        ("LIMITS RCPTMAX=-1 MAILMAX=1.5", Limits()),
    ],
)
def test_limits(line: str, limits: Limits) -> None:
    """RFC 9422 §4."""
    assert extensions_of(Reply(250, None, ("mx.example", line))).limits == limits


def test_the_keywords_of_extensions() -> None:
    lines = ("mx", "CHUNKING", "BINARYMIME", "DSN", "DELIVERBY 240", "MT-PRIORITY STANAG4406", "REQUIRETLS", "SMTPUTF8")
    found = extensions_of(Reply(250, None, lines))
    assert (found.chunking, found.binary_mime, found.dsn, found.deliver_by, found.least_by_s) == (True,) * 4 + (240,)
    assert (found.mt_priority, found.require_tls, found.smtputf8) == (True, True, True)
    # RFC 3030 §3: BINARYMIME cannot be used without CHUNKING.
    assert not extensions_of(Reply(250, None, ("mx", "BINARYMIME"))).binary_mime
    assert not extensions_of(Reply(250, None, lines), {"DSN", "CHUNKING"}).binary_mime


def test_a_name_of_this_host_is_no_original_recipient_elsewhere() -> None:
    """The sendmail command's "root": a strict server would refuse ``ORCPT=rfc822;root``."""
    for original, expected in ((Address("root"), b""), (Address("root", "a.example"), b" ORCPT=rfc822;root@a.example")):
        recipient = Recipient(Address("root", "origin.example"), original)
        assert recipient_parameters(recipient, smtputf8=False) == expected
