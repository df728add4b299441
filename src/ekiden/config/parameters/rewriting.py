"""What happens to the addresses and header of every message that is taken in (cleanup(8), trivial-rewrite(8))."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Group, Int, Size, SomeOf, Tables, Text, Words

CANONICAL_CLASSES = ("envelope_sender", "envelope_recipient", "header_sender", "header_recipient")
EXTENSION_CLASSES = ("canonical", "virtual", "alias", "forward", "include", "generic")
RECEIVE_OPTIONS = ("no_unknown_recipient_checks", "no_address_mappings", "no_header_body_checks", "no_milters")


class RewritingParameters(Group):
    # Incomplete addresses (trivial-rewrite(8))
    append_at_myorigin = Bool("yes", doc="Give an address without a domain the domain myorigin.")
    append_dot_mydomain = Bool("no", doc="Give a domain without a dot the ending mydomain.")
    swap_bangpath = Bool("yes", doc="Read host!user as user@host, where there is no @.")
    allow_percent_hack = Bool("yes", doc="Read user%host as user@host, where there is no @.")
    empty_address_recipient = Text("MAILER-DAEMON", doc="Who gets mail for the empty address.")
    local_header_rewrite_clients = Words(
        "permit_inet_interfaces",
        doc="The SMTP clients whose headers are completed with myorigin and get the fields they lack (the sendmail "
        "command always is one): permit_inet_interfaces, permit_mynetworks, check_address_map TABLE, TABLE, "
        "permit_sasl_authenticated, permit_tls_clientcerts (one of relay_clientcerts), permit_tls_all_clientcerts.",
    )
    remote_header_rewrite_domain = Text(
        "",
        doc="The domain that completes addresses in the headers of all other clients; empty: their headers stay as "
        "they are.",
    )

    # Addresses replaced by tables
    canonical_maps = Tables("", doc="Tables that replace addresses in the envelope and the header (canonical(5)).")
    sender_canonical_maps = Tables("", doc="The same for senders only, asked before canonical_maps.")
    recipient_canonical_maps = Tables("", doc="The same for recipients only, asked before canonical_maps.")
    canonical_classes = SomeOf(
        "envelope_sender, envelope_recipient, header_sender, header_recipient",
        CANONICAL_CLASSES,
        doc="Which addresses canonical_maps replaces.",
    )
    sender_canonical_classes = SomeOf(
        "envelope_sender, header_sender", CANONICAL_CLASSES[::2], doc="Which addresses sender_canonical_maps replaces."
    )
    recipient_canonical_classes = SomeOf(
        "envelope_recipient, header_recipient",
        CANONICAL_CLASSES[1::2],
        doc="Which addresses recipient_canonical_maps replaces.",
    )
    masquerade_domains = Words(
        "", doc="Domains that the hosts below them hide behind: user@host.example.com becomes user@example.com."
    )
    masquerade_classes = SomeOf(
        "envelope_sender, header_sender, header_recipient", CANONICAL_CLASSES, doc="Which addresses are masqueraded."
    )
    masquerade_exceptions = Words("", doc="User names whose addresses are not masqueraded.")
    propagate_unmatched_extensions = SomeOf(
        "canonical, virtual",
        EXTENSION_CLASSES,
        doc="The tables whose results get the address extension that the matching key did not have: canonical, "
        "virtual, alias, forward, include, generic.",
    )
    virtual_alias_address_length_limit = Int(
        "1000", minimum=1, doc="How long an address may be that virtual_alias_maps gives."
    )

    # Copies, and addresses that are there twice
    always_bcc = Text("", doc="Who gets a blind copy of every message.")
    sender_bcc_maps = Tables("", doc="Tables from sender to an address that gets a blind copy.")
    recipient_bcc_maps = Tables("", doc="Tables from recipient to an address that gets a blind copy.")
    duplicate_filter_limit = Int(
        "1000",
        doc="How many recipients of a message are remembered to leave out those that come again; 0: all of them.",
    )

    # The header
    message_drop_headers = Words(
        "bcc, content-length, resent-bcc, return-path", doc="Header fields that are taken out of every message."
    )
    always_add_missing_headers = Bool(
        "no", doc="Add missing From:, Date: and Message-ID: for remote clients too, not for local ones only."
    )
    undisclosed_recipients_header = Text("", doc="The field that a message gets which has neither To: nor Cc:.")
    header_from_format = Choice(
        "standard", "standard", "obsolete",
        doc="How a From: field that is added looks: standard: name <address>; obsolete: address (name).",
    )  # fmt: skip
    full_name_encoding_charset = Text(
        "utf-8", doc="The character set in which a name that is not ASCII is encoded in From: (RFC 2047)."
    )
    header_address_token_limit = Int(
        "10240", minimum=1, doc="How many words of one header field are read as addresses; the rest is cut off."
    )
    header_size_limit = Size("102400", minimum=1, doc="How long one header field may be; the rest is cut off.")
    non_empty_end_of_header_action = Choice(
        "fix_quietly", "fix_quietly", "add_header", "reject",
        doc="What happens to a message whose header ends without an empty line: the line is put in (fix_quietly), also "
        "a field MIME-Error: that says so (add_header), or the message is refused (reject).",
    )  # fmt: skip
    message_strip_characters = Text(
        "", doc="Characters that are taken out of content, written with the escapes of C, such as \\0."
    )
    message_reject_characters = Text(
        "", doc="Characters that no message may hold, written with the escapes of C, such as \\0."
    )

    # What differs from listener to listener (-o in master.cf)
    receive_override_options = SomeOf(
        "", RECEIVE_OPTIONS,
        doc="What is left out for mail that comes this way: no_unknown_recipient_checks, no_address_mappings "
        "(canonical, masquerade, virtual alias, blind copies), no_header_body_checks (checks of content, characters "
        "stripped or refused), no_milters (who really sent it is not asked, and nothing is signed; there are no "
        "milters yet).",
    )  # fmt: skip
    content_filter = Text("", doc="The transport:nexthop that all mail that comes this way is sent to first.")
    cleanup_service_name = Text(
        "cleanup", doc="The service of master.cf whose -o options hold for the rewriting of mail that comes this way."
    )

    # On the way out (generic(5))
    smtp_generic_maps = Tables("", doc="Tables that replace addresses in what the smtp transport sends.")
    lmtp_generic_maps = Tables("", doc="Tables that replace addresses in what the lmtp transport sends.")
