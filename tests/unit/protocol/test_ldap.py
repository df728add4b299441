"""LDAP messages, filters and names (RFC 4511, RFC 4514, RFC 4515, RFC 4516)."""

from __future__ import annotations

import pytest

from ekiden.protocol.ldap import ber, names
from ekiden.protocol.ldap import filter as ldap_filter
from ekiden.protocol.ldap.messages import (
    Done,
    Entry,
    Other,
    Scope,
    bind_external_request,
    bind_request,
    parse_message,
    search_request,
    start_tls_request,
    unbind_request,
)


def test_requests_are_what_openldap_sends() -> None:
    """Recorded from ldapsearch 2.5 (-x -D cn=admin -w secret -b dc=example -l 5 -z 3; -ZZ), but for the SASL bind."""
    assert bind_request(1, "cn=admin", "secret").hex() == "301a02010160150201030408636e3d61646d696e8006736563726574"
    encoded = ldap_filter.encode("(|(uid=a*)(!(mail=x@y)))")
    search = search_request(2, "dc=example", Scope.SUB, encoded, ("mail",), size_limit=3, time_limit_s=5)
    assert search.hex() == (
        "30450201026340040a64633d6578616d706c650a01020a0100020103020105010100"
        "a11ba40a04037569643003800161a20da30b04046d61696c0403784079300604046d61696c"
    )
    assert unbind_request(3).hex() == "30050201034200"
    assert start_tls_request(1).hex() == "301d02010177188016312e332e362e312e342e312e313436362e3230303337"
    assert bind_external_request(1, "").hex() == "301802010160130201030400a30c040845585445524e414c0400"


def test_answers() -> None:
    values = ber.sequence(ber.text("a"), ber.text("b"), tag=ber.SET)
    content = ber.sequence(ber.text("cn=x"), ber.sequence(ber.sequence(ber.text("mail"), values)), tag=0x64)
    entry = ber.sequence(ber.integer(2), content)
    assert parse_message(entry + b"rest", 100) == (Entry(2, "cn=x", (("mail", (b"a", b"b")),)), len(entry))
    done = ber.sequence(
        ber.integer(200), ber.sequence(ber.integer(32, 0x0A), ber.text("dc=x"), ber.text("gone"), tag=0x65)
    )
    assert parse_message(done, 100) == (Done(200, 32, "gone"), len(done))
    assert str(Done(200, 32, "gone")) == "no such object: gone"
    reference = ber.sequence(ber.integer(2), ber.sequence(ber.text("ldap://other/"), tag=0x73))
    assert parse_message(reference, 100) == (Other(2), len(reference))
    for size in range(len(entry)):
        assert parse_message(entry[:size], 100) is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        bytes.fromhex("3080020101"),
        bytes.fromhex("308500000000050201016500"),
        bytes.fromhex("30050201016100"),
        bytes.fromhex("300602010165017f"),
        bytes.fromhex("3003020200"),
        bytes.fromhex("30 81 ff"),
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_message(data, 100)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("(cn=Babs Jensen)", "a3110402636e040b42616273204a656e73656e"),
        ("cn=x", "a3070402636e040178"),
        ("(cn=*)", "8702636e"),
        ("(cn=a*b*c)", "a40f0402636e300980016181016282 0163"),
        ("(cn=*b)", "a4090402636e3003820162"),
        ("(cn=a**)", "a4090402636e3003800161"),
        ("(cn=\\2a\\28\\00)", "a3090402636e04032a2800"),
        ("(!(a=b))", "a208a306040161040162"),
        ("(& (a=b) (c=d) )", "a010a306040161040162a306040163040164"),
        ("(|)", "a100"),
        ("(a>=1)", "a506040161040131"),
        ("(a<=1)", "a606040161040131"),
        ("(a~=1)", "a806040161040131"),
        ("(a;lang-de=x)", "a30e0409613b6c616e672d6465040178"),
        ("(2.5.4.3=x)", "a30c0407322e352e342e33040178"),
        ("(cn:caseExactMatch:=F)", "a917810e6361736545786163744d617463688202636e830146"),
        ("(o:dn:=A)", "a90982016f8301418401ff"),
        ("(:dn:2.4.6:=D)", "a90d8105322e342e368301448401ff"),
    ],
)
def test_filters(text: str, encoded: str) -> None:
    """Examples of RFC 4515 §4 and others, in the encoding of RFC 4511 §4.5.1.7."""
    assert ldap_filter.encode(text).hex() == encoded.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    ["", "()", "(cn)", "(cn=x", "(cn=x))", "cn=x)", "(&(a=b)", "(!)", "(a=\\)", "(a=\\zz)", "(a=\\2)", "(a>=*)", "(=x)",
     "(:=x)", "(" * 60 + "a=b" + ")" * 60, "(!" * 60 + "(a=b)" + ")" * 60, "(a=\0)", "(a=b)(c=d)"],
)  # fmt: skip
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(ValueError):
        ldap_filter.encode(text)


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("plain", "plain"),
        ('James "Jim" Smith, III', 'James \\"Jim\\" Smith\\, III'),
        ("Before\rAfter", "Before\\0dAfter"),
        ("#x", "\\#x"),
        ("x#", "x#"),
        (" x ", "\\ x\\ "),
        ("a+b=c;d<e>f\\g", "a\\+b\\=c\\;d\\<e\\>f\\\\g"),
        ("\0", "\\00"),
    ],
)
def test_names(value: str, quoted: str) -> None:
    """RFC 4514 §2.4, §4."""
    assert names.quoted(value) == quoted


def test_urls() -> None:
    """RFC 4516 §2, §4."""
    url = names.parse_search_url("ldap://ldap1.example.net/c=GB?objectClass,cn?ONE?(o=a%3fb)")
    assert url == names.SearchUrl("c=GB", ("objectClass", "cn"), Scope.ONE, "(o=a?b)")
    assert names.parse_search_url("ldap:///o=University%20of%20Michigan,c=US") == names.SearchUrl(
        "o=University of Michigan,c=US", (), Scope.BASE, "(objectClass=*)"
    )
    for text in ("http://x/", "ldap:x", "ldap:///a?b?all", "ldap:///a?b?sub?(a=b)?!critical", "ldap:///a?b?c?d?e?f"):
        with pytest.raises(ValueError):
            names.parse_search_url(text)
