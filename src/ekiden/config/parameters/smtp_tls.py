"""TLS towards other servers (smtp(8), TLS_README): the lmtp parameters mean for LMTP what their smtp twins mean."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Duration, Group, Int, Tables, Text, Words

_LEVELS = ("", "none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure")
_TWIN = "What the smtp_ parameter of this name is, for LMTP."


class SmtpTlsParameters(Group):
    # What is asked of a server.
    smtp_tls_security_level = Choice(
        "may",
        *_LEVELS,
        doc="What TLS to other servers must be: none; may (if the server offers it, with plain text as the way out); "
        "encrypt; dane and dane-only (as DNS says); fingerprint; verify; secure. Empty: as smtp_use_tls and "
        "smtp_enforce_tls say.",
    )
    lmtp_tls_security_level = Choice("", *_LEVELS, doc=_TWIN)
    smtp_use_tls = Bool("no", doc="The old way to write smtp_tls_security_level = may, where that is empty.")
    lmtp_use_tls = Bool("no", doc=_TWIN)
    smtp_enforce_tls = Bool(
        "no",
        doc="The old way to write smtp_tls_security_level = verify, or encrypt without smtp_tls_enforce_peername, "
        "where that is empty.",
    )
    lmtp_enforce_tls = Bool("no", doc=_TWIN)
    smtp_tls_enforce_peername = Bool("yes", doc="With smtp_enforce_tls: the server's certificate must have its name.")
    lmtp_tls_enforce_peername = Bool("yes", doc=_TWIN)
    smtp_tls_policy_maps = Tables(
        "",
        doc="Tables from a next hop, as routes write it, or a parent domain with its dot, to a level of its own, with "
        "match=, protocols=, ciphers=, exclude=, servername=, tafile= and connection_reuse= after it.",
    )
    lmtp_tls_policy_maps = Tables("", doc=_TWIN)
    smtp_tls_per_site = Tables(
        "",
        doc="The old way to write smtp_tls_policy_maps, where that is empty: tables from a next hop or a server's name "
        "to NONE, MAY, MUST_NOPEERMATCH (encrypt) or MUST (verify).",
    )
    lmtp_tls_per_site = Tables("", doc=_TWIN)
    smtp_tls_wrappermode = Bool(
        "no", doc="TLS begins with the connection (port 465), without STARTTLS; the level is encrypt at least."
    )
    lmtp_tls_wrappermode = Bool("no", doc=_TWIN)

    # Who a server is.
    smtp_tls_verify_cert_match = Words(
        "hostname", doc="What the certificate may be called at level verify: hostname, nexthop, dot-nexthop, or names."
    )
    lmtp_tls_verify_cert_match = Words("hostname", doc=_TWIN)
    smtp_tls_secure_cert_match = Words(
        "nexthop, dot-nexthop", doc="What the certificate may be called at level secure, which does not believe DNS."
    )
    lmtp_tls_secure_cert_match = Words("nexthop", doc=_TWIN)
    smtp_tls_fingerprint_cert_match = Words(
        "", doc="The digests, of certificates or public keys, that level fingerprint knows servers by."
    )
    lmtp_tls_fingerprint_cert_match = Words("", doc=_TWIN)
    smtp_tls_fingerprint_digest = Text("sha256", doc="The algorithm of those digests.")
    lmtp_tls_fingerprint_digest = Text("sha256", doc=_TWIN)
    smtp_tls_CAfile = Text("", doc="A file with the certificates of the authorities that are trusted.")  # noqa: N815
    lmtp_tls_CAfile = Text("", doc=_TWIN)  # noqa: N815
    smtp_tls_CApath = Text("", doc="A directory, prepared by openssl rehash, of authorities that are trusted.")  # noqa: N815
    lmtp_tls_CApath = Text("", doc=_TWIN)  # noqa: N815
    smtp_tls_trust_anchor_file = Text(
        "", doc="A file with certificates that are trusted in place of all authorities, at levels verify and secure."
    )
    lmtp_tls_trust_anchor_file = Text("", doc=_TWIN)
    smtp_tls_scert_verifydepth = Int("9", doc="The most authorities between a server's certificate and a trusted one.")
    lmtp_tls_scert_verifydepth = Int("9", doc=_TWIN)
    smtp_tls_servername = Text(
        "", doc="The name that the handshake asks for (SNI): hostname, nexthop, or a name; empty: none."
    )
    lmtp_tls_servername = Text("", doc=_TWIN)
    tls_wildcard_matches_multiple_labels = Bool(
        "yes", doc="*.example.com in a server's certificate stands for a.b.example.com too, not only for a.example.com."
    )

    # Who we are.
    smtp_tls_cert_file = Text("", doc="The certificate that is shown to a server that asks, with its chain.")
    lmtp_tls_cert_file = Text("", doc=_TWIN)
    smtp_tls_key_file = Text("$smtp_tls_cert_file", doc="The private key of smtp_tls_cert_file.")
    lmtp_tls_key_file = Text("$lmtp_tls_cert_file", doc=_TWIN)
    smtp_tls_eccert_file = Text("", doc="A second certificate, of another kind of key.")
    lmtp_tls_eccert_file = Text("", doc=_TWIN)
    smtp_tls_eckey_file = Text("$smtp_tls_eccert_file", doc="The private key of smtp_tls_eccert_file.")
    lmtp_tls_eckey_file = Text("$lmtp_tls_eccert_file", doc=_TWIN)
    smtp_tls_chain_files = Words(
        "", doc="Files of a key and the certificates that go with it, in place of the four above."
    )
    lmtp_tls_chain_files = Words("", doc=_TWIN)

    # How it is spoken.
    smtp_tls_protocols = Text(">=TLSv1.2", doc="The versions of TLS at level may; none below 1.2 is ever used.")
    lmtp_tls_protocols = Text(">=TLSv1.2", doc=_TWIN)
    smtp_tls_mandatory_protocols = Text(">=TLSv1.2", doc="The versions of TLS from level encrypt on.")
    lmtp_tls_mandatory_protocols = Text(">=TLSv1.2", doc=_TWIN)
    smtp_tls_ciphers = Text("medium", doc="The grade of the ciphers at level may: high or medium.")
    lmtp_tls_ciphers = Text("medium", doc=_TWIN)
    smtp_tls_mandatory_ciphers = Text("medium", doc="The grade of the ciphers from level encrypt on.")
    lmtp_tls_mandatory_ciphers = Text("medium", doc=_TWIN)
    smtp_tls_exclude_ciphers = Text("", doc="Ciphers and kinds of ciphers that are not used, at any level.")
    lmtp_tls_exclude_ciphers = Text("", doc=_TWIN)
    smtp_tls_mandatory_exclude_ciphers = Text("", doc="Ciphers that are not used from level encrypt on.")
    lmtp_tls_mandatory_exclude_ciphers = Text("", doc=_TWIN)
    smtp_starttls_timeout = Duration("300s", minimum=1, doc="How long STARTTLS may take, and then the handshake.")
    lmtp_starttls_timeout = Duration("300s", minimum=1, doc=_TWIN)
    smtp_tls_session_cache_database = Text(
        "",
        doc="Sessions are resumed: any name, such as Postfix's, will do, for each worker keeps them in memory.",
    )
    lmtp_tls_session_cache_database = Text("", doc=_TWIN)
    smtp_tls_session_cache_timeout = Duration("3600s", minimum=1, doc="How long a session may be resumed.")
    lmtp_tls_session_cache_timeout = Duration("3600s", minimum=1, doc=_TWIN)
    smtp_tls_connection_reuse = Bool("yes", doc="Keep an encrypted connection too open for the next message.")
    lmtp_tls_connection_reuse = Bool("yes", doc=_TWIN)

    # What is said of it.
    smtp_tls_loglevel = Int(
        "0", maximum=4, doc="1: log each TLS connection that is made, and why a certificate is no good; 0: neither."
    )
    lmtp_tls_loglevel = Int("0", maximum=4, doc=_TWIN)
    smtp_tls_note_starttls_offer = Bool("no", doc="Log the servers that offer STARTTLS where TLS is not used.")
    lmtp_tls_note_starttls_offer = Bool("no", doc=_TWIN)
