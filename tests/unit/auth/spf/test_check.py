"""check_host() beyond the suites of others (RFC 7208 §4): limits, identities, what the verdict tells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ekiden.auth.spf.check import check_host, mail_from_identity
from ekiden.auth.spf.lookups import SpfLimits
from ekiden.auth.verdict import Result
from ekiden.dns.resolver import Answer
from support.spf_zone import SpfZone, check


def zone_of(record: str, **names: list[Any]) -> SpfZone:
    return SpfZone(
        {"a.test": [{"TXT": record}], **{name.replace("_", "."): records for name, records in names.items()}}
    )


def result(zone: SpfZone, *, host: str = "192.0.2.1", sender: str = "x@a.test", helo: str = "h.test") -> str:
    return check(zone, host, sender, helo).result.value


def test_the_verdict_tells_which_term_of_whose_record_decided() -> None:
    zone = zone_of(
        "v=spf1 a:h.test include:b.test -all",
        h_test=[{"A": "192.0.2.9"}],
        b_test=[{"TXT": "v=spf1 redirect=c.test"}],
        c_test=[{"TXT": "v=spf1 ip4:192.0.2.0/28 ~all"}],
    )
    verdict = check(zone, "192.0.2.1", "x@A.test", "h.test")
    assert verdict.result is Result.PASS
    assert (verdict.domain, verdict.sender, verdict.identity) == ("a.test", "x@a.test", "mailfrom")
    assert (verdict.mechanism, verdict.via) == ("ip4:192.0.2.0/28", "c.test")
    assert verdict.record == "v=spf1 a:h.test include:b.test -all"
    assert (verdict.lookups, verdict.void_lookups) == (3, 0)
    assert verdict.reason == (
        "the record of c.test has the term ip4:192.0.2.0/28, which matches 192.0.2.1; the record of a.test includes it"
    )
    verdict = check(zone, "192.0.2.77", "x@a.test", "h.test")
    assert (verdict.result, verdict.mechanism, verdict.via) == (Result.FAIL, "-all", "")
    assert verdict.reason == "the record of a.test ends in -all, and no term before that names 192.0.2.77"


def test_an_include_that_excludes_is_the_term_that_decided() -> None:
    zone = zone_of("v=spf1 -include:b.test +all", b_test=[{"TXT": "v=spf1 ip4:192.0.2.0/28"}])
    verdict = check(zone, "192.0.2.1", "x@a.test", "h.test")
    assert (verdict.result, verdict.mechanism, verdict.via) == (Result.FAIL, "-include:b.test", "")


def test_a_record_that_says_nothing_is_neutral() -> None:
    verdict = check(zone_of("v=spf1 ip4:192.0.2.9"), "192.0.2.1", "x@a.test", "h.test")
    assert (verdict.result, verdict.mechanism) == (Result.NEUTRAL, "")
    assert verdict.reason == "no term of the record of a.test says anything of 192.0.2.1"


def test_the_null_sender_is_postmaster_of_the_helo_name() -> None:
    assert mail_from_identity("", "a.test") == ("a.test", "postmaster@a.test")
    assert mail_from_identity("x@y@a.test", "h.test") == ("a.test", "x@y@a.test")
    assert mail_from_identity("postmaster", "h.test") == ("", "postmaster")
    zone = zone_of(
        "v=spf1 exists:%{l}.%{s}.b.test -all", **{"postmaster_postmaster@a_test_b_test": [{"A": "127.0.0.1"}]}
    )
    assert result(zone, sender="", helo="a.test") == "pass"
    assert result(zone, sender="@a.test") == "pass"  # RFC 7208 §4.3
    assert result(zone, sender="x@a.test", helo="a.test") == "fail"


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("postmaster", "there is no domain to ask about"),
        ("x@localhost", "localhost is not the name of a domain on the Internet: it has one label"),
        ("x@[192.0.2.1]", "[192.0.2.1] is not a domain name"),
        ("x@a..test", "a..test is not a domain name"),
        (f"x@{'a' * 64}.test", f"{'a' * 64}.test is not a domain name"),
        ("x@" + "a." * 200 + "test", "a." * 100 + "... is not a domain name"),
        ("x@\u200b.test", "?.test is not a domain name"),
        ("x@b.test", "there is no domain b.test"),
        ("x@h.test", "h.test has no SPF record"),
    ],
)
def test_what_has_no_record_is_none(sender: str, reason: str) -> None:
    verdict = check(zone_of("v=spf1 -all", h_test=[{"TXT": "v=spf10 -all"}]), "192.0.2.1", sender, "h.test")
    assert (verdict.result, verdict.reason) == (Result.NONE, reason)


def test_a_client_without_an_address_is_none() -> None:
    for address in ("unknown", "", "/run/socket"):
        assert check(zone_of("v=spf1 -all"), address, "x@a.test", "h.test").result is Result.NONE


def test_addresses_of_both_families() -> None:
    zone = zone_of("v=spf1 ip4:192.0.2.0/28 ip6:2001:db8::/33 a:h.test/24//48 -all", h_test=[{"AAAA": "fd00::1"}])
    for host in ("192.0.2.1", "::ffff:192.0.2.1", "2001:DB8::1", "fd00::2", "fd00::2%eth0"):
        assert result(zone, host=host) == "pass", host
    for host in ("192.0.2.16", "2001:db8:8000::1", "fd00:1::", "10.0.0.1"):
        assert result(zone, host=host) == "fail", host


def test_internationalised_names_are_asked_for_in_a_labels() -> None:
    """RFC 7208 §4.3, RFC 8616 §4."""
    zone = SpfZone(
        {
            "xn--bcher-kva.test": [{"TXT": "v=spf1 exists:%{o}.o.test exists:%{l}.l.test -all"}],
            "xn--bcher-kva.test.o.test": [],
            "j\u00fcrgen.l.test": [{"A": "127.0.0.1"}],
            "x.l.test": [{"A": "127.0.0.1"}],
        }
    )
    verdict = check(zone, "192.0.2.1", "x@B\u00dcCHER.test", "h.test")
    assert (verdict.result, verdict.domain, verdict.sender) == (
        Result.PASS,
        "xn--bcher-kva.test",
        "x@xn--bcher-kva.test",
    )
    # A term with a local part beyond ASCII does not match.
    assert result(zone, sender="j\u00fcrgen@b\u00fccher.test") == "fail"
    assert not [name for name, _ in zone.asked if not name.isascii()]


def test_trouble_is_temperror_wherever_it_comes() -> None:
    trouble: dict[str, list[Any]] = {"t_test": ["TIMEOUT"], "m_test": [{"MX": [1, "t.test"]}]}
    for term in (
        "a:t.test",
        "mx:t.test",
        "mx:m.test",
        "exists:t.test",
        "include:t.test",
        "redirect=t.test",
        "-a:t.test",
    ):
        verdict = check(
            zone_of(f"v=spf1 {term} -all", **trouble) if "=" not in term else zone_of(f"v=spf1 {term}", **trouble),
            "192.0.2.1",
            "x@a.test",
            "h.test",
        )
        assert verdict.result is Result.TEMPERROR, term
        assert "t.test" in verdict.reason
    assert result(zone_of("v=spf1 -all", **trouble), sender="x@t.test") == "temperror"


def test_addresses_of_the_other_family_are_no_answer_where_this_one_is_in_trouble() -> None:
    """Else a name server that fails for A would make a "fail" of what it cannot tell."""
    half: list[Any] = [{"AAAA": "2001:db8::1"}, "TIMEOUT"]
    zone = zone_of("v=spf1 a:h.test -all", h_test=half)
    assert result(zone) == "temperror"
    assert result(zone, host="2001:db8::1") == "pass"
    assert result(zone, host="2001:db8::2") == "fail"
    assert result(zone_of("v=spf1 exists:h.test -all", h_test=half), host="2001:db8::1") == "temperror"


def test_ten_terms_may_ask() -> None:
    """RFC 7208 §4.6.4."""
    host = [{"A": "192.0.2.9"}]
    verdict = check(
        zone_of("v=spf1" + " a:h.test" * 10 + " ip4:192.0.2.1", h_test=host), "192.0.2.1", "x@a.test", "h.test"
    )
    assert (verdict.result, verdict.lookups) == (Result.PASS, 10)
    verdict = check(zone_of("v=spf1" + " a:h.test" * 10 + " a:i.test", h_test=host), "192.0.2.1", "x@a.test", "h.test")
    assert (verdict.result, verdict.lookups) == (Result.PERMERROR, 10)
    assert verdict.reason == "more than 10 terms ask DNS (RFC 7208 section 4.6.4): a:i.test is one too many"


def test_two_terms_may_come_to_nothing() -> None:
    verdict = check(zone_of("v=spf1 a:1.b.test a:2.b.test ?all"), "192.0.2.1", "x@a.test", "h.test")
    assert (verdict.result, verdict.void_lookups) == (Result.NEUTRAL, 2)
    verdict = check(zone_of("v=spf1 a:1.b.test a:2.b.test mx:c.b.test ?all"), "192.0.2.1", "x@a.test", "h.test")
    assert (verdict.result, verdict.void_lookups) == (Result.PERMERROR, 2)
    assert "c.b.test" in verdict.reason
    # Terms count, not questions: one whose hosts all have no address of this kind is one.
    hosts: dict[str, list[Any]] = {f"h{number}_test": [{"AAAA": "2001:db8::1"}] for number in range(4)}
    many: list[Any] = [{"MX": [number, f"h{number}.test"]} for number in range(4)]
    assert result(zone_of("v=spf1 mx:m.test ?all", m_test=many, **hosts)) == "neutral"


def test_more_than_ten_mx_records_are_an_error_and_the_eleventh_name_of_the_client_is_not_looked_at() -> None:
    hosts = {f"h{number}_test": [{"A": "192.0.2.1"}] for number in range(11)}
    for count, expected in ((10, "pass"), (11, "permerror")):
        exchanges = [{"MX": [1, f"h{number}.test"]} for number in range(count)]
        assert result(zone_of("v=spf1 mx:m.test -all", m_test=exchanges, **hosts)) == expected
    for count, expected in ((10, "pass"), (11, "fail")):
        names = {"1_2_0_192_in-addr_arpa": [{"PTR": f"h{number}.test"} for number in reversed(range(count))]}
        zone = zone_of("v=spf1 ptr:h0.test -all", **hosts, **names)
        assert result(zone) == expected
        # Only names that matter are asked for.
        assert [name for name, kind in zone.asked if kind == "A"] == ["h0.test"] * (count == 10)


def test_loops_end() -> None:
    for record in ("v=spf1 include:a.test", "v=spf1 redirect=a.test", "v=spf1 ?include:a.test ?include:a.test"):
        zone = zone_of(record)
        assert result(zone) == "permerror"
        assert len(zone.asked) <= 11


def test_the_time_of_a_check_is_limited() -> None:
    class Silent(SpfZone):
        async def txt(self, name: str) -> Answer[bytes]:
            if name.startswith("slow"):
                await asyncio.Event().wait()
            return await super().txt(name)

    zone = Silent({"a.test": [{"TXT": "v=spf1 include:slow.test"}], "b.test": [{"TXT": "v=spf1 -all exp=slow.test"}]})
    limits = SpfLimits(time_s=0.01, explanation_time_s=0.01)
    verdict = check(zone, "192.0.2.1", "x@a.test", "h.test", limits)
    assert (verdict.result, verdict.reason) == (Result.TEMPERROR, "it took longer than 0.01 seconds")
    verdict = check(zone, "192.0.2.1", "x@b.test", "h.test", limits)
    assert (verdict.result, verdict.explanation) == (Result.FAIL, "")


def test_the_helo_identity() -> None:
    async def run() -> None:
        verdict = await check_host(
            zone_of("v=spf1 a -all", a_test=[{"TXT": "v=spf1 a -all"}, {"A": "192.0.2.1"}]),
            client_address="192.0.2.1",
            domain="A.test.",
            sender="postmaster@A.test.",
            helo="A.test.",
            identity="helo",
            now=0.0,
        )
        assert (verdict.result, verdict.identity, verdict.domain) == (Result.PASS, "helo", "a.test")
        assert verdict.sender == "postmaster@a.test"

    asyncio.run(run())


def explanation(text: Any, record: str = "v=spf1 -all exp=e.test", sender: str = "x@a.test") -> str:
    verdict = check(
        zone_of(record, e_test=text if isinstance(text, list) else [{"TXT": text}]), "192.0.2.1", sender, "h.test"
    )
    assert verdict.result is Result.FAIL
    return verdict.explanation


def test_explanations() -> None:
    assert explanation("%{i} may not send as %{d} (%{t}, %{r})%_%%") == (
        "192.0.2.1 may not send as a.test (1000000000, receiver.test) %"
    )
    assert explanation("http://a.test/?s=%{S}", sender="a b&c@a.test") == "http://a.test/?s=a%20b%26c%40a.test"
    assert len(explanation("long " * 500)) == 400
    assert len(explanation("%{s}" * 500)) == 400


def test_explanations_that_do_not_count() -> None:
    """RFC 7208 §6.2: as if there were no exp=; what could break a reply least of all."""
    assert explanation("%{x}") == explanation("100%") == ""
    assert explanation("caf\u00e9") == explanation("a\r\n250 OK") == explanation("a\tb") == ""
    assert explanation("%{l}", sender="\u00fc@a.test") == explanation("%{l}", sender="a\nb@a.test") == ""
    assert explanation("x" * 5000) == ""
    assert explanation([{"TXT": "a"}, {"TXT": "b"}]) == explanation([]) == explanation(["TIMEOUT"]) == ""


def test_the_explanation_is_that_of_the_domain_and_not_of_an_include() -> None:
    names: dict[str, list[Any]] = {
        "b_test": [{"TXT": "v=spf1 -all exp=e.test"}],
        "c_test": [{"TXT": "v=spf1 exp=e.test ip4:192.0.2.1"}],
        "e_test": [{"TXT": "%{d}"}],
    }
    for record, expected in (
        ("v=spf1 include:b.test -all", ""),
        ("v=spf1 -include:c.test", ""),
        ("v=spf1 include:b.test -all exp=e.test", "a.test"),
        ("v=spf1 exp=e.test redirect=b.test", "b.test"),  # RFC 7208 §6.2
    ):
        verdict = check(zone_of(record, **names), "192.0.2.1", "x@a.test", "h.test")
        assert (verdict.result, verdict.explanation) == (Result.FAIL, expected), record


def test_names_of_the_explanation_count_for_no_limit() -> None:
    record = "v=spf1 a:1.b.test a:2.b.test -all exp=%{p}.e.test"
    zone = zone_of(record, unknown_e_test=[{"TXT": "no"}])
    verdict = check(zone, "192.0.2.1", "x@a.test", "h.test")
    assert (verdict.result, verdict.explanation) == (Result.FAIL, "no")


def test_reasons_show_what_strangers_wrote_in_printable_characters() -> None:
    verdict = check(zone_of("v=spf1 a:x\r\nSubject:x"), "192.0.2.1", "x@a.test", "h.test")
    assert verdict.result is Result.PERMERROR
    assert verdict.reason.isprintable()
