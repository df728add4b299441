"""Certificates against TLSA records: the chains of OpenSSL's own test, and what SMTP adds (RFC 7671, RFC 7672)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from ekiden.dns.resolver import Tlsa
from ekiden.tls.certificate_names import name_matches
from ekiden.tls.dane import FULL, SHA256, SHA512, Match, Mismatch, key_of, strongest, usable, verify
from ekiden.tls.policy import Problem
from support.certificates import Authority, Pair, self_signed
from support.requirements import require_conformance

_X509_V_OK, _HOSTNAME_MISMATCH = 0, 62
NOW = time.time()


class Case(Struct):
    line: int
    records: list[Tlsa]
    chain: list[bytes]
    checks_names: bool
    result: int
    depth: int


@cache
def openssl_cases() -> list[Case]:
    """danetest.part.in; its own head describes the format."""
    path = require_conformance("mta-sts-tlsrpt-dane", "danetest.part.in")
    cases: list[Case] = []
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        records, certificates, no_names, result, depth = map(int, line.split())
        case = Case(number, [], [], not no_names, result, depth)
        for _ in range(records):
            usage, selector, matching, data = next(lines)[1].split()
            case.records.append(Tlsa(int(usage), int(selector), int(matching), bytes.fromhex(data)))
        for _ in range(certificates):
            pem: list[str] = []
            while not pem or not pem[-1].startswith("-----END"):
                text = next(lines)[1]
                if pem or text.startswith("-----BEGIN"):
                    pem.append(text)
            case.chain.append(x509.load_pem_x509_certificate("\n".join(pem).encode()).public_bytes(Encoding.DER))
        cases.append(case)
    return cases


def test_the_chains_of_openssl() -> None:
    """Its usages 0 and 1 are unusable for SMTP (RFC 7672 §3.1.3): what remains without them must end as it says."""
    compared = 0
    for case in openssl_cases():
        records = usable(case.records)
        if not records:
            assert all(record.usage in (0, 1) for record in case.records), case.line
            continue
        outcome = verify(case.chain, records, ["example.com"], NOW)
        if case.result == _X509_V_OK:
            assert isinstance(outcome, Match), (case.line, outcome)
            assert outcome.depth == case.depth, (case.line, outcome)
        else:
            assert isinstance(outcome, Mismatch), (case.line, outcome)
            if case.result == _HOSTNAME_MISMATCH:
                assert outcome.problem is Problem.WRONG_NAME, (case.line, outcome)
        compared += 1
    assert compared >= 25


# -- what SMTP adds --


def tlsa(usage: int, selector: int, matching: int, certificate: bytes) -> Tlsa:
    selected = certificate if selector == 0 else key_of(certificate)
    assert selected is not None
    data = {0: selected, 1: hashlib.sha256(selected).digest(), 2: hashlib.sha512(selected).digest()}[matching]
    return Tlsa(usage, selector, matching, data)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority("root")


@pytest.fixture(scope="module")
def middle(root: Authority) -> Authority:
    return Authority("middle", issuer=root)


def chain(leaf: Pair, *authorities: Authority) -> list[bytes]:
    return [leaf.der, *(each.der for each in authorities)]


def outcome(certificates: Sequence[bytes], *records: Tlsa, names: Sequence[str] = ("mx.test",)) -> Match | Problem:
    result = verify(certificates, records, names, NOW)
    return result if isinstance(result, Match) else result.problem


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_each_selector_and_matching_type(root: Authority, middle: Authority, selector: int, matching: int) -> None:
    leaf = middle.issue("mx.test")
    sent = chain(leaf, middle)
    own, anchor, top = (tlsa(u, selector, matching, der) for u, der in ((3, leaf.der), (2, middle.der), (2, root.der)))
    assert outcome(sent, own) == Match(own, 0)
    assert outcome([*sent, root.der], top) == Match(top, 1 if (selector, matching) == (1, 0) else 2)
    found = outcome(sent, anchor)
    assert found == Match(anchor, 0 if (selector, matching) == (1, 0) else 1)
    # Records that hold the anchor itself need not find it in the chain (RFC 7671 §5.2.3).
    assert isinstance(outcome(sent, top), Match) is (matching == FULL)


def test_usage_3_ignores_names_and_dates() -> None:
    """RFC 7672 §3.1.1."""
    old = self_signed("other.test", days=(-20, -10))
    record = tlsa(3, 1, 1, old.der)
    assert outcome([old.der], record) == Match(record, 0)


def test_usage_2_looks_at_names_dates_and_purposes(root: Authority) -> None:
    anchor = tlsa(2, 0, 1, root.der)

    def result(leaf: Pair, *names: str) -> Match | Problem:
        return outcome(chain(leaf, root), anchor, names=names or ("mx.test", "x.test"))

    assert isinstance(result(root.issue("mx.test")), Match)
    assert isinstance(result(root.issue("x.test")), Match)  # the next hop's name
    assert isinstance(result(root.issue("*.test"), "mx.a.test", "mx.test"), Problem)
    assert result(root.issue("other.test")) is Problem.WRONG_NAME
    assert result(root.issue("mx.test", days=(-9, -1))) is Problem.EXPIRED
    assert result(root.issue("mx.test", days=(1, 9))) is Problem.EXPIRED
    assert result(root.issue("mx.test", client=True)) is Problem.FAILED


def test_an_anchor_that_expired_does_not_help() -> None:
    old = Authority("old", days=(-9, -1))
    assert outcome(chain(old.issue("mx.test"), old), tlsa(2, 0, 1, old.der)) is Problem.EXPIRED


def test_only_an_authority_is_an_anchor(root: Authority) -> None:
    leaf = root.issue("mx.test")
    assert outcome([leaf.der], tlsa(2, 1, 1, leaf.der)) is Problem.FAILED  # RFC 7671 §5.2: not the server itself
    # A server's certificate signs nothing, whatever it signs.
    impostor = Authority("not an authority", issuer=root, ca=False)
    assert outcome(chain(impostor.issue("mx.test"), impostor), tlsa(2, 0, 1, impostor.der)) is Problem.FAILED
    assert outcome(chain(impostor.issue("mx.test"), impostor, root), tlsa(2, 0, 1, root.der)) is Problem.FAILED
    # A chain whose parts have nothing to do with each other.
    other = Authority("root")
    assert outcome(chain(other.issue("mx.test"), root), tlsa(2, 0, 1, root.der)) is Problem.FAILED


def test_the_length_of_a_path_is_the_authority_s_to_say(root: Authority) -> None:
    short = Authority("short", issuer=root, path_length=0)
    under = Authority("under", issuer=short)
    assert isinstance(outcome(chain(short.issue("mx.test"), short), tlsa(2, 0, 1, short.der)), Match)
    assert outcome(chain(under.issue("mx.test"), under, short), tlsa(2, 0, 1, short.der)) is Problem.FAILED


def test_the_order_of_the_chain_does_not_matter(root: Authority, middle: Authority) -> None:
    leaf = middle.issue("mx.test")
    anchor = tlsa(2, 0, 1, root.der)
    assert outcome([leaf.der, root.der, leaf.der, middle.der], anchor) == Match(anchor, 2)


@pytest.mark.parametrize(
    "record",
    [
        Tlsa(0, 1, 1, bytes(32)),  # RFC 7672 §3.1.3
        Tlsa(1, 1, 1, bytes(32)),
        Tlsa(4, 1, 1, bytes(32)),
        Tlsa(255, 1, 1, bytes(32)),
        Tlsa(3, 2, 1, bytes(32)),
        Tlsa(3, 1, 3, bytes(32)),
        Tlsa(3, 1, 1, bytes(31)),
        Tlsa(3, 1, 2, bytes(32)),
        Tlsa(3, 1, 1, b""),
        Tlsa(3, 0, 0, b"\x30\x03\x02\x01\x00"),
        Tlsa(2, 1, 0, b"junk"),
    ],
)
def test_unusable_records(record: Tlsa) -> None:
    good = Tlsa(3, 1, 1, bytes(32))
    assert usable([record, good, good]) == (good,)


def test_a_digest_that_is_not_in_use_makes_a_record_unusable() -> None:
    both = [Tlsa(3, 1, SHA256, bytes(32)), Tlsa(3, 1, SHA512, bytes(64))]
    assert usable(both, (SHA256,)) == (both[0],)


def test_the_strongest_digest_counts_alone(root: Authority) -> None:
    """RFC 7671 §9: within each usage and selector; what is no digest always counts."""
    leaf = root.issue("mx.test")
    right, wrong = tlsa(3, 1, 1, leaf.der), Tlsa(3, 1, SHA512, bytes(64))
    other, full = tlsa(3, 0, 1, leaf.der), tlsa(3, 1, 0, leaf.der)
    assert strongest([right, wrong]) == (wrong,)
    assert strongest([right, wrong], (SHA256, SHA512)) == (right,)
    assert strongest([right, wrong, other, full]) == (wrong, other, full)
    assert outcome([leaf.der], right, wrong) is Problem.FAILED
    assert outcome([leaf.der], right, wrong, other) == Match(other, 0)


def test_what_a_hostile_server_shows() -> None:
    record = Tlsa(3, 1, 1, bytes(32))
    anchor = Tlsa(2, 1, 1, bytes(32))
    for shown in (
        [],
        [b""],
        [b"\x30"],
        [b"\x30\x80"],
        [b"\x30\x84\xff\xff\xff\xff"],
        [b"\x30" * 1000],
        [b"x"] * 10_000,
    ):
        assert isinstance(outcome(shown, record, anchor), Problem)


@pytest.mark.parametrize(
    ("presented", "wanted", "matches"),
    [
        ("mx.test", "MX.test", True),
        ("*.x.test", "mx.x.test", True),
        ("*.x.test", "a.mx.x.test", False),
        ("*.x.test", "x.test", False),
        ("*.test", "x.test", False),
        ("m*.x.test", "mx.x.test", False),
        ("*", "test", False),
        ("mx.test\0.evil.test", "mx.test", False),
        ("", "", False),
    ],
)
def test_names(presented: str, wanted: str, matches: bool) -> None:
    assert name_matches(presented, wanted) is matches


def test_the_key_is_taken_octet_for_octet() -> None:
    made = self_signed("mx.test")
    spki = made.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key_of(made.der) == spki
