"""Who really sent a message: what is checked of mail from strangers, and what becomes of what fails."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Duration, Group, Int, Tables, Text, Words


class AuthenticationParameters(Group):
    authserv_id = Text(
        "$myhostname",
        doc="The name under which this server says what it found (Authentication-Results, RFC 8601). Such fields of "
        "others that claim this name are removed from mail of strangers.",
    )
    authentication_exempt_clients = Words(
        "",
        doc="Clients whose mail is not checked: host names, domains, addresses, networks, tables; a secondary MX, say. "
        "Clients of mynetworks and those that have logged in never are.",
    )
    authentication_time_limit = Duration(
        "20s",
        minimum=1,
        doc="How long a message may wait for DNS at each of its checks; what is unknown by then is a temporary error.",
    )

    spf_policy = Choice(
        "mark",
        *("none", "mark", "soft-refuse", "refuse"),
        doc="What becomes of mail whose client may not send for its envelope sender (SPF: fail). none: nothing, and "
        "nothing is said; mark: a header field says so; soft-refuse: the client is to come back later; refuse: it is "
        "refused at RCPT. The last two also have a client come back when DNS cannot say.",
    )
    spf_checks_helo = Bool("yes", doc="Check the HELO name by SPF too, and say so in the header.")
    spf_received_header = Bool("yes", doc="Say the result of SPF in a field Received-SPF (RFC 7208) too.")
    spf_void_lookup_limit = Int(
        "2",
        minimum=0,
        maximum=10,
        doc="How many terms of SPF records may ask for what is not there (RFC 7208 section 4.6.4).",
    )

    dkim_verification = Bool("yes", doc="Verify DKIM signatures.")
    dkim_signature_limit = Int(
        "10", minimum=1, maximum=100, doc="How many DKIM signatures of a message are verified; the rest is passed over."
    )
    arc_verification = Bool("yes", doc="Verify ARC chains (RFC 8617): what forwarders of a message had found.")

    dmarc_policy = Choice(
        "refuse",
        *("none", "mark", "quarantine", "refuse"),
        doc="How far this server goes when a message fails DMARC and the owner of its From: domain asks for something. "
        "none: DMARC is not evaluated; mark: a header field says so; quarantine: what should be quarantined or "
        "refused is quarantined; refuse: just what the owner asks for.",
    )
    dmarc_quarantine_action = Choice(
        "header",
        *("header", "hold"),
        doc="What quarantine means: a field dmarc_quarantine_header for filters, or on hold in the queue until an "
        "administrator lets it go (postsuper -H).",
    )
    dmarc_quarantine_header = Text("X-Spam-Flag: YES", doc="The field that mail in quarantine gets; empty: none.")
    dmarc_discovery = Choice(
        "tree-walk",
        *("tree-walk", "public-suffix"),
        doc="How the domain that a DMARC record is for is found: by walking up the tree of names (RFC 9989), or by the "
        "list of public suffixes (RFC 7489).",
    )
    dmarc_override_maps = Tables(
        "",
        doc="Tables of mail that passes though its owner asks for something else: mailing lists, forwarders. The "
        "client's address, its name and the From: domain are looked up; the value is the reason, for log and reports.",
    )
