"""A line of a policy table is a policy or one PolicySyntax, never weaker than its level, and names fit as they should.

What is read back holds the level's word; a certificate's name fits a wanted one only if both end in the same label.
"""

from __future__ import annotations

from ekiden.config.snapshot import Parameters
from ekiden.tls.configured_policy import ConfiguredPolicies, PolicySyntax, keys_of
from ekiden.tls.peer_check import name_fits
from ekiden.tls.policy import LEVELS, Level

POLICIES = ConfiguredPolicies(Parameters({"myhostname": "me.example"}), "smtp")

SEEDS = [
    b"secure match=nexthop:.example.com ciphers=high protocols=>=TLSv1.3",
    b"fingerprint match=" + b"AB:" * 31 + b"AB|" + b"00" * 32,
    b"may exclude=AES128:MD5 connection_reuse=no servername=hostname",
    b"verify match=*.example.com tafile=/etc/x.pem enable_rpk=yes",
    b"encrypt protocols=!TLSv1.2;TLSv1.3",
    b"dane-only",
    b"none match=x",
    b"a.b.example.com *.example.com",
    b"*.com example.com",
]


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    problem = ""
    try:
        policy = POLICIES.parse(text)
    except PolicySyntax as error:
        problem = str(error)
        policy = None
    assert bool(problem) is (policy is None)
    if policy is not None:
        word = text.replace(",", " ").split()[0]
        assert policy.level is LEVELS[word.lower()]
        assert policy.level is not Level.FINGERPRINT or policy.fingerprints
        assert policy.level not in (Level.VERIFY, Level.SECURE) or policy.match
        assert policy.source == "config"
        assert not policy.public_authorities
    keys = list(keys_of(text))
    assert keys[0] == text
    assert all(text.endswith(key) for key in keys)
    presented, _, wanted = text.partition(" ")
    for any_label in (True, False):
        if name_fits(presented, wanted, any_label=any_label):
            ends = [name.lower().removesuffix(".").rpartition(".")[2] for name in (presented, wanted)]
            assert ends[0] == ends[1]
            assert presented.count("*") <= 1 or presented.lower() == wanted.lower() or wanted.startswith(".")
