"""The domains under which anyone may register names: the public suffix list (RFC 7489 §3.2; https://publicsuffix.org).

In:   a domain as mail wrote it.
Out:  the domain that was registered: the public suffix and one label more; or None.

The list is data (public_suffix_list.txt, under the Mozilla Public License 2.0) and is read when it is first needed.
Its rules are in A-labels, one a line, sorted: ``co.uk``, ``*.ck`` (any label in the place of the asterisk), ``!www.ck``
(an exception to that). public_suffix_build.py makes it from the list as it is published.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ekiden.dns.name import dns_name

DATA = Path(__file__).with_name("public_suffix_list.txt")


def registrable_domain(domain: str) -> str | None:
    """In A-labels and lower case; None: ``domain`` is a public suffix itself, or no domain name."""
    name = dns_name(domain)
    if not name:
        return None
    labels = name.split(".")
    length = _suffix_length(labels)
    return ".".join(labels[-length - 1 :]) if len(labels) > length else None


def _suffix_length(labels: list[str]) -> int:
    """How many labels of a name its public suffix has: the longest rule wins, an exception before all others."""
    rules = _rules()
    for at in range(len(labels)):
        name = ".".join(labels[at:])
        if f"!{name}" in rules:
            return len(labels) - at - 1
        parent = name.partition(".")[2]
        if name in rules or (parent and f"*.{parent}" in rules):
            return len(labels) - at
    return 1  # the rule that holds where there is none: "*"


@cache
def _rules() -> frozenset[str]:
    return frozenset(line for line in DATA.read_text("ascii").splitlines() if line and not line.startswith("#"))
