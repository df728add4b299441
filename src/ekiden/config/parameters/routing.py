"""Which way mail takes beside the usual one (trivial-rewrite(8), qmgr(8))."""

from __future__ import annotations

from ekiden.config.registry import Bool, Group, Tables, Text


class RoutingParameters(Group):
    sender_dependent_relayhost_maps = Tables(
        "",
        doc="Tables from a sender (user@domain, then @domain) to the next hop that stands for relayhost in its mail; "
        "DUNNO leaves relayhost.",
    )
    empty_address_relayhost_maps_lookup_key = Text(
        "<>", doc="What the null sender is looked up as in sender_dependent_relayhost_maps."
    )
    sender_dependent_default_transport_maps = Tables(
        "",
        doc="Tables from a sender (user@domain, then @domain) to the transport:nexthop that stands for "
        "default_transport in its mail; DUNNO leaves default_transport.",
    )
    empty_address_default_transport_maps_lookup_key = Text(
        "<>", doc="What the null sender is looked up as in sender_dependent_default_transport_maps."
    )
    relocated_maps = Tables(
        "", doc="Tables of addresses that are no more, with the text that senders are told: the new address."
    )
    relocated_prefix_enable = Bool(
        "yes", doc='Put "User has moved to" before the text of relocated_maps; no: it holds the whole sentence.'
    )
    show_user_unknown_table_name = Bool(
        "yes", doc="Name the table that does not have a recipient when mail for an unknown user is refused."
    )
    default_filter_nexthop = Text(
        "",
        doc="The next hop of a content filter (content_filter, FILTER) that names none; empty: the recipient's domain.",
    )
