"""message.date: RFC 5322 §3.3, checked by another parser."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

import pytest

from ekiden.message.date import header_date


@pytest.mark.parametrize("when", [0.0, 951_782_399.0, 1_772_521_000.5, 4_102_444_799.0])
def test_another_parser_reads_the_same_instant(when: float) -> None:
    text = header_date(when)
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", text)
    assert parsedate_to_datetime(text).timestamp() == int(when)
