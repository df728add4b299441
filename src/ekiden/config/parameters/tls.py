"""TLS, as server and as client (postconf(5), tls_*)."""

from __future__ import annotations

from ekiden.config.registry import Bool, Group, SomeOf, Tables, Text, Words

# Those of tls_ssl_options that make nothing less safe, with OpenSSL's numbers (openssl/ssl.h); what others ask for is
# switched on in any case, or would reach below TLS 1.2.
SSL_OPTIONS = {
    "ENABLE_MIDDLEBOX_COMPAT": 1 << 20,
    "NO_COMPRESSION": 1 << 17,
    "NO_ENCRYPT_THEN_MAC": 1 << 19,
    "NO_RENEGOTIATION": 1 << 30,
    "NO_SESSION_RESUMPTION_ON_RENEGOTIATION": 1 << 16,
    "NO_TICKET": 1 << 14,
    "PRIORITIZE_CHACHA": 1 << 21,
}


class TlsParameters(Group):
    tls_high_cipherlist = Text(
        "aNULL:-aNULL:HIGH:@STRENGTH",
        doc="The ciphers of the grade high, as an OpenSSL cipher list for TLS 1.2. What is null, anonymous or broken "
        "(RC4, 3DES, MD5, export) never gets in.",
    )
    tls_medium_cipherlist = Text(
        "aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH",
        doc="The ciphers of the grade medium, which is the lowest there is, as an OpenSSL cipher list for TLS 1.2. "
        "What is null, anonymous or broken (RC4, 3DES, MD5, export) never gets in.",
    )
    tls_preempt_cipherlist = Bool(
        "no", doc="The server's order of ciphers decides, in place of the client's (TLS 1.2)."
    )
    tls_eecdh_auto_curves = Words(
        "X25519 X448 prime256v1 secp521r1 secp384r1", doc="The curves of the key exchange, the best first."
    )
    tls_eecdh_strong_curve = Text("prime256v1", doc="The one curve of smtpd_tls_eecdh_grade = strong.")
    tls_eecdh_ultra_curve = Text("secp384r1", doc="The one curve of smtpd_tls_eecdh_grade = ultra.")
    tls_ssl_options = SomeOf(
        "",
        sorted(SSL_OPTIONS),
        doc="Options of OpenSSL that are switched on besides those that are always on.",
    )
    tls_append_default_CA = Bool("no", doc="The system's authorities are trusted besides those that are named.")  # noqa: N815
    tls_server_sni_maps = Tables(
        "",
        doc="Tables from the name that a client asks for (SNI), or .domain for the names below it, to the PEM files "
        "(as smtpd_tls_chain_files) of the certificate that it gets. They must be local tables that can be listed: "
        "hash, btree, cdb, lmdb, texthash, inline.",
    )
