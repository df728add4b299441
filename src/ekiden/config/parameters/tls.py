"""TLS, as server and as client (postconf(5), tls_*)."""

from __future__ import annotations

from ekiden.config.registry import Group, Text


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
