"""The Sender Rewriting Scheme: what is rewritten leads back, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.auth.srs import DAYS, HASH_LENGTH_LIMIT, LOCAL_OCTETS, Srs, SrsError, SrsFlaw, is_srs
from ekiden.message.address import NULL_SENDER, Address

DAY = 86400.0
NOW = 20_000 * DAY + 3600
SRS = Srs([b"secret"], "fwd.test")
LONG = Srs([b"secret"], "fwd.test", local_limit=0)
OTHER = Srs([b"other"], "second.test", local_limit=0)
USER = Address("user", "origin.test")

_domains = st.from_regex(r"[a-z0-9]{1,10}(\.[a-z0-9]{1,10}){1,3}", fullmatch=True)
_locals = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=80)


def flaw_of(srs: Srs, local: str, now: float = NOW) -> SrsFlaw:
    with pytest.raises(SrsError) as caught:
        srs.reverse(Address(local, "fwd.test"), now)
    assert str(caught.value).startswith(caught.value.flaw.value)
    return caught.value.flaw


def changed(text: str, at: int) -> str:
    return text[:at] + ("a" if text[at] not in "aA" else "b") + text[at + 1 :]


def test_a_sender_becomes_an_address_of_ours_and_is_found_again() -> None:
    ours = SRS.forward(USER, NOW)
    assert ours.domain == "fwd.test"
    assert ours.local.startswith("SRS0=")
    assert ours.local.endswith("=origin.test=user")
    assert SRS.reverse(ours, NOW) == USER


@given(_locals, _domains, st.integers(0, 40_000), st.integers(0, 21), st.sampled_from("=+-"))
def test_every_sender_is_found_again_in_time(local: str, domain: str, day: int, later: int, separator: str) -> None:
    srs = Srs([b"secret"], "fwd.test", local_limit=0, separator=separator)
    sender = Address(local, domain)
    ours = srs.forward(sender, day * DAY)
    back = srs.reverse(ours, (day + later) * DAY)
    if is_srs(local):
        assert srs.forward(ours, day * DAY) == ours
    else:
        assert back == sender


@given(_locals.filter(lambda local: not is_srs(local)), _domains)
def test_the_case_of_a_local_part_may_get_lost(local: str, domain: str) -> None:
    local = "".join(char for char in local if char.isascii()) or "x"
    for change in (str.lower, str.upper):
        back = LONG.reverse(Address(change(LONG.forward(Address(local, domain), NOW).local), "FWD.test"), NOW)
        assert (back.local.lower(), back.domain.lower()) == (local.lower(), domain)


@given(st.data())
def test_no_character_can_be_changed(data: st.DataObject) -> None:
    local = SRS.forward(USER, NOW).local
    at = data.draw(st.integers(5, len(local) - 1))
    with pytest.raises(SrsError):
        SRS.reverse(Address(changed(local, at), "fwd.test"), NOW)


def test_hosts_in_a_row_keep_it_short_and_lead_back_to_the_first() -> None:
    once = LONG.forward(USER, NOW)
    twice = OTHER.forward(once, NOW)
    third = Srs([b"third"], "third.test", local_limit=0)
    thrice = third.forward(twice, NOW)
    assert twice.local.startswith("SRS1=")
    assert "=fwd.test==" in twice.local
    # The second host is left out: the third one's address leads to the first host at once.
    assert "second.test" not in thrice.local
    assert len(thrice.local) == len(twice.local)
    assert third.reverse(thrice, NOW) == OTHER.reverse(twice, NOW) == once
    # An SRS1 address has no age of its own: the first host judges.
    assert OTHER.reverse(twice, NOW + 100 * DAY) == once
    with pytest.raises(SrsError):
        LONG.reverse(once, NOW + 100 * DAY)


@pytest.mark.parametrize("separator", "=+-")
def test_each_separator_of_others_is_understood(separator: str) -> None:
    first = Srs([b"first"], "first.test", separator=separator)
    theirs = first.forward(USER, NOW)
    assert theirs.local[4] == separator
    ours = LONG.forward(theirs, NOW)
    assert LONG.reverse(ours, NOW) == theirs


def test_the_null_sender_and_our_own_addresses_stay() -> None:
    assert SRS.forward(NULL_SENDER, NOW) == NULL_SENDER
    assert SRS.forward(Address("list", "FWD.test"), NOW) == Address("list", "FWD.test")


def test_time_runs_out_and_clocks_may_differ_by_a_day() -> None:
    local = SRS.forward(USER, NOW).local
    assert SRS.reverse(Address(local, "fwd.test"), NOW + 21 * DAY) == USER
    assert flaw_of(SRS, local, NOW + 22 * DAY) is SrsFlaw.EXPIRED
    assert SRS.reverse(Address(local, "fwd.test"), NOW - DAY) == USER
    assert flaw_of(SRS, local, NOW - 2 * DAY) is SrsFlaw.EXPIRED
    # Days are counted modulo 1024.
    assert SRS.reverse(Address(local, "fwd.test"), NOW + DAYS * DAY) == USER


def test_secrets_change_while_old_addresses_come_back() -> None:
    old = Srs([b"old"], "fwd.test").forward(USER, NOW)
    both = Srs([b"new", b"old"], "fwd.test")
    assert both.reverse(old, NOW) == USER
    assert Srs([b"new"], "fwd.test").reverse(both.forward(USER, NOW), NOW) == USER
    assert flaw_of(Srs([b"new"], "fwd.test"), old.local) is SrsFlaw.FORGED


def test_hashes_have_a_length_and_a_least_length() -> None:
    long = Srs([b"secret"], "fwd.test", hash_length=12, hash_minimum=8)
    local = long.forward(USER, NOW).local
    assert len(local.split("=")[1]) == 12
    assert long.reverse(Address(local, "fwd.test"), NOW) == USER
    # What another host of the same secret made is taken with fewer or more characters, down to the least.
    assert SRS.reverse(Address(local, "fwd.test"), NOW) == USER
    assert flaw_of(long, SRS.forward(USER, NOW).local) is SrsFlaw.FORGED
    assert flaw_of(SRS, "SRS0==" + local.split("=", 2)[2]) is SrsFlaw.FORGED


def test_what_would_be_too_long_is_refused() -> None:
    fits = Address("u" * (LOCAL_OCTETS - len("SRS0=HHHH=TT=origin.test=")), "origin.test")
    assert len(SRS.forward(fits, NOW).local) == LOCAL_OCTETS
    with pytest.raises(SrsError) as caught:
        SRS.forward(Address(fits.local + "u", "origin.test"), NOW)
    assert caught.value.flaw is SrsFlaw.TOO_LONG
    assert len(LONG.forward(Address("u" * 200, "origin.test"), NOW).local) == 225
    # Octets count, not characters (RFC 6531 §3.3).
    with pytest.raises(SrsError):
        SRS.forward(Address(fits.local[:-1] + "\u00fc", "origin.test"), NOW)


def test_an_international_domain_does_not_make_an_address_that_needs_smtputf8() -> None:
    ours = SRS.forward(Address("user", "b\u00fccher.test"), NOW)
    assert ours.local.isascii()
    assert SRS.reverse(ours, NOW) == Address("user", "xn--bcher-kva.test")
    local = Address("m\u00fcller", "origin.test")
    assert SRS.reverse(SRS.forward(local, NOW), NOW) == local


def test_senders_of_bulk_mail_have_signs_of_ours_in_them() -> None:
    for local in ("bounce+1=a=b.test", "=", "a=b=c", "SRS2=x", "srs", "prvs=1234=user", "john doe", '"'):
        sender = Address(local, "origin.test")
        assert LONG.reverse(LONG.forward(sender, NOW), NOW) == sender


@pytest.mark.parametrize("domain", ["", "a=b.test", "a b.test", "x" * 300, "a@b.test", "..", "\ud800.test"])
def test_no_domain_that_could_not_be_read_again_is_put_in(domain: str) -> None:
    with pytest.raises(SrsError) as caught:
        SRS.forward(Address("user", domain), NOW)
    assert caught.value.flaw is SrsFlaw.UNUSABLE


def test_address_literals_are_domains_too() -> None:
    sender = Address("user", "[192.0.2.1]")
    assert SRS.reverse(SRS.forward(sender, NOW), NOW) == sender


@pytest.mark.parametrize(
    ("local", "flaw"),
    [
        ("user", SrsFlaw.NOT_SRS),
        ("SRS0", SrsFlaw.NOT_SRS),
        ("SRS0_x", SrsFlaw.NOT_SRS),
        ("SRS0=", SrsFlaw.MALFORMED),
        ("SRS0=abcd=AA=x.test", SrsFlaw.MALFORMED),
        ("SRS1=abcd=x.test", SrsFlaw.MALFORMED),
        ("SRS0=abcd=AA=x.test=user", SrsFlaw.FORGED),
        ("SRS1=abcd=x.test==a=b=c=d", SrsFlaw.FORGED),
        ("SRS0=" + "a" * 28 + "=AA=x.test=user", SrsFlaw.FORGED),
        ("SRS0=\u00e4bcd=AA=x.test=user", SrsFlaw.FORGED),
        ("SRS0=\udc80bcd=AA=x.test=user", SrsFlaw.FORGED),
        ("SRS0=====", SrsFlaw.FORGED),
    ],
)
def test_what_is_none_of_ours_is_told_apart(local: str, flaw: SrsFlaw) -> None:
    assert flaw_of(SRS, local) is flaw


def test_a_secret_alone_makes_no_address_that_is_none() -> None:
    """Whoever knows the secret, or guesses a hash, still gets nothing but an address out of it."""
    import base64
    import hmac

    def signed(*parts: str) -> str:
        text = "".join(parts).lower().encode()
        return base64.b64encode(hmac.digest(b"secret", text, "sha1"))[:4].decode()

    bad = "a b\r\n.test"
    assert flaw_of(SRS, f"SRS0={signed('AA', bad, 'user')}=AA={bad}=user") is SrsFlaw.MALFORMED
    assert flaw_of(SRS, f"SRS0={signed('1!', 'x.test', 'user')}=1!=x.test=user") is SrsFlaw.MALFORMED
    assert flaw_of(SRS, f"SRS1={signed('x.test', 'user')}=x.test=user") is SrsFlaw.MALFORMED


@pytest.mark.parametrize(
    "options",
    [
        {"secrets": []},
        {"secrets": [b"a", b""]},
        {"secrets": [b"a"], "hash_length": HASH_LENGTH_LIMIT + 1},
        {"secrets": [b"a"], "hash_length": 3},
        {"secrets": [b"a"], "hash_minimum": 0},
        {"secrets": [b"a"], "separator": "_"},
        {"secrets": [b"a"], "separator": ""},
        {"secrets": [b"a"], "max_age_days": DAYS - 1},
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"SRS"):
        Srs(domain="fwd.test", **options)  # type: ignore[arg-type]
