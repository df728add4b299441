"""What Authentication-Results says of each verdict; nothing that a sender wrote gets out of its place (RFC 8601)."""

from __future__ import annotations

import re

import authres
import pytest
from authres import dkim_b, dmarc
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ekiden.auth.results import write
from ekiden.auth.results.read import MethodResult, parse
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.verdict import (
    ArcVerdict,
    DkimVerdict,
    DmarcPolicy,
    DmarcVerdict,
    IprevVerdict,
    Result,
    SpfVerdict,
    Verdicts,
)

EVERYTHING = Verdicts(
    spf=SpfVerdict(Result.PASS, "mailfrom", "example.net"),
    spf_helo=SpfVerdict(Result.NONE, "helo", "mail.example.net", reason="no record"),
    dkim=(
        DkimVerdict(*(Result.PASS, "example.net", "s1", "@news.example.net", "rsa-sha256", "Zk9/+yIA"), key_bits=2048),
        DkimVerdict(Result.FAIL, "other.test", "s2", reason="the body was changed", testing=True, body_length=10),
    ),
    arc=ArcVerdict(Result.PASS, 2, ("a.test", "b.test"), 1),
    dmarc=DmarcVerdict(
        Result.PASS, "example.net", "example.net", policy=DmarcPolicy.REJECT, published=DmarcPolicy.REJECT
    ),
    iprev=IprevVerdict(Result.PASS, "mail.example.net", "2001:db8::1"),
)


def test_all_methods_and_their_folding() -> None:
    text = results_text(EVERYTHING, client_address="2001:db8::1", login="user@example.net", login_mechanism="PLAIN")
    assert authentication_results("mx.example.com", text).decode() == (
        "Authentication-Results: mx.example.com;\r\n"
        "\tauth=pass (plain) smtp.auth=user@example.net;\r\n"
        '\tiprev=pass (mail.example.net) policy.iprev="2001:db8::1";\r\n'
        "\tspf=none smtp.helo=mail.example.net;\r\n"
        "\tspf=pass smtp.mailfrom=example.net;\r\n"
        "\tdkim=pass (2048-bit key) header.d=example.net header.s=s1\r\n"
        '\theader.i=@news.example.net header.a=rsa-sha256 header.b="Zk9/+yIA";\r\n'
        '\tdkim=fail (testing, l=10) reason="the body was changed"\r\n'
        "\theader.d=other.test header.s=s2;\r\n"
        "\tdmarc=pass (p=reject) header.from=example.net policy.dmarc=reject;\r\n"
        "\tarc=pass (i=2, sealed by a.test b.test) header.oldest-pass=1\r\n"
        '\tsmtp.remote-ip="2001:db8::1"\r\n'
    )


def refolded(name: str, authserv_id: str, results: str) -> str:
    """RFC 5322 §2.1.1, word by word: a result begins a line, and no line is longer than 78 unless by one word."""
    words = re.findall(r'(?:"[^"\\]*(?:\\.[^"\\]*)*"|\([^()]*\)|[^ ])+', f"{authserv_id}; {results}")
    field, column, before = name, len(name), ""
    for word in words:
        begins = before.endswith(";") and word != "none"
        if begins or column + 1 + len(word) > 78:
            field, column = f"{field}\r\n\t{word}", 8 + len(word)
        else:
            field, column = f"{field} {word}", column + 1 + len(word)
        before = word
    return field + "\r\n"


atoms = st.integers(1, 90).map("x".__mul__)
plain_results = st.builds(
    "dkim=pass{}{}{}".format,
    st.sampled_from(["", " (2048-bit key)", f" (i=9, sealed by{' a.test' * 20})"]),
    st.lists(st.builds(" header.d={}".format, atoms), max_size=5).map("".join),
    st.sampled_from(["", ' header.b="Zk9/+yIA"', ' header.b="Zk9="', ' header.b=""']),
)


@given(atoms, st.lists(plain_results, max_size=4).map("; ".join))
@example("x" * 60, "none")
@example("x" * 48, "none")
def test_results_are_folded_between_words_only(authserv_id: str, results: str) -> None:
    # What is quoted may hold what ends words and results.
    quoted = 'spf=fail reason="it; is \\" (no" smtp.helo=a'
    for text in (results or "none", quoted if results in ("", "none") else f"{quoted}; {results}"):
        field = authentication_results(authserv_id, text).decode()
        assert field == refolded("Authentication-Results:", authserv_id, text)


def test_a_signer_is_remembered_whatever_the_bodies_of_its_messages_are() -> None:
    dkim = EVERYTHING.dkim[0]
    before = write._dkim_signer.cache_info().misses
    for octets in range(5):
        results_text(Verdicts(dkim=(replace(dkim, domain="remembered.test", reason=f"{octets} octets are signed"),)))
    assert write._dkim_signer.cache_info().misses == before + 1


