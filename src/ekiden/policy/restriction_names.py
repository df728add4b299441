"""The words of Postfix's restriction language (postconf(5), smtpd_recipient_restrictions and its kin)."""

from __future__ import annotations

# What the evaluator (restrictions.py) does. None of these has an argument.
HONOURED = frozenset(
    {
        "defer",
        "defer_if_permit",
        "defer_if_reject",
        "defer_unauth_destination",
        "permit",
        "permit_auth_destination",
        "permit_mynetworks",
        "permit_pop_before_smtp",  # Ekiden's own
        "permit_sasl_authenticated",
        "permit_tls_all_clientcerts",
        "permit_tls_clientcerts",
        "reject",
        "reject_authenticated_sender_login_mismatch",
        "reject_dmarc_fail",  # Ekiden's own, as the next with "spf"
        "reject_invalid_helo_hostname",
        "reject_known_sender_login_mismatch",
        "reject_non_fqdn_helo_hostname",
        "reject_non_fqdn_recipient",
        "reject_non_fqdn_sender",
        "reject_plaintext_session",
        "reject_sender_login_mismatch",
        "reject_spf_fail",
        "reject_unauth_destination",
        "reject_unauthenticated_sender_login_mismatch",
        "reject_unknown_client_hostname",
        "reject_unknown_helo_hostname",
        "reject_unknown_recipient_domain",
        "reject_unknown_sender_domain",
        "reject_unlisted_recipient",
        "reject_unlisted_sender",
        "warn_if_reject",
    }
)

# They ask what was found in the content, which only smtpd_end_of_data_restrictions can know.
OF_CONTENT = frozenset({"reject_dmarc_fail", "reject_spf_fail"})

# What they were called once.
OLD_NAMES = {
    "check_recipient_maps": "reject_unlisted_recipient",
    "reject_invalid_hostname": "reject_invalid_helo_hostname",
    "reject_non_fqdn_hostname": "reject_non_fqdn_helo_hostname",
    "reject_unknown_address": "reject_unknown_sender_domain",
    "reject_unknown_client": "reject_unknown_client_hostname",
    "reject_unknown_hostname": "reject_unknown_helo_hostname",
}

# Known, and passed over: those that stand alone, and those that have an argument.
NOT_YET = frozenset(
    {
        "permit_inet_interfaces",
        "permit_mx_backup",
        "reject_multi_recipient_bounce",
        "reject_unauth_pipelining",
        "reject_unknown_reverse_client_hostname",
        "reject_unverified_recipient",
        "reject_unverified_sender",
    }
)
NOT_YET_WITH_ARGUMENT = frozenset(
    {
        "check_address_map",
        "check_ccert_access",
        *(
            f"check_{subject}{kind}_access"
            for subject in ("client", "helo", "recipient", "reverse_client_hostname", "sender")
            for kind in ("", "_a", "_mx", "_ns")
        ),
        "check_etrn_access",
        "check_policy_service",
        "check_sasl_access",
        "permit_dnswl_client",
        "permit_rhswl_client",
        "reject_rbl_client",
        "reject_rhsbl_client",
        "reject_rhsbl_helo",
        "reject_rhsbl_recipient",
        "reject_rhsbl_reverse_client",
        "reject_rhsbl_sender",
        "sleep",
    }
)

# Postfix took these out, or warns that it will.
GONE = {
    "check_relay_domains": "write permit_mynetworks, reject_unauth_destination",
    "permit_naked_ip_address": "write permit_mynetworks or permit_sasl_authenticated",
    "reject_maps_rbl": "write reject_rbl_client with the name of a list",
}

ALL_NAMES = HONOURED | NOT_YET | NOT_YET_WITH_ARGUMENT | OLD_NAMES.keys() | GONE.keys()
