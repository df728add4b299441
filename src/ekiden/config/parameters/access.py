"""Access rules of the SMTP server: restriction lists (SMTPD_ACCESS_README) and the codes that they refuse with."""

from __future__ import annotations

from ekiden.config.registry import Bool, Group, Int, Tables, Words


def _code(default: str, what: str) -> Int:
    return Int(default, minimum=400, maximum=599, doc=f"The reply code {what}.")


class AccessParameters(Group):
    smtpd_client_restrictions = Words(
        "", doc="Who may be a client, as a list of restrictions. It is judged at RCPT, as are the next two."
    )
    smtpd_helo_restrictions = Words("", doc="The same for the name that a client gives itself.")
    smtpd_sender_restrictions = Words("", doc="The same for the sender of a message.")
    smtpd_relay_restrictions = Words(
        "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination",
        doc="Who may send to domains that are not this host's. This list or smtpd_recipient_restrictions must come to "
        "reject_unauth_destination, defer_unauth_destination, reject or defer for everybody else.",
    )
    smtpd_recipient_restrictions = Words("", doc="Who may send to which recipients; it follows the list above.")
    smtpd_data_restrictions = Words("", doc="What must hold before the content of a message is taken.")
    smtpd_end_of_data_restrictions = Words("", doc="What must hold when the content is there.")
    smtpd_etrn_restrictions = Words(
        "", doc="Who may have mail for a domain of fast_flush_domains tried with ETRN (RFC 1985)."
    )
    smtpd_relay_before_recipient_restrictions = Bool(
        "yes", doc="Judge smtpd_relay_restrictions before smtpd_recipient_restrictions; no: after them."
    )
    smtpd_restriction_classes = Words(
        "", doc="Names of lists of your own: each is a parameter that holds restrictions, and stands for them in lists."
    )
    smtpd_sender_login_maps = Tables(
        "",
        doc="Tables from a sender address to the login names that own it: reject_sender_login_mismatch and its kin.",
    )
    reject_code = _code("554", "of reject")
    defer_code = _code("450", "of defer")
    invalid_hostname_reject_code = _code("501", "of reject_invalid_helo_hostname")
    non_fqdn_reject_code = _code("504", "of reject_non_fqdn_sender and its kin")
    plaintext_reject_code = _code("450", "of reject_plaintext_session")
    unknown_address_reject_code = _code("450", "of reject_unknown_sender_domain and reject_unknown_recipient_domain")
    unknown_hostname_reject_code = _code("450", "of reject_unknown_helo_hostname")
    unknown_client_reject_code = _code("450", "of reject_unknown_client_hostname")