def test_a_result_that_is_remembered_is_that_of_its_verdict_alone() -> None:
    spf, dkim = SpfVerdict(Result.FAIL, "mailfrom", "a.test", reason="why"), EVERYTHING.dkim[0]
    arc, dmarc, iprev = ArcVerdict(Result.NONE), EVERYTHING.dmarc, EVERYTHING.iprev
    assert dmarc is not None
    assert iprev is not None
    others = [
        *(Verdicts(spf=replace(spf, **change)) for change in ({}, {"domain": "b.test"}, {"reason": "b"})),
        *(Verdicts(spf=replace(spf, **change)) for change in ({"identity": "helo"}, {"result": Result.SOFTFAIL})),
        *(Verdicts(dkim=(replace(dkim, **change),)) for change in ({}, {"domain": "b.test"}, {"selector": "b"})),
        *(Verdicts(dkim=(replace(dkim, **change),)) for change in ({"identity": "b@b.test"}, {"algorithm": "b"})),
        *(Verdicts(dkim=(replace(dkim, **change),)) for change in ({"key_bits": 1}, {"testing": True})),
        *(Verdicts(dkim=(replace(dkim, **change),)) for change in ({"signature": "b"}, {"body_length": 0})),
        *(Verdicts(dkim=(replace(dkim, result=Result.FAIL, reason=why),)) for why in ("one", "another")),
        *(
            Verdicts(dmarc=replace(dmarc, **change))
            for change in ({}, {"from_domain": "b.test"}, {"policy_domain": ""})
        ),
        *(Verdicts(dmarc=replace(dmarc, policy=policy)) for policy in (DmarcPolicy.NONE, DmarcPolicy.QUARANTINE)),
        *(Verdicts(dmarc=replace(dmarc, published=policy)) for policy in (DmarcPolicy.NONE, DmarcPolicy.QUARANTINE)),
        *(Verdicts(dmarc=replace(dmarc, result=Result.FAIL, reason=why)) for why in ("one", "another")),
        *(Verdicts(iprev=replace(iprev, **change)) for change in ({}, {"name": "b.test"}, {"address": "192.0.2.2"})),
        Verdicts(iprev=replace(iprev, result=Result.FAIL)),
        *(Verdicts(arc=replace(arc, **change)) for change in ({}, {"result": Result.FAIL}, {"instances": 1})),
    ]
    for _ in range(2):
        assert len({results_text(verdicts, client_address="192.0.2.1") for verdicts in others}) == len(others)
    login = "m\u00fcller@example.net"
    signed = Verdicts(dkim=(replace(dkim, identity=login),), arc=arc)
    assert login not in results_text(signed)
    assert login in results_text(signed, utf8=True)
    assert results_text(signed, client_address="192.0.2.1") != results_text(signed, client_address="192.0.2.2")


def test_no_results() -> None:
    field = authentication_results("mx.example.com", results_text(Verdicts()))
    assert field == b"Authentication-Results: mx.example.com; none\r\n"
    assert parse(field.partition(b":")[2]).results == ()


ATTACKS = [
    'x.test; dmarc=pass header.from="bank.test"',
    "x.test\r\nAuthentication-Results: mx.example.com; dmarc=pass",
    'x"; dkim=pass header.d=bank.test; y="',
    "x\\",
    '\\"; spf=pass',
    "x) dkim=pass (",
    "x\u2028Bcc: y",
    "x\x85Bcc: y",
    "x\x00y",
    "\udc80",
]


@pytest.mark.parametrize("hostile", ATTACKS)
@pytest.mark.parametrize("utf8", [False, True])
def test_no_sender_writes_a_result(hostile: str, utf8: bool) -> None:
    verdicts = Verdicts(
        spf=SpfVerdict(Result.FAIL, "mailfrom", hostile, reason=hostile),
        dkim=(DkimVerdict(Result.FAIL, hostile, hostile, hostile, hostile, hostile, reason=hostile),),
        arc=ArcVerdict(Result.FAIL, 1, (hostile,), reason=hostile),
        dmarc=DmarcVerdict(Result.FAIL, hostile, hostile, reason=hostile),
        iprev=IprevVerdict(Result.FAIL, hostile, hostile),
    )
    text = results_text(verdicts, client_address=hostile, login=hostile, login_mechanism=hostile, utf8=utf8)
    field = authentication_results("mx.example.com", text).decode()
    assert text.isprintable()
    assert all(line.startswith("\t") for line in field.removesuffix("\r\n").split("\r\n")[1:])
    assert [(one.method, one.result) for one in parse(field.encode().partition(b":")[2]).results] == [
        *(("auth", "pass"), ("iprev", "fail"), ("spf", "fail"), ("dkim", "fail"), ("dmarc", "fail"), ("arc", "fail")),
    ]


