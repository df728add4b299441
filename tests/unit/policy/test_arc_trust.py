"""Whose word on a forwarded message is taken, and for what (arc_trusted_sealers)."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.auth.verdict import ArcVerdict, DmarcPolicy, DmarcVerdict, Result
from ekiden.config.snapshot import Parameters
from ekiden.policy.arc_trust import ArcTrust, Rescue
from ekiden.tables.open import open_table
from support.arc_chains import divided, key, sealed, verified, zone

MESSAGE = b"From: a@author.test\r\nTo: b@list.test\r\nSubject: x\r\n\r\nHello\r\n"
GOOD = "dkim=fail header.d=author.test; dmarc=pass header.from=author.test"
BAD = "spf=fail smtp.mailfrom=author.test; dmarc=fail header.from=author.test"
FAILS = DmarcVerdict(
    Result.FAIL, "author.test", "author.test", "author.test", DmarcPolicy.REJECT, record="v=DMARC1; p=reject"
)
ONE, TWO, THREE = key("list.test"), key("university.test"), key("sub.forwarder.test")
RECORDS = zone(ONE, TWO, THREE)


def chain(*results: str, message: bytes = MESSAGE) -> bytes:
    verdict = ArcVerdict(Result.NONE)
    for by, found in zip((ONE, TWO, THREE), results, strict=False):
        message = sealed(message, by, verdict, found)
        verdict = ArcVerdict(Result.PASS)
    return message


def rescue(message: bytes, trusted: str, dmarc: DmarcVerdict = FAILS) -> Rescue:
    trust = ArcTrust(Parameters({"arc_trusted_sealers": trusted}), open_table=open_table)
    assert bool(trust) is bool(trusted)
    return asyncio.run(trust.rescue(divided(message)[0], verified(message, RECORDS), dmarc))


def test_a_trusted_sealer_vouches_for_the_author() -> None:
    found = rescue(chain(GOOD), "list.test")
    reason = "list.test (i=1) found dmarc=pass for author.test, and is a trusted sealer"
    assert found == Rescue(True, reason, "list.test", 1)


def test_all_who_sealed_behind_are_trusted_too() -> None:
    message = chain(GOOD, BAD, BAD)
    found = rescue(message, "list.test, university.test, .forwarder.test")
    assert found.rescued
    assert found.reason == (
        "list.test (i=1) found dmarc=pass for author.test, and is a trusted sealer, as are all 2 who sealed it behind"
    )
    # Who is between could have put anything in the place of what the first one saw.
    found = rescue(message, "list.test, .forwarder.test")
    assert found == Rescue(False, "its trusted sealers (sub.forwarder.test) did not find it good")
    found = rescue(message, "list.test, university.test")
    assert found == Rescue(False, "sub.forwarder.test, which sealed it last, is no trusted sealer")
    assert not rescue(message, "!list.test, university.test, .forwarder.test").rescued


def test_nobody_is_trusted_by_default() -> None:
    assert Parameters({}).arc_trusted_sealers == ()
    assert not rescue(chain(GOOD), "").rescued


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ("dmarc=pass header.from=author.test", "dmarc=pass for author.test"),
        ("dmarc=pass action=none header.from=author.test", "dmarc=pass for author.test"),
        ("dmarc=pass header.from=AUTHOR.test.", "dmarc=pass for author.test"),
        ("dkim=pass header.d=mail.author.test", "a DKIM signature of mail.author.test"),
        ("dkim=pass header.i=@author.test", "a DKIM signature of author.test"),
        ("spf=pass smtp.mailfrom=x@bounce.author.test", "spf=pass for bounce.author.test"),
        ("dmarc=fail header.from=author.test; spf=pass smtp.mailfrom=author.test", "spf=pass for author.test"),
        ("dmarc=pass", ""),
        ("dmarc=pass header.from=other.test", ""),
        ("dmarc=pass header.from=notauthor.test", ""),
        ("dmarc=bestguesspass header.from=author.test", ""),
        ("dkim=pass header.d=other.test header.i=@author.test", ""),
        ("dkim=fail header.d=author.test", ""),
        ("spf=pass smtp.helo=author.test", ""),
        ("spf=softfail smtp.mailfrom=author.test", ""),
        ("arc=pass header.from=author.test", ""),
        ('spf=fail reason="dmarc=pass header.from=author.test" smtp.mailfrom=author.test', ""),
        ("none", ""),
        ("this is nothing", ""),
    ],
)
def test_what_speaks_for_the_author(results: str, found: str) -> None:
    rescued = rescue(chain(results), "list.test")
    assert rescued.rescued is bool(found)
    assert found in rescued.reason


def test_strict_alignment_counts_here_too() -> None:
    strict = DmarcVerdict(
        Result.FAIL, "author.test", "author.test", "author.test", record="v=DMARC1; p=reject; adkim=s; aspf=s"
    )
    assert not rescue(chain("dkim=pass header.d=mail.author.test"), "list.test", strict).rescued
    assert rescue(chain("dkim=pass header.d=author.test"), "list.test", strict).rescued
    assert not rescue(chain("spf=pass smtp.mailfrom=mail.author.test"), "list.test", strict).rescued


def test_a_chain_that_does_not_hold_rescues_nothing() -> None:
    found = rescue(chain(GOOD) + b"more\r\n", "list.test")
    assert not found.rescued
    assert found.reason.startswith("its ARC chain does not hold: the message signature i=1 of list.test does not hold")
    assert rescue(MESSAGE, "list.test") == Rescue(False, "no ARC chain says more")
    forged = b"From: ceo@author.test\r\n" + chain(GOOD, message=MESSAGE.replace(b"author.test", b"x.test"))
    assert not rescue(forged, "list.test").rescued
