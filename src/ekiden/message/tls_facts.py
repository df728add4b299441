"""What is known of an encrypted connection: for Received:, log, policy and the names that certificates give."""

from __future__ import annotations

from msgspec import Struct


class TlsFacts(Struct, frozen=True, omit_defaults=True):
    """The outcome of a handshake. ``fingerprints`` of the peer's certificate are in upper case with colons."""

    protocol: str  # "TLSv1.3"
    cipher: str  # OpenSSL's name: "TLS_AES_256_GCM_SHA384"
    bits: int = 0  # of the cipher's key
    peer_name: str = ""  # common name of the peer's certificate; "" when it showed none
    issuer: str = ""  # common name of who issued that certificate
    fingerprint: str = ""  # of the certificate
    key_fingerprint: str = ""  # of its public key (SubjectPublicKeyInfo)
    trusted: bool = False  # the certificate's chain ends at an authority that we trust
    verified: bool = False  # ... and its name is the one that was wanted, or its fingerprint is (DANE too)
    resumed: bool = False  # a session of before
    server_name: str = ""  # the SNI that was sent

    @property
    def trust(self) -> str:
        """How far the peer is known, in the mail log's word."""
        if self.verified:
            return "Verified"
        if self.trusted:
            return "Trusted"
        return "Untrusted" if self.fingerprint else "Anonymous"

    @property
    def summary(self) -> str:
        """``verified TLSv1.3 TLS_AES_256_GCM_SHA384``."""
        return f"{self.trust.lower()} {self.protocol} {self.cipher}"
