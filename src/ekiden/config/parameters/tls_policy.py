"""What domains say of TLS with their servers, and what comes of it: DANE, MTA-STS, TLSRPT."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Duration, Group, Int, Size, SomeOf, Text

_LEVELS = ("may", "encrypt", "dane")


class TlsPolicyParameters(Group):
    smtp_tls_dane_insecure_mx_policy = Choice(
        "${{$smtp_tls_security_level} == {dane} ? {dane} : {may}}",
        *_LEVELS,
        doc="At level dane, what the TLSA records of a host are good for whose MX record DNSSEC does not prove: dane, "
        "encrypt (their presence asks for TLS), or may (nothing).",
    )
    tls_dane_digests = SomeOf(
        "sha512 sha256",
        ("sha512", "sha256"),
        doc="The digests of TLSA records that are used, the strongest first; of each usage and selector only the "
        "strongest that a server has counts (RFC 7671 §9).",
    )
    tls_required_enable = Bool(
        "yes",
        doc="A header field TLS-Required: No sets aside, for its message, what DANE and MTA-STS ask for (RFC 8689 §3); "
        "what smtp_tls_security_level and smtp_tls_policy_maps ask for stays.",
    )
    smtp_mta_sts_policy = Choice(
        "enforce",
        "none",
        "testing",
        "enforce",
        doc="What becomes of the MTA-STS policies of domains (RFC 8461) where smtp_tls_security_level is may, encrypt "
        "or dane: enforce does as they say, testing only reports, none does not look for any.",
    )
    smtp_mta_sts_timeout = Duration(
        "60s", minimum=1, doc="How long the fetch of an MTA-STS policy may take, look-up to last byte (RFC 8461 §3.3)."
    )
    smtp_mta_sts_size_limit = Size("65536", minimum=1024, doc="The longest MTA-STS policy that is taken, in bytes.")
    smtp_mta_sts_max_age_limit = Duration(
        "366d", minimum=1, doc="The longest time that an MTA-STS policy is kept, whatever its max_age says."
    )
    smtp_mta_sts_refresh_time = Duration(
        "1d",
        minimum=60,
        doc="An MTA-STS policy that is older is fetched anew before its time is over, used or not, so that nobody who "
        "blocks DNS can wait for its end (RFC 8461 §10.2).",
    )
    smtp_mta_sts_retry_time = Duration(
        "5m", doc="How long the fetch of an MTA-STS policy that failed is not tried again (RFC 8461 §3.3)."
    )
    smtp_mta_sts_cache_limit = Int(
        "10000", minimum=10, doc="The most domains whose MTA-STS policies are kept; those that end first leave first."
    )

    # Reports on TLS (RFC 8460).
    smtp_tlsrpt_enable = Bool(
        "no",
        doc="Count how TLS sessions with other servers end, and send domains that ask for it a report a day. "
        "(Postfix gives the counts to a library; here they are kept and reported by the server itself.)",
    )
    smtp_tlsrpt_skip_reused_handshakes = Bool(
        "no", doc="Leave out sessions whose handshake resumed one of before, which has been counted."
    )
    tlsrpt_organization_name = Text("$mydomain", doc="Who we are, in reports on TLS.")
    tlsrpt_contact_info = Text("postmaster@$mydomain", doc="Whom the readers of our reports on TLS may write to.")
    tlsrpt_sender = Text("postmaster@$mydomain", doc="The sender of the mail that holds a report on TLS.")
    tlsrpt_delay_limit = Duration(
        "4h", doc="Reports of a day leave at a random time within this long after its end (RFC 8460 §4.1)."
    )
    tlsrpt_timeout = Duration("60s", minimum=1, doc="How long a report on TLS may take by HTTPS.")
    tlsrpt_store_limit = Int(
        "100000", minimum=100, doc="The most different counts for reports on TLS, and the most received reports, kept."
    )
    tlsrpt_report_size_limit = Size(
        "10485760", minimum=1024, doc="The largest report on TLS that is taken from others, as mail and unpacked."
    )
