"""Which way mail takes beside the usual one (trivial-rewrite(8), qmgr(8))."""

from __future__ import annotations

from ekiden.config.registry import Group, Text


class RoutingParameters(Group):
    default_filter_nexthop = Text(
        "",
        doc="The next hop of a content filter (content_filter, FILTER) that names none; empty: the recipient's domain.",
    )
