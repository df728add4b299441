"""What a DKIM-Signature field says, and what is none (RFC 6376 §3.5, RFC 8616 §5)."""

from __future__ import annotations

import base64

import pytest

from ekiden.auth.dkim.signature import SignatureError, parse_signature

DIGEST = base64.b64encode(bytes(32)).decode()
PLAIN = {
    "v": "1",
    "a": "rsa-sha256",
    "d": "x.test",
    "s": "sel",
    "h": "From:to",
    "bh": DIGEST,
    "b": "dGVzdAo=",
}


def field(**changes: str | None) -> bytes:
    tags = {name: value for name, value in {**PLAIN, **changes}.items() if value is not None}
    return "; ".join(f"{name}={value}" for name, value in tags.items()).encode()


def test_the_defaults() -> None:
    signature = parse_signature(field())
    assert signature.signer.algorithm == "rsa-sha256"
    assert (signature.signer.key_type, signature.signer.hash_name) == ("rsa", "sha256")
    assert signature.signer.key_name == "sel._domainkey.x.test"
    assert (signature.signer.header_canonicalization, signature.signer.body_canonicalization) == ("simple", "simple")
    assert (signature.signer.identity, signature.signer.identity_domain) == ("@x.test", "x.test")
    assert signature.signer.signed_headers == ("From", "to")
    assert signature.signature == b"test\n"
    assert signature.body_length is signature.signed_at is signature.expires_at is None


def test_every_tag() -> None:
    signature = parse_signature(
        field(c="relaxed", i="=6Ae@a.b.x.test", q="other : dns/txt", l="017", t="10", x="11", z="From:x|To:y", new="=")
    )
    assert (signature.signer.header_canonicalization, signature.signer.body_canonicalization) == ("relaxed", "simple")
    assert (signature.signer.identity, signature.signer.identity_domain) == ("je@a.b.x.test", "a.b.x.test")
    assert (signature.body_length, signature.signed_at, signature.expires_at) == (17, 10, 11)


def test_names_in_u_labels() -> None:
    signature = parse_signature(field(d="BÜCHER.test", s="größe", i="jürgen@post.bücher.test"))
    assert signature.signer.domain == "xn--bcher-kva.test"
    assert signature.signer.key_name == "xn--gre-6ka8i._domainkey.xn--bcher-kva.test"
    assert (signature.signer.identity, signature.signer.identity_domain) == (
        "jürgen@post.bücher.test",
        "post.xn--bcher-kva.test",
    )
    quoted = parse_signature(field(d="bücher.test", i="j=C3=BCrgen@xn--bcher-kva.test"))
    assert quoted.signer.identity == "jürgen@xn--bcher-kva.test"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"v": None}, "v= is missing"),
        ({"v": "2"}, "version '2' is not known"),
        ({"v": "01"}, "version"),
        ({"a": None}, "a= is missing"),
        ({"a": "rsa-md5"}, "algorithm 'rsa-md5'"),
        ({"a": "RSA-SHA256"}, "algorithm"),  # RFC 6376 §3.2: values are case-sensitive
        ({"b": None}, "b= is missing"),
        ({"b": "a"}, "b= is not base64"),
        ({"bh": None}, "bh= is missing"),
        ({"bh": "dGVzdAo="}, "bh= is not a hash"),
        ({"d": None}, "d= is missing"),
        ({"d": "test"}, "d= is not the name of a domain"),
        ({"d": "x.test."}, "d= is not"),
        ({"d": "x..test"}, "d= is not"),
        ({"d": "x y.test"}, "d= is not"),
        ({"d": "x*.test"}, "d= is not"),
        ({"d": ("a" * 63 + ".") * 4 + "test"}, "d= is not"),
        ({"s": None}, "s= is missing"),
        ({"s": ""}, "s= is not a selector"),
        ({"s": "a/b"}, "s= is not a selector"),
        ({"h": None}, "h= is missing"),
        ({"h": ""}, "h= is not a list"),
        ({"h": "from:"}, "h= is not a list"),
        ({"h": "from:a b"}, "h= is not a list"),
        ({"h": "to:subject"}, "From is not among"),
        ({"c": "nowsp"}, "c= names"),
        ({"c": "relaxed/"}, "c= names"),
        ({"c": "relaxed/simple/x"}, "c= names"),
        ({"i": "x.test"}, "i= is not"),
        ({"i": "a@"}, "i= is not"),
        ({"i": "a=FF@x.test"}, "i= is not UTF-8"),
        ({"i": "a=0D=0AX:b@x.test"}, "i= holds control characters"),
        ({"i": "a=C2=85@x.test"}, "i= holds control characters"),
        ({"i": "a@test"}, "neither d= nor below"),
        ({"i": "a@yx.test"}, "neither d= nor below"),
        ({"l": "-1"}, "l= is not a number"),
        ({"q": "dns"}, "q= names no way"),
        ({"t": "x"}, "t= is not a number"),
        ({"t": "10", "x": "10"}, "expires"),
    ],
)
def test_what_is_no_signature(changes: dict[str, str | None], said: str) -> None:
    with pytest.raises(SignatureError, match=said):
        parse_signature(field(**changes))


def test_the_error_names_the_signature_where_that_could_be_read() -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(field(h="to"))
    assert (caught.value.domain, caught.value.selector) == ("x.test", "sel")
    with pytest.raises(SignatureError) as caught:
        parse_signature(b"v=1; v=1")
    assert (caught.value.domain, caught.value.selector) == ("", "")


def test_a_giant_field_is_read_in_linear_time() -> None:
    names = ":".join(["from"] + ["a" * 10] * 90_000)
    assert len(parse_signature(field(h=names)).signer.signed_headers) == 90_001
    with pytest.raises(SignatureError):
        parse_signature(field(d="a." * 500_000))


def test_a_signer_is_remembered_and_a_changed_one_is_another() -> None:
    one, other = parse_signature(field(t="10")), parse_signature(field(t="11", b="AAAA"))
    assert one.signer is other.signer
    assert (one.signed_at, other.signed_at, other.signature) == (10, 11, b"\0\0\0")
    assert parse_signature(field(s="other")).signer.key_name == "other._domainkey.x.test"
    assert parse_signature(field(h="from")).signer.picks == ((b"from", 1),)
    giant = field(h=":".join(["from"] * 1000))
    assert parse_signature(giant).signer is not parse_signature(giant).signer
    assert parse_signature(giant).signer.authors == 1000
