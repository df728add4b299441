from __future__ import annotations

import asyncio
import re

import pytest

from ekiden.message.address import Address
from ekiden.route.transport import Transport, applied, parse_transport
from ekiden.tables.address import find_transport
from ekiden.tables.open import open_tables
from support.requirements import require_conformance


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("smtp:[h]:25", Transport("smtp", "[h]:25")),
        ("relay:", Transport("relay", "")),
        (":[h]", Transport("", "[h]")),
        (":", Transport("", "")),
        ("lmtp:unix:/run/lmtp", Transport("lmtp", "unix:/run/lmtp")),
        ("error:5.1.1 no such user: sorry", Transport("error", "5.1.1 no such user: sorry")),
        ("local", Transport("local", "")),
    ],
)
def test_what_a_transport_says(text: str, transport: Transport) -> None:
    assert parse_transport(text) == transport


def test_the_results_of_the_postfix_test() -> None:
    """Each run of transport.in has a table and addresses; transport.ref has what Postfix made of them."""
    folder = require_conformance("postfix", "vectors", "trivial-rewrite")
    tables = re.findall(r"'(inline:.*?)'", (folder / "transport.in").read_text())
    runs = re.split(r"^===+.*\n", (folder / "transport.ref").read_text(), flags=re.MULTILINE)[1:]
    assert len(tables) == len(runs) == 6
    checked = 0
    for table, run in zip(tables, runs, strict=True):
        maps = open_tables([table])
        for line in run.splitlines():
            asked, _, expected = line.partition(" -> ")
            local, _, domain = asked.partition(":")[0].partition("@")
            found = asyncio.run(find_transport(maps, Address(local, domain), delimiter="+"))
            if found is None:
                shown = "(not found)"
            else:
                chosen = applied(parse_transport(found.value), Transport("DEFAULT", domain), domain)
                shown = f"{chosen.name}:{chosen.next_hop}"
            assert shown == expected.strip(), (table, asked)
            checked += 1
    assert checked == 16
