"""The public suffix list: our data is the published one, and says the same as another library."""

from __future__ import annotations

import random

import publicsuffixlist

from ekiden.auth.dmarc.public_suffix import DATA, registrable_domain
from ekiden.auth.dmarc.public_suffix_build import compact
from support.requirements import require_conformance


def _published() -> str:
    return require_conformance("dmarc", "psl", "public_suffix_list.dat").read_text("utf-8")


def test_the_data_file_is_what_the_build_step_makes_and_keeps_its_licence() -> None:
    data = DATA.read_text("ascii")
    assert data == compact(_published())
    assert "Mozilla Public License, v. 2.0" in data


def test_another_library_finds_the_same_in_the_same_list() -> None:
    oracle = publicsuffixlist.PublicSuffixList(source=_published().splitlines(), accept_encoded_idn=True)
    rules = [line for line in DATA.read_text("ascii").splitlines() if not line.startswith("#")]
    # That library takes "foo" for a suffix where there is a rule "*.foo" only. The algorithm of publicsuffix.org does
    # not: a rule matches a domain that has all of its labels.
    only_below = {rule[2:] for rule in rules if rule.startswith("*.")}.difference(rules)
    rng = random.Random(20261129)
    for _ in range(20_000):
        name = rng.choice(rules).lstrip("!").removeprefix("*.")
        labels = [rng.choice(["a", "www", "city", "xn--p1ai", "unheard-of"]) for _ in range(rng.randrange(4))]
        domain = ".".join([*labels, *name.split(".")[rng.randrange(2) and -1 :]])
        if domain not in only_below:
            assert registrable_domain(domain) == oracle.privatesuffix(domain), domain
