"""Sending mail by SMTP and LMTP (smtp(8), lmtp(8)): the lmtp parameters mean for LMTP what their smtp twins mean."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Duration, Group, Int, Size, Tables, Text, Words


class SmtpParameters(Group):
    # Who we say we are, and from which address.
    smtp_helo_name = Text("$myhostname", doc="The name that EHLO and HELO give.")
    lmtp_lhlo_name = Text("$myhostname", doc="The name that LHLO gives.")
    smtp_always_send_ehlo = Bool("yes", doc="Say EHLO to every server, not only to one whose greeting holds ESMTP.")
    smtp_never_send_ehlo = Bool("no", doc="Say HELO to every server, which gives up all extensions.")
    smtp_discard_ehlo_keywords = Words("", doc="Extensions to ignore though a server offers them, such as pipelining.")
    lmtp_discard_lhlo_keywords = Words("", doc="Extensions to ignore though an LMTP server offers them.")
    smtp_bind_address = Text(
        "", doc="The local IPv4 address that connections are made from; empty: the system's choice."
    )
    smtp_bind_address6 = Text(
        "", doc="The local IPv6 address that connections are made from; empty: the system's choice."
    )
    lmtp_bind_address = Text("", doc="The local IPv4 address that LMTP connections are made from.")
    lmtp_bind_address6 = Text("", doc="The local IPv6 address that LMTP connections are made from.")
    smtp_tcp_port = Text("smtp", doc="The port of next hops that name none: a number, or smtp or another mail service.")
    lmtp_tcp_port = Text("24", doc="The port of LMTP next hops that name none.")

    smtp_bind_address_enforce = Bool(
        "no",
        doc="Defer mail when smtp_bind_address cannot be used; no: warn, and use the system's choice.",
    )
    lmtp_bind_address_enforce = Bool("no", doc="What smtp_bind_address_enforce is, for LMTP.")

    # Which servers are tried.
    smtp_fallback_relay = Words(
        "$fallback_relay",
        doc="Next hops that are tried when a destination is not found, not reached, or does not take the mail now.",
    )
    lmtp_fallback_relay = Words("", doc="What smtp_fallback_relay is, for LMTP.")
    fallback_relay = Words("", doc="The old name of smtp_fallback_relay.")
    best_mx_transport = Text(
        "",
        doc="The transport, and its next hop, of mail whose best MX host is this host though it is not for this host; "
        "empty: it is returned as a loop.",
    )
    smtp_randomize_addresses = Bool("yes", doc="Try hosts of equal preference in random order; no: in that of DNS.")
    lmtp_randomize_addresses = Bool("yes", doc="Try the addresses of an LMTP server in random order.")
    lmtp_address_preference = Choice(
        "any", "any", "ipv4", "ipv6", doc="Which addresses of an LMTP server are tried first."
    )
    lmtp_balance_inet_protocols = Bool(
        "yes", doc="Make sure that lmtp_mx_address_limit leaves addresses of both protocols where there are both."
    )
    lmtp_defer_if_no_mx_address_found = Bool("no", doc="What smtp_defer_if_no_mx_address_found is, for LMTP.")
    lmtp_host_lookup = Words("dns", doc="Where the addresses of LMTP servers come from: dns, native, or both.")
    smtp_dns_support_level = Choice(
        "",
        "",
        "disabled",
        "enabled",
        "dnssec",
        doc="disabled: no DNS, next hops are hosts of native_hosts_file; enabled: DNS; dnssec: DNS, and what the "
        "resolver proved by DNSSEC is known (for DANE); empty: as disable_dns_lookups says.",
    )
    lmtp_dns_support_level = Choice(
        "", "", "disabled", "enabled", "dnssec", doc="What smtp_dns_support_level is, for LMTP."
    )
    disable_dns_lookups = Bool("no", doc="No DNS for SMTP and LMTP, if smtp_dns_support_level is empty.")
    use_srv_lookup = Words(
        "",
        doc="Services, such as submission, whose servers are found by SRV records: for next hops that end in "
        ":submission, not in brackets.",
    )
    allow_srv_lookup_fallback = Bool(
        "no", doc="Go on with MX records, or the address of the domain, where there are no SRV records."
    )
    ignore_srv_lookup_error = Bool(
        "no", doc="Go on with MX records, or the address of the domain, where SRV records cannot be looked up."
    )
    ignore_mx_lookup_error = Bool(
        "no", doc="When the MX records of a domain cannot be looked up, go on with the address of the domain itself."
    )
    lmtp_mx_address_limit = Int("5", doc="The most addresses of an LMTP next hop that one attempt tries; 0: all.")
    smtp_mx_session_limit = Int(
        "2", doc="The most sessions, past the EHLO handshake, that one attempt may use; 0: no limit."
    )
    lmtp_mx_session_limit = Int("2", doc="The most LMTP sessions that one attempt may use; 0: no limit.")
    smtp_skip_5xx_greeting = Bool("yes", doc="Go on to the next server when one greets with a 5xx reply; no: bounce.")
    lmtp_skip_5xx_greeting = Bool(
        "yes", doc="Go on to the next LMTP server when one greets with a 5xx reply; no: bounce."
    )

    # How long each step may take.
    smtp_connect_timeout = Duration("30s", doc="How long a TCP connection may take to complete; 0: the system's limit.")
    lmtp_connect_timeout = Duration(
        "0s", doc="How long an LMTP connection may take to complete; 0: the system's limit."
    )
    smtp_helo_timeout = Duration("300s", minimum=1, doc="How long the greeting may take, and EHLO or HELO.")
    lmtp_lhlo_timeout = Duration("300s", minimum=1, doc="How long the greeting of an LMTP server may take, and LHLO.")
    smtp_mail_timeout = Duration("300s", minimum=1, doc="How long the reply to MAIL FROM may take.")
    lmtp_mail_timeout = Duration("300s", minimum=1, doc="How long the reply to MAIL FROM may take in LMTP.")
    smtp_rcpt_timeout = Duration("300s", minimum=1, doc="How long the reply to each RCPT TO may take.")
    lmtp_rcpt_timeout = Duration("300s", minimum=1, doc="How long the reply to each RCPT TO may take in LMTP.")
    smtp_data_init_timeout = Duration("120s", minimum=1, doc="How long the reply to DATA may take.")
    lmtp_data_init_timeout = Duration("120s", minimum=1, doc="How long the reply to DATA may take in LMTP.")
    smtp_data_xfer_timeout = Duration("180s", minimum=1, doc="How long the content may stand still while it is sent.")
    lmtp_data_xfer_timeout = Duration(
        "180s", minimum=1, doc="How long the content may stand still while it is sent in LMTP."
    )
    smtp_data_done_timeout = Duration("600s", minimum=1, doc="How long the reply to the end of the content may take.")
    lmtp_data_done_timeout = Duration(
        "600s", minimum=1, doc="How long each reply to the end of the content may take in LMTP."
    )
    smtp_rset_timeout = Duration("20s", minimum=1, doc="How long the reply to RSET may take.")
    lmtp_rset_timeout = Duration("20s", minimum=1, doc="How long the reply to RSET may take in LMTP.")
    smtp_quit_timeout = Duration("300s", minimum=1, doc="How long a connection stays open for the reply to QUIT.")
    lmtp_quit_timeout = Duration("300s", minimum=1, doc="How long an LMTP connection stays open for the reply to QUIT.")
    smtp_skip_quit_response = Bool("yes", doc="Close a connection after QUIT without the reply.")
    lmtp_skip_quit_response = Bool("no", doc="Close an LMTP connection after QUIT without the reply.")

    # Connections that are used again.
    smtp_connection_cache_on_demand = Bool("yes", doc="Keep a connection open for a moment for the next message.")
    lmtp_connection_cache_on_demand = Bool("yes", doc="Keep an LMTP connection open for a moment for the next message.")
    smtp_connection_cache_time_limit = Duration("2s", doc="How long an unused connection is kept open.")
    lmtp_connection_cache_time_limit = Duration("2s", doc="How long an unused LMTP connection is kept open.")
    smtp_connection_reuse_time_limit = Duration("300s", doc="The age at which a connection takes no more messages.")
    lmtp_connection_reuse_time_limit = Duration(
        "300s", doc="The age at which an LMTP connection takes no more messages."
    )
    smtp_connection_reuse_count_limit = Int("0", doc="How often a connection may be used again; 0: no limit.")
    lmtp_connection_reuse_count_limit = Int("0", doc="How often an LMTP connection may be used again; 0: no limit.")
    smtp_connection_cache_limit = Int(
        "500", doc="The most unused connections a worker keeps open; beyond it the longest unused is closed."
    )
    lmtp_connection_cache_limit = Int("500", doc="The most unused LMTP connections a worker keeps open.")

    smtp_connection_cache_destinations = Words(
        "", doc="Next hops, or their hosts, whose connections are kept though smtp_connection_cache_on_demand is no."
    )
    lmtp_connection_cache_destinations = Words("", doc="What smtp_connection_cache_destinations is, for LMTP.")

    # What goes over the wire.
    smtp_line_length_limit = Size(
        "998", doc="Longer lines of a message are sent as several, joined by a line break and a space; 0: never."
    )
    lmtp_line_length_limit = Size("998", doc="What smtp_line_length_limit is, for LMTP.")
    smtp_per_request_deadline = Bool(
        "no", doc="Content must be taken at smtp_min_data_rate; no: it need only move on. Replies always have one time."
    )
    lmtp_per_request_deadline = Bool("no", doc="What smtp_per_request_deadline is, for LMTP.")
    smtp_min_data_rate = Int(
        "500", minimum=1, doc="The bytes a second that earn more of smtp_data_xfer_timeout (smtp_per_request_deadline)."
    )
    lmtp_min_data_rate = Int("500", minimum=1, doc="What smtp_min_data_rate is, for LMTP.")
    smtp_discard_ehlo_keyword_address_maps = Tables(
        "", doc="Tables from a server's address to the extensions to ignore, in place of smtp_discard_ehlo_keywords."
    )
    lmtp_discard_lhlo_keyword_address_maps = Tables(
        "", doc="Tables from an LMTP server's address to the extensions to ignore."
    )
    smtp_reply_filter = Text("", doc="A table that gives, for a reply line as a server says it, the line to read.")
    lmtp_reply_filter = Text("", doc="What smtp_reply_filter is, for LMTP.")
    smtp_quote_rfc821_envelope = Bool(
        "yes", doc="Quote local parts that need it; no: those without blanks and quotes stay bare, such as a..b."
    )
    lmtp_quote_rfc821_envelope = Bool("yes", doc="What smtp_quote_rfc821_envelope is, for LMTP.")
    smtp_reply_line_limit = Size(
        "2048", minimum=512, doc="The longest reply line of a server, in bytes; RFC 5321 §4.5.3.1.5 asks for 512."
    )
    smtp_reply_lines_limit = Int("256", minimum=1, doc="The most lines of one reply.")
    smtp_reply_size_limit = Size("20480", minimum=512, doc="The most bytes of one reply, all lines together.")
    lmtp_assume_final = Bool(
        "no", doc="Take what an LMTP server accepts as delivered to the mailbox, not only as relayed."
    )
