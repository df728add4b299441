"""TLS of the SMTP server (smtpd(8), TLS_README)."""

from __future__ import annotations

from ekiden.config.registry import Bool, Choice, Duration, Group, Int, Tables, Text, Words


class SmtpdTlsParameters(Group):
    smtpd_tls_security_level = Choice(
        "",
        *("", "none", "may", "encrypt"),
        doc="none: no TLS; may: STARTTLS is offered; encrypt: nothing but EHLO, NOOP and QUIT goes without it. Empty: "
        "as smtpd_use_tls and smtpd_enforce_tls say.",
    )
    smtpd_use_tls = Bool("no", doc="The same as smtpd_tls_security_level = may, where that is empty.")
    smtpd_enforce_tls = Bool("no", doc="The same as smtpd_tls_security_level = encrypt, where that is empty.")
    smtpd_tls_wrappermode = Bool(
        "no", doc="The session begins with the TLS handshake, without STARTTLS: for port 465, by -o in master.cf."
    )
    smtpd_tls_chain_files = Words(
        "",
        doc="PEM files, each with a private key and behind it the certificate and those of its issuers; in place of "
        "the four below. Several keys of different kinds may be there.",
    )
    smtpd_tls_cert_file = Text(
        "", doc="A PEM file with the server's certificate, then those of its issuers; none: there is none."
    )
    smtpd_tls_key_file = Text("$smtpd_tls_cert_file", doc="The PEM file with the private key, without a password.")
    smtpd_tls_eccert_file = Text("", doc="A second certificate, with a key of another kind (ECDSA), as a PEM file.")
    smtpd_tls_eckey_file = Text("$smtpd_tls_eccert_file", doc="The private key of the second certificate.")
    smtpd_tls_CAfile = Text("", doc="A PEM file with the authorities that certificates of clients may come from.")  # noqa: N815
    smtpd_tls_CApath = Text("", doc="A directory with the same, a file each, named by hash (openssl rehash).")  # noqa: N815
    smtpd_tls_ask_ccert = Bool(
        "no", doc="Ask clients for a certificate. Any and none is taken; what it is worth shows in log and Received:."
    )
    smtpd_tls_req_ccert = Bool(
        "no",
        doc="Refuse clients without a certificate of a trusted authority. Only where TLS is obligatory: "
        "smtpd_tls_security_level = encrypt, or smtpd_tls_wrappermode.",
    )
    smtpd_tls_ccert_verifydepth = Int("9", doc="How many certificates may stand between a client's and the authority.")
    smtpd_tls_protocols = Text(
        ">=TLSv1.2", doc="The versions of TLS where it is not obligatory, as a list. Never below TLS 1.2."
    )
    smtpd_tls_mandatory_protocols = Text(
        ">=TLSv1.2", doc="The versions of TLS where it is obligatory, as a list. Never below TLS 1.2."
    )
    smtpd_tls_ciphers = Text("medium", doc="The grade of ciphers where TLS is not obligatory: medium or high.")
    smtpd_tls_mandatory_ciphers = Text("medium", doc="The grade of ciphers where TLS is obligatory: medium or high.")
    smtpd_tls_exclude_ciphers = Text("", doc="Ciphers, or kinds of them, that are never used with TLS 1.2.")
    smtpd_tls_mandatory_exclude_ciphers = Text("", doc="The same, besides those, where TLS is obligatory.")
    smtpd_tls_eecdh_grade = Choice(
        "auto",
        *("auto", "none", "strong", "ultra"),
        doc="The curves of the key exchange: tls_eecdh_auto_curves, tls_eecdh_strong_curve, tls_eecdh_ultra_curve, or "
        "with none no key exchange by curves in TLS 1.2.",
    )
    smtpd_tls_received_header = Bool("no", doc="Say in the Received: field how the connection was encrypted.")
    smtpd_tls_loglevel = Int(
        "0", maximum=4, doc="1 and more: each handshake is logged; 2 and more: the certificates of clients, too."
    )
    smtpd_tls_session_cache_timeout = Duration(
        "3600s", doc="How long a client may take up a TLS session of before; 0: never."
    )
    smtpd_tls_fingerprint_digest = Choice(
        "sha256",
        *("sha256", "sha384", "sha512", "sha3-256", "sha3-512", "sha1", "md5"),
        doc="The digest of the fingerprints of clients' certificates and keys.",
    )
    smtpd_starttls_timeout = Duration("300s", minimum=1, doc="How long a TLS handshake may take as a whole.")
    smtpd_client_new_tls_session_rate_limit = Int(
        "0",
        doc="How many TLS sessions one client may begin in an anvil_rate_time_unit, those that it takes up again not "
        "counted; 0 sets no limit.",
    )
    relay_clientcerts = Tables(
        "",
        doc="Tables from the fingerprint of a client's certificate, or of its public key, to anything: the clients "
        "that permit_tls_clientcerts permits, in smtpd_relay_restrictions say. They need smtpd_tls_ask_ccert = yes.",
    )
    tls_certificate_check_interval = Duration(
        "5s", minimum=1, doc="How often the files of certificates and keys are looked at for changes, without a reload."
    )
