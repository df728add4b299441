"""What dkimpy signs holds here, what it refuses is refused here: generated messages, records and damage.

Where the two differ, RFC 6376 says so: white space before a colon (§3.4.2), l= beyond the body (§3.5), v= that is not
the first tag (§3.6.1).
"""

from __future__ import annotations

import base64
import time

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.auth.dkim.key_record import KeyRecordError, parse_key_record
from ekiden.auth.verdict import Result
from support.fake_resolver import FakeResolver
from support.plain_dkim import key_record, verdicts_of

NAME = "sel._domainkey.x.test"
RSA = generate_private_key(65537, 1024)
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS: dict[str, RSAPrivateKey | Ed25519PrivateKey] = {"rsa-sha256": RSA, "ed25519-sha256": ED25519}
RECORDS = {algorithm: key_record(key).encode() for algorithm, key in KEYS.items()}
PRIVATE = {
    "rsa-sha256": RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "ed25519-sha256": base64.b64encode(bytes(range(32))),
}
FORMS = (b"simple", b"relaxed")

WORD = st.sampled_from([b"a", b"word", b"B=C", b":", b";", "\u00e9".encode(), b"<a@x.test>", b'"q"', b"."])
SPACE = st.sampled_from([b" ", b"  ", b"\t", b" \t ", b"\r\n ", b" \r\n\t", b"\r\n  \r\n "])
VALUE = st.tuples(
    st.sampled_from([b"", b" ", b"\t "]),
    st.lists(st.tuples(WORD, SPACE), max_size=5).map(lambda pairs: b"".join(word + space for word, space in pairs)),
    st.sampled_from([b"end", b"", b"end \t"]),
).map(b"".join)
NAMES = st.sampled_from([b"To", b"SUBJECT", b"Received", b"x-a", b"X-A", b"Date", b"List-Id"])
FIELDS = st.lists(st.tuples(NAMES, VALUE), max_size=6)
LINE = st.lists(st.sampled_from([b"a", b" ", b"  ", b"\t", b"word", b"\xe9", b"."]), max_size=6).map(b"".join)
BODY = st.lists(LINE, max_size=8).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
SIGNED = st.lists(st.sampled_from([b"to", b"Subject", b"received", b"X-A", b"date", b"none", b"from"]), max_size=8)


def by_dkimpy(message: bytes, record: bytes) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(dnsfunc=lambda name, timeout=5: record))
    except dkim.DKIMException:
        return False


def by_us(message: bytes, record: bytes) -> bool:
    resolver = FakeResolver({("TXT", NAME): [record]})
    results = [verdict.result for verdict in verdicts_of(message, resolver, now=time.time(), piece=7)]
    assert Result.TEMPERROR not in results
    assert len(results) <= 1
    return results == [Result.PASS]


def message_of(fields: list[tuple[bytes, bytes]], author: int, body: bytes) -> bytes:
    named = [*fields[:author], (b"From", b" A <a@x.test>"), *fields[author:]]
    return b"".join(name + b":" + value + b"\r\n" for name, value in named) + b"\r\n" + body


