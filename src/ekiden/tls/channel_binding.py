"""Channel bindings: data that only the two ends of one TLS connection have (RFC 5056; RFC 5929, RFC 9266).

``tls-unique`` is for TLS 1.2 and older (RFC 8446 appendix C.5), ``tls-exporter`` for all versions from 1.3 on, and
``tls-server-end-point`` is the hash of the server's certificate.

The ssl module knows ``tls-unique`` alone. The others are OpenSSL's to give, so its own functions are called on the
connection behind an SSLObject. Where that lies in memory is CPython's matter: what is there is compared with what the
object itself says, and where that differs in the least (another interpreter, another OpenSSL) there are no such
bindings. Nothing is called then.
"""

from __future__ import annotations

import ctypes
import functools
import ssl
import sys
from collections.abc import Mapping

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 §2
_EXPORTER_BYTES = 32
_WORD = ctypes.sizeof(ctypes.c_void_p)
_HEAD = object.__basicsize__
# _ssl.c: struct { PyObject_HEAD; PyObject *Socket; SSL *ssl; PySSLContext *ctx; ... }
_CONNECTION_AT = _HEAD + _WORD
_CONTEXT_AT = _HEAD + 2 * _WORD


def channel_bindings(connection: ssl.SSLObject | ssl.SSLSocket, *, is_server: bool) -> Mapping[str, bytes]:
    """What this end knows of the connection, by kind; kinds that cannot be had are missing."""
    found: dict[str, bytes] = {}
    modern = connection.version() == "TLSv1.3"
    if not modern and (unique := connection.get_channel_binding("tls-unique")):
        found["tls-unique"] = unique
    if modern and (exported := _exported(connection)):
        found["tls-exporter"] = exported
    certificate = _own_certificate(connection) if is_server else connection.getpeercert(binary_form=True)
    if certificate and (end_point := certificate_binding(certificate)):
        found["tls-server-end-point"] = end_point
    return found


@functools.lru_cache(maxsize=32)
def certificate_binding(der: bytes) -> bytes:
    """``tls-server-end-point`` of a server's certificate (RFC 5929 §4.1); b"" where none is defined."""
    try:
        algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return b""
    if algorithm is None:  # Ed25519 and the like sign without a hash of their own: undefined
        return b""
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(der)
    return digest.finalize()


def _exported(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """``tls-exporter`` (RFC 9266 §2: a zero-length context); b"" where it cannot be had."""
    library, address = _openssl(), _address(connection)
    if library is None or not address:
        return b""
    output = ctypes.create_string_buffer(_EXPORTER_BYTES)
    label = _EXPORTER_LABEL
    done = library.SSL_export_keying_material(address, output, _EXPORTER_BYTES, label, len(label), b"", 0, 1)
    return output.raw if done == 1 else b""


def _own_certificate(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The certificate that we showed in this connection, of all those that we have; b"" where it cannot be had."""
    library, address = _openssl(), _address(connection)
    if library is None or not address:
        return b""
    certificate = library.SSL_get_certificate(address)  # not ours to free
    if not certificate:
        return b""
    size = library.i2d_X509(certificate, None)
    if size <= 0:
        return b""
    output = ctypes.create_string_buffer(size)
    at = ctypes.cast(output, ctypes.c_void_p)
    return output.raw if library.i2d_X509(certificate, ctypes.byref(at)) == size else b""


@functools.cache
def _openssl() -> ctypes.PyDLL | None:
    """OpenSSL as the ssl module has it loaded; None where it cannot be reached."""
    if sys.implementation.name != "cpython":
        return None
    try:
        import _ssl

        library = ctypes.PyDLL(_ssl.__file__)  # with the libraries that it was linked to
        export, certificate, encode = library.SSL_export_keying_material, library.SSL_get_certificate, library.i2d_X509
    except (ImportError, AttributeError, OSError):
        return None
    pointer, size, text, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int
    export.argtypes, export.restype = [pointer, pointer, size, text, size, text, size, number], number
    certificate.argtypes, certificate.restype = [pointer], pointer
    encode.argtypes, encode.restype = [pointer, pointer], number
    return library


def _address(connection: ssl.SSLObject | ssl.SSLSocket) -> int:
    """Where OpenSSL's connection lies; 0 where this is not known for certain."""
    inner = getattr(connection, "_sslobj", None)
    if inner is None or type(inner).__basicsize__ < _CONTEXT_AT + _WORD:
        return 0
    context = ctypes.c_void_p.from_address(id(inner) + _CONTEXT_AT).value
    if context != id(inner.context):
        return 0
    return ctypes.c_void_p.from_address(id(inner) + _CONNECTION_AT).value or 0
