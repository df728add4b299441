"""Lookup tables (postmap(1), proxymap(8))."""

from __future__ import annotations

from ekiden.config.registry import Duration, Group, Int, Size, Text, Words


class TableParameters(Group):
    default_database_type = Text(
        "hash", doc="The type of a table that postmap, postalias and newaliases are given without one."
    )
    alias_database = Words("hash:/etc/aliases", doc="The alias files that newaliases makes indexes of.")
    lmdb_map_size = Size(
        "16777216", minimum=8192, doc="How large a new lmdb file may be at first; it grows when it must."
    )
    pattern_table_time_limit = Duration(
        "1s", doc="How much processor time one lookup in a regexp or pcre table may take; 0 is no limit."
    )
    pattern_table_key_limit = Size(
        "102400", minimum=1, doc="How much of a key regexp and pcre tables look at; the rest is cut off."
    )
    socketmap_max_query_size = Size(
        "10000", minimum=1, doc="The most bytes of a request to a socketmap server, its netstring framing not counted."
    )
    socketmap_max_reply_size = Size(
        "100000", minimum=1, doc="The most bytes of a reply of a socketmap server, its netstring framing not counted."
    )
    table_connection_limit = Int(
        "8",
        minimum=1,
        doc="The most connections that one process has open to the servers of one lookup table. "
        "Further lookups wait for a free one.",
    )
    table_lookup_timeout = Duration(
        "10s",
        minimum=1,
        doc="How long a connection to a database server, or one lookup there, may take. "
        "The parameter timeout in the file of a table goes before this one.",
    )
    table_service_timeout = Duration(
        "100s",
        minimum=1,
        doc="How long a connection to a tcp or socketmap server, or one lookup there, may take.",
    )
