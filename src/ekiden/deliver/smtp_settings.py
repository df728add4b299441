"""What an SMTP or LMTP agent takes from the parameters: the same list, under the one prefix or the other."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.mime_parser import Limits
from ekiden.protocol.smtp.client import ClientRules, Stage
from ekiden.protocol.smtp.replies import ReplyLimits
from ekiden.tables.at_once import look_up_at_once
from ekiden.tables.open import Maps, open_table, open_tables
from ekiden.tables.questions import waits
from ekiden.tables.table import TableTrouble

# Service names that stand for a port in main.cf, as /etc/services has them.
_PORTS = {"smtp": 25, "lmtp": 24, "submission": 587, "submissions": 465, "smtps": 465}


class MimeRules(Struct, frozen=True):
    limits: Limits
    converts: bool  # 8-bit content for servers without 8BITMIME
    looks: bool  # at content, whether it is 8-bit; else the word of its client counts


class SmtpSettings(Struct, frozen=True):
    """Times are in seconds."""

    transport: str  # "smtp" or "lmtp"
    rules: ClientRules
    timeouts: tuple[float, ...]  # by Stage: how long each may take
    connect_timeout_s: float  # 0: the system's limit
    bind_ipv4: str
    bind_ipv6: str
    bind_enforce: bool  # no connection rather than one from another address
    fallbacks: tuple[str, ...]  # next hops for what the next hop itself did not take
    relayhost: str  # a next hop whose absence is a mistake of ours
    default_port: int
    address_limit: int  # 0: none, as for the next one
    session_limit: int
    skip_5xx_greeting: bool
    skip_quit_response: bool
    cache: bool
    cache_destinations: tuple[str, ...]  # whose connections are kept whatever ``cache`` says
    cache_time_s: float
    cache_limit: int
    reuse_time_s: float
    reuse_count: int  # 0: no limit
    assume_final: bool  # what is accepted has reached the mailbox
    quotes: bool  # local parts that need it
    content_rate: int  # bytes a second that the server must take content at; 0: none
    xforward: bool  # filters hear which client a message came from
    chunking: bool  # content goes by BDAT where that is offered
    early_content: int  # bytes of content that may go before the recipients are answered; 0: none
    mime: MimeRules
    discard_maps: Maps  # from a server's address to the extensions that are not used with it


def smtp_settings(parameters: Parameters) -> SmtpSettings:
    rules = ClientRules(
        helo_name=parameters.smtp_helo_name,
        always_ehlo=parameters.smtp_always_send_ehlo,
        never_ehlo=parameters.smtp_never_send_ehlo,
        discard_keywords=frozenset(word.upper() for word in parameters.smtp_discard_ehlo_keywords),
        line_length_limit=parameters.smtp_line_length_limit,
        replies=_reply_limits(parameters),
        filter_reply=_reply_filter(parameters, parameters.smtp_reply_filter),
        mail_auth=parameters.smtp_send_dummy_mail_auth,
    )
    return SmtpSettings(
        transport="smtp",
        rules=rules,
        timeouts=_timeouts(
            hello=parameters.smtp_helo_timeout,
            starttls=parameters.smtp_starttls_timeout,
            reset=parameters.smtp_rset_timeout,
            mail=parameters.smtp_mail_timeout,
            rcpt=parameters.smtp_rcpt_timeout,
            data=parameters.smtp_data_init_timeout,
            content=parameters.smtp_data_xfer_timeout,
            done=parameters.smtp_data_done_timeout,
            quit_=parameters.smtp_quit_timeout,
            xforward=parameters.smtp_xforward_timeout,
        ),
        connect_timeout_s=parameters.smtp_connect_timeout,
        bind_ipv4=parameters.smtp_bind_address,
        bind_ipv6=parameters.smtp_bind_address6,
        bind_enforce=parameters.smtp_bind_address_enforce,
        fallbacks=parameters.smtp_fallback_relay,
        relayhost=parameters.relayhost,
        default_port=port_number(parameters.smtp_tcp_port),
        address_limit=parameters.smtp_mx_address_limit,
        session_limit=parameters.smtp_mx_session_limit,
        skip_5xx_greeting=parameters.smtp_skip_5xx_greeting,
        skip_quit_response=parameters.smtp_skip_quit_response,
        cache=parameters.smtp_connection_cache_on_demand,
        cache_destinations=tuple(word.lower() for word in parameters.smtp_connection_cache_destinations),
        cache_time_s=parameters.smtp_connection_cache_time_limit,
        cache_limit=parameters.smtp_connection_cache_limit,
        reuse_time_s=parameters.smtp_connection_reuse_time_limit,
        reuse_count=parameters.smtp_connection_reuse_count_limit,
        assume_final=False,
        quotes=parameters.smtp_quote_rfc821_envelope,
        content_rate=parameters.smtp_min_data_rate if parameters.smtp_per_request_deadline else 0,
        xforward=parameters.smtp_send_xforward_command,
        chunking=parameters.smtp_chunking,
        early_content=parameters.smtp_early_content_limit,
        mime=_mime_rules(parameters),
        discard_maps=open_tables(parameters.smtp_discard_ehlo_keyword_address_maps, parameters=parameters),
    )


def lmtp_settings(parameters: Parameters) -> SmtpSettings:
    rules = ClientRules(
        helo_name=parameters.lmtp_lhlo_name,
        lmtp=True,
        discard_keywords=frozenset(word.upper() for word in parameters.lmtp_discard_lhlo_keywords),
        line_length_limit=parameters.lmtp_line_length_limit,
        replies=_reply_limits(parameters),
        filter_reply=_reply_filter(parameters, parameters.lmtp_reply_filter),
        mail_auth=parameters.lmtp_send_dummy_mail_auth,
    )
    return SmtpSettings(
        transport="lmtp",
        rules=rules,
        timeouts=_timeouts(
            hello=parameters.lmtp_lhlo_timeout,
            starttls=parameters.lmtp_starttls_timeout,
            reset=parameters.lmtp_rset_timeout,
            mail=parameters.lmtp_mail_timeout,
            rcpt=parameters.lmtp_rcpt_timeout,
            data=parameters.lmtp_data_init_timeout,
            content=parameters.lmtp_data_xfer_timeout,
            done=parameters.lmtp_data_done_timeout,
            quit_=parameters.lmtp_quit_timeout,
            xforward=parameters.lmtp_xforward_timeout,
        ),
        connect_timeout_s=parameters.lmtp_connect_timeout,
        bind_ipv4=parameters.lmtp_bind_address,
        bind_ipv6=parameters.lmtp_bind_address6,
        bind_enforce=parameters.lmtp_bind_address_enforce,
        fallbacks=parameters.lmtp_fallback_relay,
        relayhost="",
        default_port=port_number(parameters.lmtp_tcp_port),
        address_limit=parameters.lmtp_mx_address_limit,
        session_limit=parameters.lmtp_mx_session_limit,
        skip_5xx_greeting=parameters.lmtp_skip_5xx_greeting,
        skip_quit_response=parameters.lmtp_skip_quit_response,
        cache=parameters.lmtp_connection_cache_on_demand,
        cache_destinations=tuple(word.lower() for word in parameters.lmtp_connection_cache_destinations),
        cache_time_s=parameters.lmtp_connection_cache_time_limit,
        cache_limit=parameters.lmtp_connection_cache_limit,
        reuse_time_s=parameters.lmtp_connection_reuse_time_limit,
        reuse_count=parameters.lmtp_connection_reuse_count_limit,
        assume_final=parameters.lmtp_assume_final,
        quotes=parameters.lmtp_quote_rfc821_envelope,
        content_rate=parameters.lmtp_min_data_rate if parameters.lmtp_per_request_deadline else 0,
        xforward=parameters.lmtp_send_xforward_command,
        chunking=parameters.lmtp_chunking,
        early_content=parameters.smtp_early_content_limit,
        mime=_mime_rules(parameters),
        discard_maps=open_tables(parameters.lmtp_discard_lhlo_keyword_address_maps, parameters=parameters),
    )


def _reply_filter(parameters: Parameters, word: str) -> Callable[[bytes], bytes] | None:
    """What smtp_reply_filter makes of a line that a server says. Raises ConfigError."""
    if not word:
        return None
    if waits(word):
        raise ConfigError(f"{word}: a table of SMTP replies must lie on this host, in memory or in a file")
    table = open_table(word, parameters=parameters)

    def filtered(line: bytes) -> bytes:
        try:
            found = look_up_at_once(table, line.decode("utf-8", "surrogateescape"))
        except TableTrouble as trouble:
            # Not the server's word any more, and not what the administrator made of it: nobody knows what it means.
            return f"451 4.3.0 {trouble}".encode("ascii", "replace")
        return line if found is None else found.encode("utf-8", "surrogateescape")

    return filtered


def _reply_limits(parameters: Parameters) -> ReplyLimits:
    return ReplyLimits(
        line_bytes=parameters.smtp_reply_line_limit,
        lines=parameters.smtp_reply_lines_limit,
        reply_bytes=parameters.smtp_reply_size_limit,
    )


def mime_limits(parameters: Parameters) -> Limits:
    return Limits(parameters.header_block_limit, parameters.mime_nesting_limit, parameters.mime_boundary_length_limit)


def _mime_rules(parameters: Parameters) -> MimeRules:
    return MimeRules(
        mime_limits(parameters),
        converts=not parameters.disable_mime_output_conversion,
        looks=not parameters.disable_mime_input_processing,
    )


def _timeouts(
    *,
    hello: float,
    starttls: float,
    reset: float,
    mail: float,
    rcpt: float,
    data: float,
    content: float,
    done: float,
    quit_: float,
    xforward: float,
) -> tuple[float, ...]:
    by_stage = {
        Stage.IDLE: quit_,
        Stage.GREETING: hello,
        Stage.EHLO: hello,
        Stage.HELO: hello,
        Stage.LHLO: hello,
        Stage.RSET: reset,
        Stage.MAIL: mail,
        Stage.RCPT: rcpt,
        Stage.DATA: data,
        Stage.CONTENT: content,
        Stage.END_OF_DATA: done,
        Stage.QUIT: quit_,
        Stage.STARTTLS: starttls,
        Stage.TLS: starttls,
        Stage.AUTH: hello,
        Stage.XFORWARD: xforward,
    }
    return tuple(by_stage[stage] for stage in Stage)


def port_number(text: str) -> int:
    """A port as main.cf writes it: a number or a mail service's name. Raises ValueError."""
    if text in _PORTS:
        return _PORTS[text]
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"not a port: {text}")
    return int(text)
