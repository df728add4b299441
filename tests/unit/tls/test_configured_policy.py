"""What the configuration says of TLS with a server: levels, attributes, the keys that tables are asked for."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.host import Host
from ekiden.tls.configured_policy import ConfiguredPolicies, PolicySyntax, keys_of
from ekiden.tls.peer_check import name_fits
from ekiden.tls.policy import Level, TlsPolicy

HOST = Host("mx.example", "192.0.2.1", 25)


def policies(**settings: str) -> ConfiguredPolicies:
    return ConfiguredPolicies(Parameters({"myhostname": "me.example", **settings}), "smtp")


def policy(source: ConfiguredPolicies, next_hop: str = "a.example", *, require_tls: bool = False) -> TlsPolicy:
    found = asyncio.run(source.policy_for(next_hop, HOST, require_tls=require_tls))
    assert isinstance(found, TlsPolicy)
    return found


@pytest.mark.parametrize(
    ("next_hop", "keys"),
    [
        ("mail.a.example", ["mail.a.example", ".a.example", ".example"]),
        ("example", ["example"]),
        ("a.example:587", ["a.example:587"]),
        ("[a.example]", ["[a.example]"]),
        ("[192.0.2.1]:25", ["[192.0.2.1]:25"]),
        ("unix:/run/lmtp", ["unix:/run/lmtp"]),
    ],
)
def test_parents_are_asked_for_domains_only(next_hop: str, keys: list[str]) -> None:
    """A next hop with brackets or a port is no part of an address: it means itself."""
    assert list(keys_of(next_hop)) == keys


def test_the_nearest_line_holds() -> None:
    table = "inline:{ { .example = encrypt } { .a.example = none } { b.a.example = secure } }"
    source = policies(smtp_tls_policy_maps=table)
    levels = [policy(source, name).level for name in ("b.a.example", "c.a.example", "c.example", "a.test")]
    assert levels == [Level.SECURE, Level.NONE, Level.ENCRYPT, Level.MAY]


def test_a_line_that_says_what_holds_anyway_is_a_line_all_the_same() -> None:
    """Who stands in front of the configuration (MTA-STS) must tell it from the default."""
    source = policies(smtp_tls_policy_maps="inline:{ { a.example = may } }")
    assert policy(source) == source.default
    assert policy(source) is not source.default
    assert policy(source, "b.example") is source.default
    source = policies(smtp_tls_per_site="inline:{ { a.example = MAY } }")
    assert policy(source) is not source.default


def test_attributes() -> None:
    line = (
        "secure match=nexthop:.a.example ciphers=high protocols=!TLSv1.2;TLSv1.3 exclude=AES128:MD5 "
        "servername=hostname tafile=/x tafile=/y connection_reuse=no enable_rpk=yes"
    )
    source = policies(
        smtp_tls_mandatory_exclude_ciphers="RC4", smtp_tls_policy_maps=f"inline:{{ {{ a.example = {line} }} }}"
    )
    assert policy(source) == TlsPolicy(
        Level.SECURE,
        match=("nexthop", ".a.example"),
        protocols="!TLSv1.2 TLSv1.3",
        ciphers="high",
        exclude=("RC4", "AES128", "MD5"),
        server_name="hostname",
        trust_anchors=("/x", "/y"),
        reuse=False,
    )


@pytest.mark.parametrize("line", ["may match=a", "encrypt tafile=/x", "verify enable_rpk=perhaps", "verify =x", "x=y"])
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(PolicySyntax):
        policies().parse(line)


def test_a_message_that_must_be_encrypted_is_so_whatever_the_level() -> None:
    """RFC 8689 §4.2.1."""
    for level in ("none", "may", "encrypt"):
        found = policy(policies(smtp_tls_security_level=level), require_tls=True)
        assert (found.level, found.public_authorities) == (Level.VERIFY, True)
    assert policy(policies(smtp_tls_security_level="secure"), require_tls=True).level is Level.SECURE


@pytest.mark.parametrize(
    ("presented", "wanted", "any_label", "fits"),
    [
        ("a.example", "a.example", False, True),
        ("A.Example.", "a.example", False, True),
        ("b.example", "a.example", True, False),
        ("*.example.com", "a.example.com", False, True),
        ("*.example.com", "a.b.example.com", True, True),
        ("*.example.com", "a.b.example.com", False, False),
        ("*.example.com", "example.com", True, False),
        ("*.com", "example.com", True, False),
        ("*", "com", True, False),
        ("a*.example.com", "ab.example.com", True, False),
        ("a.example.com", ".example.com", False, True),
        ("a.b.example.com", ".example.com", False, True),
        ("example.com", ".example.com", False, False),
        ("badexample.com", ".example.com", False, False),
        ("a.example\0.evil.test", "a.example", True, False),
        ("", "a.example", True, False),
        ("a.example", "", True, False),
    ],
)
def test_names(presented: str, wanted: str, any_label: bool, fits: bool) -> None:
    assert name_fits(presented, wanted, any_label=any_label) is fits
