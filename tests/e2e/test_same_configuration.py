"""A Postfix and an Ekiden, started from the same configuration directory, do the same with the same 200 messages.

Each directory below tests/configurations is one configuration. What is meant to differ, and why, is in
docs/differences.md; nothing else may.
"""

from __future__ import annotations

import pytest

from support.requirements import ROOT
from support.same_configuration import CONFIGURATIONS, MESSAGES, differences, known_differences, world

NAMES = sorted(path.name for path in CONFIGURATIONS.iterdir() if path.is_dir())


def test_there_are_enough_configurations() -> None:
    assert len(NAMES) >= 12


def test_what_is_left_out_of_the_comparison_is_explained() -> None:
    page = (ROOT / "docs" / "differences.md").read_text()
    headings = {known.heading for name in NAMES for known in known_differences(name)}
    assert [heading for heading in headings if f"# {heading}\n" not in page] == []


@pytest.mark.parametrize("name", NAMES)
def test_both_do_the_same(name: str) -> None:
    with world(name) as both:
        postfix, ekiden = both.outcomes()
    assert len(postfix.replies) == len(ekiden.replies) == MESSAGES
    for subject in ("replies", "arrivals", "waiting"):
        found = differences(getattr(postfix, subject), getattr(ekiden, subject))
        if found:
            pytest.fail(f"{name}: {subject} differ: {found}", pytrace=False)
