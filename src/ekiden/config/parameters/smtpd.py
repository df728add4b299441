"""Receiving mail by SMTP (smtpd(8)) and from the sendmail command (pickup(8))."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Clients, Duration, Group, Int, Size, Tables, Template, Text, Words

# Printable ASCII; a dollar stands for itself when it is doubled.
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F)).replace("$", "$$")


class SmtpdParameters(Group):
    smtpd_banner = Text(
        "$myhostname ESMTP $mail_name", doc="The text after 220 in the greeting; it must begin with a host name."
    )
    smtpd_timeout = Duration(
        "300s",
        minimum=1,
        doc="How long a client may take for one command, and how long it may be silent in the middle of a message.",
    )
    smtpd_min_data_rate = Int(
        "500",
        minimum=1,
        doc="Bytes a second that content must come at on average; each second's worth extends the time.",
    )
    smtpd_recipient_limit = Int(
        "1000", minimum=1, doc="The most recipients one message may have (RFC 5321 §4.5.3.1.8 asks for 100 at least)."
    )
    smtpd_recipient_overshoot_limit = Int(
        "1000", doc="How many recipients over the limit are refused softly before each one counts as an error."
    )
    message_size_limit = Size("10240000", doc="The most bytes one message may have; 0 sets no limit.")
    line_length_limit = Size("2048", minimum=512, doc="The most bytes of a command line, its line end included.")
    header_block_limit = Size(
        "1048576", minimum=1000, doc="The most bytes that all header fields of one message may have together."
    )
    hopcount_limit = Int("50", minimum=1, doc="The most Received: fields a message may have; more are a mail loop.")
    smtpd_soft_error_limit = Int("10", doc="After so many errors each further reply waits smtpd_error_sleep_time.")
    smtpd_hard_error_limit = Int("20", minimum=1, doc="After so many errors the session is closed.")
    smtpd_error_sleep_time = Duration("1s", doc="How long a reply waits once a client has made too many errors.")
    smtpd_junk_command_limit = Int(
        "100", doc="How many commands that do nothing (NOOP, RSET, VRFY, HELO) a client may send for each message."
    )
    smtpd_forbid_bare_newline = Choice(
        "reject",
        "reject",
        "normalize",
        "yes",
        "note",
        "no",
        doc="What happens to content with a line end that is not <CR><LF>: reject it, normalize it (also written yes: "
        "<LF> becomes <CR><LF>), note: normalize and say it in the log, no: normalize. Nothing but <CR><LF>.<CR><LF> "
        "ends a message, whatever is chosen.",
    )
    smtpd_forbid_bare_newline_exclusions = Clients(
        "", doc="Clients (networks) whose bare newlines are normalized instead."
    )
    smtpd_forbid_bare_newline_reject_code = Int(
        "550", minimum=400, maximum=599, doc="The reply code that a rejected bare newline gets."
    )
    smtpd_forbid_unauth_pipelining = Bool(
        "yes",
        doc="End the session of a client that does not wait for a reply where it must: before the reply to EHLO, DATA "
        "and other commands that end a group, and everywhere unless it said EHLO.",
    )
    smtpd_noop_commands = Words(
        "", doc="Commands, or tables of commands, that are answered 250 and do nothing, whatever else they would mean."
    )
    smtpd_forbidden_commands = Words(
        "CONNECT DELETE GET HEAD OPTIONS PATCH POST PRI PUT TRACE regexp:{{/^[^A-Z]/ Bogus}}",
        doc="Commands, or tables of commands, that end the session at once: those of web clients. So does what looks "
        "like a header field, and what begins with no letter.",
    )
    smtpd_command_filter = Text(
        "", doc="A table that gives, for a command as a client sends it, the command to execute in its place."
    )
    strict_rfc821_envelopes = Bool(
        "no", doc="Insist on angle brackets and RFC 5321 syntax in MAIL FROM and RCPT TO, instead of being lenient."
    )
    disable_vrfy_command = Bool("no", doc="Refuse VRFY.")
    smtpd_helo_required = Bool("no", doc="Insist on HELO or EHLO before MAIL.")
    smtpd_discard_ehlo_keywords = Words("", doc="EHLO keywords that are not offered to any client.")
    smtpd_discard_ehlo_keyword_address_maps = Tables(
        "", doc="Tables from client address to the EHLO keywords that are not offered to it, in place of those above."
    )
    smtpd_refused_chunk_limit = Size(
        "104857600",
        doc="The most bytes of a refused BDAT (RFC 3030) that are read and let go, so that the session can go on; a "
        "larger one ends it.",
    )
    smtputf8_enable = Bool(
        "yes", doc="Take addresses and header fields in UTF-8 from clients that ask for SMTPUTF8 (RFC 6531)."
    )
    smtpd_deliver_by_minimum = Duration(
        "0s",
        doc="The shortest time that a client may set for delivery with DELIVERBY (RFC 2852) if it wants the message "
        "back after that; EHLO says it. 0 is no minimum.",
    )
    smtpd_future_release_limit = Duration(
        "30d",
        doc="How long clients of mynetworks and clients that have logged in may have a message held back with "
        "FUTURERELEASE (RFC 4865); 0 does not offer it.",
    )
    smtpd_per_request_deadline = Bool(
        "yes", doc="smtpd_timeout is for a command as a whole; no: for each part of it that arrives."
    )
    smtpd_hide_client_session = Bool("no", doc="Leave out of the Received: field who the client is.")
    smtpd_client_port_logging = Bool("no", doc="Log the port of clients: name[address]:port.")
    smtpd_delay_open_until_valid_rcpt = Bool(
        "yes", doc="Give a message its queue id with its first good recipient; no: with its sender."
    )
    smtpd_reject_footer = Template(
        "",
        doc="Text that follows every refusal, on lines of its own; \\n begins another line, \\c at the beginning joins "
        "the first to the refusal. It knows $client_address, $client_port, $localtime and $server_name.",
    )
    smtpd_reject_footer_maps = Tables("", doc="Tables from the text of a refusal to the smtpd_reject_footer it gets.")
    smtpd_expansion_filter = Text(
        _PRINTABLE, doc="Characters that $name may bring into a footer; all others become underscores."
    )
    smtpd_reject_unlisted_sender = Bool(
        "no", doc="Refuse senders that are in a domain of this host and do not exist there."
    )
    smtpd_client_connection_count_limit = Int(
        "50", doc="How many connections one client may have at a time; 0 sets no limit."
    )
    smtpd_client_connection_rate_limit = Int(
        "0", doc="How many connections one client may make in an anvil_rate_time_unit; 0 sets no limit."
    )
    smtpd_client_message_rate_limit = Int(
        "0", doc="How many messages one client may begin in an anvil_rate_time_unit, refused ones too; 0: no limit."
    )
    smtpd_client_recipient_rate_limit = Int(
        "0", doc="How many recipients one client may give in an anvil_rate_time_unit, refused ones too; 0: no limit."
    )
    anvil_rate_time_unit = Duration(
        "60s", minimum=1, doc="The time that the rate limits of clients are for; common to all services."
    )
    smtpd_client_ipv4_prefix_length = Int(
        "32", maximum=32, doc="How many bits of an IPv4 address make one client, for the limits by client."
    )
    smtpd_client_ipv6_prefix_length = Int(
        "84", maximum=128, doc="How many bits of an IPv6 address make one client, for the limits by client."
    )
    smtpd_client_event_limit_exceptions = Clients(
        "$mynetworks", doc="Clients (networks) that the limits of connections, messages and recipients do not bind."
    )
    smtpd_session_limit = Int(
        "20000", minimum=1, doc="How many SMTP sessions one worker has at a time; more are told 421."
    )
    smtpd_listen_backlog = Int("1024", minimum=1, doc="How many connections may wait to be accepted on each listener.")
    smtpd_peername_lookup = Bool("yes", doc="Look up the host name of clients; without it every client is unknown.")
    relay_domains_reject_code = Int(
        "554", minimum=400, maximum=599, doc="The reply code for a recipient that this host does not relay to."
    )
    refuse_load_average_limit = Int(
        "0",
        doc="From this load average of the host on, clients are told to come back (421); 0 never. This is "
        "sendmail's confREFUSE_LA.",
    )
    smtpd_reject_unlisted_recipient = Bool(
        "yes",
        doc="Refuse recipients that do not exist in an own domain, and those that the error or retry transport or "
        "relocated_maps would return; no: take the mail, and return it later.",
    )
    maildrop_scan_interval = Duration(
        "60s", minimum=1, doc="How often the maildrop is looked through when nobody knocks."
    )
