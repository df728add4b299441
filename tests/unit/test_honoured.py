"""What a declaration claims is shown: each parameter of Postfix that is declared has a test with its name in @honours.

A declared parameter is one that Ekiden says it honours (settings.md, `ekiden config coverage`). The marks are read from
the source of the tests, so that one in a test that this machine cannot run counts too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ekiden.config.postfix_names import postfix_defaults
from ekiden.config.snapshot import Parameters
from support.requirements import ROOT

# Honoured, but the test that shows it bears no mark yet. Only ever take names away.
MARKS_STILL_MISSING = frozenset(
    """
    2bounce_notice_recipient
    alias_maps
    allow_untrusted_routing
    bounce_notice_recipient
    bounce_queue_lifetime
    bounce_size_limit
    config_directory
    default_delivery_slot_cost
    default_destination_concurrency_failed_cohort_limit
    default_destination_concurrency_limit
    default_destination_concurrency_negative_feedback
    default_destination_concurrency_positive_feedback
    default_destination_recipient_limit
    default_process_limit
    default_transport
    delay_notice_recipient
    delay_warning_time
    deliver_lock_attempts
    deliver_lock_delay
    disable_vrfy_command
    double_bounce_sender
    enable_original_recipient
    home_mailbox
    hopcount_limit
    inet_interfaces
    inet_protocols
    initial_destination_concurrency
    line_length_limit
    lmtp_assume_final
    lmtp_bind_address
    lmtp_bind_address6
    lmtp_connect_timeout
    lmtp_connection_cache_on_demand
    lmtp_connection_cache_time_limit
    lmtp_connection_reuse_count_limit
    lmtp_connection_reuse_time_limit
    lmtp_data_done_timeout
    lmtp_data_init_timeout
    lmtp_data_xfer_timeout
    lmtp_destination_concurrency_limit
    lmtp_destination_recipient_limit
    lmtp_discard_lhlo_keywords
    lmtp_lhlo_name
    lmtp_lhlo_timeout
    lmtp_line_length_limit
    lmtp_mail_timeout
    lmtp_mx_address_limit
    lmtp_mx_session_limit
    lmtp_quit_timeout
    lmtp_rcpt_timeout
    lmtp_rset_timeout
    lmtp_skip_5xx_greeting
    lmtp_skip_quit_response
    lmtp_tcp_port
    local_destination_concurrency_limit
    local_destination_recipient_limit
    local_recipient_maps
    local_transport
    mail_name
    mail_owner
    mail_spool_directory
    mailbox_delivery_lock
    mailbox_size_limit
    maillog_file
    maillog_file_permissions
    maximal_backoff_time
    maximal_queue_lifetime
    message_size_limit
    minimal_backoff_time
    mydestination
    mydomain
    myhostname
    mynetworks
    myorigin
    notify_classes
    parent_domain_matches_subdomains
    proxy_interfaces
    qmgr_clog_warn_time
    qmgr_message_active_limit
    qmgr_message_recipient_limit
    queue_directory
    queue_minfree
    queue_run_delay
    recipient_delimiter
    relay_domains
    relay_recipient_maps
    relay_transport
    relayhost
    resolve_dequoted_address
    service_throttle_time
    smtp_address_preference
    smtp_always_send_ehlo
    smtp_balance_inet_protocols
    smtp_bind_address
    smtp_bind_address6
    smtp_connect_timeout
    smtp_connection_cache_on_demand
    smtp_connection_cache_time_limit
    smtp_connection_reuse_count_limit
    smtp_connection_reuse_time_limit
    smtp_data_done_timeout
    smtp_data_init_timeout
    smtp_data_xfer_timeout
    smtp_defer_if_no_mx_address_found
    smtp_destination_concurrency_limit
    smtp_destination_recipient_limit
    smtp_discard_ehlo_keywords
    smtp_helo_name
    smtp_helo_timeout
    smtp_host_lookup
    smtp_line_length_limit
    smtp_mail_timeout
    smtp_mx_address_limit
    smtp_mx_session_limit
    smtp_never_send_ehlo
    smtp_quit_timeout
    smtp_rcpt_timeout
    smtp_rset_timeout
    smtp_skip_5xx_greeting
    smtp_skip_quit_response
    smtp_tcp_port
    smtpd_banner
    smtpd_client_connection_count_limit
    smtpd_client_event_limit_exceptions
    smtpd_discard_ehlo_keywords
    smtpd_error_sleep_time
    smtpd_forbid_bare_newline
    smtpd_forbid_bare_newline_exclusions
    smtpd_hard_error_limit
    smtpd_helo_required
    smtpd_junk_command_limit
    smtpd_min_data_rate
    smtpd_peername_lookup
    smtpd_recipient_limit
    smtpd_recipient_overshoot_limit
    smtpd_soft_error_limit
    smtpd_timeout
    stale_lock_time
    strict_mailbox_ownership
    strict_rfc821_envelopes
    syslog_facility
    syslog_name
    transport_maps
    unknown_local_recipient_reject_code
    unknown_relay_recipient_reject_code
    unknown_virtual_alias_reject_code
    unknown_virtual_mailbox_reject_code
    virtual_alias_domains
    virtual_alias_expansion_limit
    virtual_alias_maps
    virtual_alias_recursion_limit
    virtual_destination_concurrency_limit
    virtual_destination_recipient_limit
    virtual_gid_maps
    virtual_mailbox_base
    virtual_mailbox_domains
    virtual_mailbox_limit
    virtual_mailbox_lock
    virtual_mailbox_maps
    virtual_minimum_uid
    virtual_transport
    virtual_uid_maps
    """.split()  # noqa: SIM905 -- one a line, so that taking one away concerns nobody else
)


def marks(path: Path) -> Iterator[tuple[str, int]]:
    """The names in the ``honours(...)`` calls of a file, with their lines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "honours":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: write the names themselves"
                assert isinstance(argument.value, str), f"{path}:{node.lineno}: write the names themselves"
                yield argument.value, node.lineno


@cache
def marked() -> dict[str, str]:
    """Each marked name, and the place of one of its marks."""
    return {
        name: f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name, line in marks(path)
    }


def test_every_declared_parameter_of_postfix_has_a_test_that_shows_it() -> None:
    claimed = set(Parameters.declared()) & set(postfix_defaults())
    unshown = sorted(claimed - set(marked()) - MARKS_STILL_MISSING)
    assert not unshown, "no test is marked @honours(...) for these; write one that changes them and sees the effect"


def test_every_mark_names_a_declared_parameter() -> None:
    declared = Parameters.declared()
    wrong = {name: place for name, place in marked().items() if name not in declared}
    assert not wrong


def test_the_list_of_missing_marks_holds_declared_parameters_of_postfix_alone() -> None:
    assert set(Parameters.declared()) & set(postfix_defaults()) >= MARKS_STILL_MISSING


def test_marks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    source = tmp_path / "test_x.py"
    source.write_text(
        "pytestmark = honours('a')\n\n@honours('b', 'c')\ndef test_x(): ...\n\nP = param(1, marks=honours('d'))\n"
    )
    assert sorted(marks(source)) == [("a", 1), ("b", 3), ("c", 3), ("d", 6)]