@st.composite
def signed(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """The algorithm, dkimpy's field, the message."""
    message = message_of(draw(FIELDS), draw(st.integers(0, 6)), draw(BODY))
    algorithm = draw(st.sampled_from(sorted(KEYS)))
    names = draw(st.permutations([b"from", *draw(SIGNED)]))
    signer = dkim.DKIM(message, signature_algorithm=algorithm.encode())
    signer.should_not_sign = frozenset()  # Received, which a message may have several of
    field: bytes = signer.sign(
        b"sel",
        b"x.test",
        PRIVATE[algorithm],
        canonicalize=(draw(st.sampled_from(FORMS)), draw(st.sampled_from(FORMS))),
        include_headers=names,
        identity=draw(st.sampled_from([None, b"me@sub.x.test"])),
        length=draw(st.booleans()),
    )
    return algorithm, field, message


@settings(max_examples=200, deadline=None)
@given(signed())
def test_what_dkimpy_signs_holds(made: tuple[str, bytes, bytes]) -> None:
    algorithm, field, message = made
    assert by_us(field + message, RECORDS[algorithm])


DAMAGE = st.sampled_from(
    [
        (b"a", b"b"),
        (b" ", b"  "),
        (b" ", b""),
        (b"\t", b" "),
        (b"\r\n ", b" "),
        (b"word", b"Word"),
        (b"From:", b"from:"),
        (b"From:", b"From: z@z.test\r\nFrom:"),
        (b"From:", b"X-A: new\r\nFrom:"),
        (b"From:", b"To: new\r\nFrom:"),
        (b"x.test", b"X.test"),
        (b"\r\n\r\n", b"\r\nx-a: last\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n\r\nfirst\r\n"),
        (b"end", b""),
        (b"b=", b"b= A"),
        (b"v=1", b"v=2"),
        (b"v=1;", b"v=1; v=1;"),
        (b"bh=", b"bh=A"),
        (b"h=", b"h=date:"),
        (b"d=x.test", b"d=y.test"),
        (b"a=rsa-sha256", b"a=rsa-sha1"),
        (b"l=", b"l=0"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(signed(), DAMAGE, st.integers(0, 5), st.sampled_from([b"", b"\r\n", b" \r\n", b"ad\r\n", b"\t\r\nad\r\n"]))
def test_what_is_damaged_fails_alike(
    made: tuple[str, bytes, bytes], damage: tuple[bytes, bytes], at: int, added: bytes
) -> None:
    algorithm, field, message = made
    octets, place = field + message + added, -1
    for _ in range(at + 1):
        found = octets.find(damage[0], place + 1)
        if found < 0:
            break
        place = found
    if place >= 0:
        octets = octets[:place] + damage[1] + octets[place + len(damage[0]) :]
    assert by_us(octets, RECORDS[algorithm]) is by_dkimpy(octets, RECORDS[algorithm])


def test_white_space_before_a_colon() -> None:
    """RFC 6376 §3.4.2: "Delete any WSP characters remaining before and after the colon"; dkimpy sees no field there."""
    message = b"From: a@x.test\r\n\r\n1234\r\n"
    field = dkim.DKIM(message).sign(b"sel", b"x.test", PRIVATE["rsa-sha256"], canonicalize=(b"relaxed", b"simple"))
    changed = field + message.replace(b"From:", b"From :")
    assert by_us(changed, RECORDS["rsa-sha256"])
    assert not by_dkimpy(changed, RECORDS["rsa-sha256"])


def test_a_part_that_is_longer_than_the_body() -> None:
    """RFC 6376 §3.5, l=: "This value MUST NOT be larger than the actual number of octets in the canonicalized body"."""
    message = b"From: a@x.test\r\n\r\n1234\r\n"
    signer = dkim.DKIM(message)
    field = signer.sign(b"sel", b"x.test", PRIVATE["rsa-sha256"], canonicalize=FORMS, length=True)
    assert b"l=6;" in field
    assert by_us(field + message, RECORDS["rsa-sha256"])
    shorter = field + message.replace(b"1234\r\n", b"12\r\n")
    assert not by_us(shorter, RECORDS["rsa-sha256"])
    assert not by_dkimpy(shorter, RECORDS["rsa-sha256"])


KINDS = st.sampled_from([b"", b"k=rsa", b"k = ed25519", b"k=other"])
VERSIONS = st.sampled_from([b"", b"v=DKIM1", b" v = DKIM1 ", b"v=DKIM2", b"V=DKIM2"])
PUBLIC = {name: record.rpartition(b"p=")[2] for name, record in RECORDS.items()}
POINTS = st.sampled_from(
    [
        b"p=" + PUBLIC["rsa-sha256"],
        b"p=" + PUBLIC["ed25519-sha256"],
        b" p = " + PUBLIC["rsa-sha256"][:50] + b" " + PUBLIC["rsa-sha256"][50:],
        b"p=",
        b"p=AAAA",
        b"",
    ]
)
OTHERS = st.lists(
    st.sampled_from([b"n=a note", b"t=y", b"g=*", b"s=email", b"h=sha256", b"s=*", b"broken"]), max_size=3
)


@settings(max_examples=500)
@given(VERSIONS, KINDS, POINTS, OTHERS, st.permutations(range(3)), st.sampled_from([b"", b";", b"; "]))
def test_key_records_are_read_alike(
    version: bytes, kind: bytes, point: bytes, others: list[bytes], order: list[int], end: bytes
) -> None:
    rest = [[kind], [point], others]
    tags = [version, *(tag for place in order for tag in rest[place])]
    record = b";".join(tag for tag in tags if tag) + end
    try:
        ours = parse_key_record(record).key is not None
    except KeyRecordError:
        ours = False
    try:
        theirs = bool(record) and dkim.evaluate_pk("name", record)[0] is not None
    except (dkim.KeyFormatError, ValueError):
        theirs = False
    assert ours is theirs, record


def test_a_version_that_is_not_the_first_tag() -> None:
    """RFC 6376 §3.6.1, v=: "This tag MUST be the first tag in the record"."""
    record = b"p=" + PUBLIC["rsa-sha256"] + b"; v=DKIM1"
    assert dkim.evaluate_pk("name", record)[0] is not None
    with pytest.raises(KeyRecordError, match="v= is not its first tag"):
        parse_key_record(record)
