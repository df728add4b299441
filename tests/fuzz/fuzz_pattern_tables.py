"""Any text is a regexp, pcre or cidr table: rules and told problems; any key has an answer or none, in time."""

from __future__ import annotations

from ekiden.tables.budget import BudgetSpent, within
from ekiden.tables.cidr import parse_cidr
from ekiden.tables.patterns import parse_patterns
from ekiden.tables.pcre import DIALECT as PCRE
from ekiden.tables.regexp import DIALECT as REGEXP

SEEDS = [
    rb"""if /^(a|b)+c$/i
/^(.*)@(.*)$/ $1 at ${2}
endif
!/[[:alpha:]_-]{2,5}/ none
""",
    rb"""/\(a\)\1*\{2,3\}/x $$ $(1)
/[]x-z]\<\w\>$/m y
if !/[^[.a.][=b=]]/
/x|()|y/ z
endif
""",
    rb"""/(?i:a)(?<n>b)(?P=n)\g{-1}\k<n>(?>c+)d++(?=e)(?!f)(?<=g|hh)(?<!i)/AEUX $2
/\Qa.b\E*?[\d\H\x41-\x{e9}[:^word:]]\cA\o{101}(?x: j # k
)/s l
""",
    b"10.0.0.0/8 a\n!192.0.2.1 b\nif 2001:db8::/32\n[2001:db8::1]/128 c\nendif\n::/0 d\n",
    b"/(a+)+$/ x\n/(.*)*b/ y\n",
]
KEYS = ("", "a", "abc@x.example", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "bb\nb", "\udcff", "Ü")
ADDRESSES = ((4, 0x0A000001), (4, 0), (6, 1), (6, 2**128 - 1))
_BUDGET_S = 0.01


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    lines = text.count("\n") + 1
    for dialect in (REGEXP, PCRE):
        rules = parse_patterns(text, dialect)
        assert all(1 <= line <= lines for line, _ in rules.problems)
        for key in KEYS:
            try:
                answer = within(_BUDGET_S, lambda: rules.answer(key))  # noqa: B023 (it is called at once)
            except BudgetSpent:
                return  # the law is that it ends
            assert answer is None or isinstance(answer, str)
    networks = parse_cidr(text)
    assert all(1 <= line <= lines for line, _ in networks.problems)
    for address in ADDRESSES:
        networks.answer(address)
