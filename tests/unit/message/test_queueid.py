"""message.queueid: unique, sortable by time, whatever the clock does."""

from __future__ import annotations

import re

from ekiden.message.queueid import QueueIds, arrival_us


def test_ids_sort_by_time_and_tell_it() -> None:
    ids = QueueIds(0)
    made = [ids.new(at) for at in (1.0, 1.5, 2.0, 1_800_000_000.123456, 1_800_000_001.0)]
    assert made == sorted(made)
    assert arrival_us(made[3]) == 1_800_000_000_123_456


def test_a_clock_that_stands_or_steps_back_repeats_nothing() -> None:
    ids = QueueIds(3)
    made = [ids.new(at) for at in [1_800_000_000.0] * 100 + [1_799_913_600.0] * 100]
    assert len(set(made)) == 200
    assert made == sorted(made)


def test_shards_never_give_the_same_id() -> None:
    assert QueueIds(1).new(5.0) != QueueIds(2).new(5.0)


def test_after_a_restart_ids_go_on_where_they_were() -> None:
    first = QueueIds(1)
    last = first.new(1_800_000_000.0)
    assert QueueIds(1, last_us=arrival_us(last)).new(1_700_000_000.0) > last


def test_the_form_is_the_one_that_log_tools_know() -> None:
    assert re.fullmatch(r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10}z[0-9A-Za-z]+", QueueIds(7).new(1_800_000_000.0))