def test_a_value_that_cannot_be_written_is_left_out_not_changed() -> None:
    login = "m\u00fcller@example.net"
    assert results_text(Verdicts(), login=login) == "auth=pass"
    assert results_text(Verdicts(), login=login, utf8=True) == f'auth=pass smtp.auth="{login}"'
    assert results_text(Verdicts(), login="x" * 401) == "auth=pass"
    assert results_text(Verdicts(), login="x" * 400) == "auth=pass smtp.auth=" + "x" * 400


def test_the_field_is_bounded_and_so_are_its_lines() -> None:
    long = DkimVerdict(Result.FAIL, '"' * 400, "\\" * 400, '"' * 400, '"' * 400, '"' * 400, reason='"' * 5000)
    field = authentication_results("mx.example.com", results_text(Verdicts(dkim=(long,) * 1000)))
    assert len(field) < 150_000
    assert max(map(len, field.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
    assert len(parse(field.partition(b":")[2]).results) == 30


def test_an_authserv_id_is_checked() -> None:
    with pytest.raises(ValueError, match="authserv-id"):
        authentication_results("mx\r\nBcc: y", "none")
    assert authentication_results("mx/1", "none") == b'Authentication-Results: "mx/1"; none\r\n'


domains = st.from_regex(r"[a-z0-9]{1,10}(\.[a-z0-9-]{0,10}[a-z0-9]){1,3}", fullmatch=True)
# authres ends a result behind a quoted string, so such values are in the last property only; what is not ASCII or
# printable it cannot read at all.
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)
reasons = st.text(max_size=250)
spf_results = st.sampled_from([Result.PASS, Result.FAIL, Result.SOFTFAIL, Result.NEUTRAL, Result.TEMPERROR])
dkim_results = st.sampled_from([Result.PASS, Result.FAIL, Result.POLICY, Result.NEUTRAL, Result.TEMPERROR])
verdict_values = st.builds(
    Verdicts,
    spf=st.builds(SpfVerdict, spf_results, st.sampled_from(["mailfrom", "helo"]), domains, reason=reasons),
    dkim=st.lists(
        st.builds(
            DkimVerdict,
            *(dkim_results, domains, domains, st.builds("{}@{}".format, st.sampled_from(["", "a+b"]), domains)),
            *(st.sampled_from(["rsa-sha256", "ed25519-sha256"]), printable),
            reason=reasons,
            key_bits=st.integers(0, 4096),
        ),
        max_size=3,
    ).map(tuple),
    dmarc=st.builds(DmarcVerdict, dkim_results, domains, domains, domains, st.sampled_from(DmarcPolicy)),
    iprev=st.builds(IprevVerdict, st.sampled_from([Result.PASS, Result.FAIL]), domains, st.ip_addresses().map(str)),
)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(verdict_values, printable)
@example(EVERYTHING, "user")
def test_authres_reads_what_we_write(verdicts: Verdicts, login: str) -> None:
    text = results_text(verdicts, client_address="192.0.2.1", login=login)
    field = authentication_results("mx.example.com", text).decode()
    context = authres.FeatureContext(dkim_b, dmarc)
    other = context.parse(field.replace("\r\n", ""))
    ours = parse(field.encode().partition(b":")[2])
    assert other.authserv_id == ours.authserv_id
    assert [as_values(one) for one in other.results] == [
        (
            *(one.method, one.result, one.reason),
            {(p.ptype, p.name): p.value for p in one.properties},
        )
        for one in ours.results
    ]
    for verdict, read in zip(verdicts.dkim, (one for one in ours.results if one.method == "dkim"), strict=True):
        assert_same(verdict, read)


def as_values(result: authres.AuthenticationResult) -> tuple[str, str, str, dict[tuple[str, str], str]]:
    # RFC 5322 §3.2.1: the "\\" of a quoted-pair is semantically invisible; authres shows it.
    properties = {(str(one.type), str(one.name)): unescaped(str(one.value or "")) for one in result.properties}
    return result.method, result.result, unescaped(str(result.reason or "")), properties


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def assert_same(verdict: DkimVerdict, read: MethodResult) -> None:
    assert read.result == verdict.result.value
    for name, value in (
        ("d", verdict.domain),
        ("s", verdict.selector),
        ("i", verdict.identity),
        ("a", verdict.algorithm),
        ("b", verdict.signature),
    ):
        assert read.value("header", name) == (value or None)
