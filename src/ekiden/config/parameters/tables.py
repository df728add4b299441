"""Lookup tables (postmap(1), proxymap(8))."""

from __future__ import annotations

from ekiden.config.registry import Duration, Group, Size


class TableParameters(Group):
    pattern_table_time_limit = Duration(
        "1s", doc="How much processor time one lookup in a regexp or pcre table may take; 0 is no limit."
    )
    pattern_table_key_limit = Size(
        "102400", minimum=1, doc="How much of a key regexp and pcre tables look at; the rest is cut off."
    )
