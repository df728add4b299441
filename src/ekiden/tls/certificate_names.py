"""The names that a certificate gives its holder, and whether one of them is the one that was wanted (RFC 9525 §6).

In:   a certificate; the names of a host in A-labels, without a trailing dot.
Out:  the DNS names of its subjectAltName, or its common name where it has none; yes or no.
Never: raises for any certificate, takes "*" for more than the whole leftmost label.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID

_NAMES_LIMIT = 1000  # of one certificate


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """In lower case. The common name counts only where there is no DNS name (RFC 6125 §6.4.4)."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternative.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        try:
            common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except ValueError:
            return ()
        names = [str(attribute.value) for attribute in common[:1]]
    return tuple(name.lower().removesuffix(".") for name in names[:_NAMES_LIMIT])


def has_name(certificate: x509.Certificate, wanted: Iterable[str]) -> bool:
    """One of the certificate's names is one of ``wanted``."""
    theirs = names_of(certificate)
    return any(name_matches(presented, name) for name in wanted for presented in theirs)


def name_matches(presented: str, wanted: str) -> bool:
    """``presented`` is a certificate's, with ``*`` for a whole first label (RFC 9525 §6.3)."""
    wanted = wanted.lower().removesuffix(".")
    if "\0" in presented or not wanted:
        return False
    if presented.startswith("*."):
        label, dot, rest = wanted.partition(".")
        # "*.com" names nobody in particular.
        return bool(label and dot) and "." in rest and rest == presented[2:]
    return presented == wanted


def mail_addresses_of(der: bytes) -> tuple[str, ...]:
    """The e-mail addresses (rfc822Name) among the alternative names of a certificate; none where it cannot be read."""
    try:
        found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(found.value.get_values_for_type(x509.RFC822Name)[:_NAMES_LIMIT])
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
