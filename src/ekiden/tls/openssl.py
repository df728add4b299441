"""What OpenSSL has for server contexts and Python's ssl module has no name for, called in the library itself.

    accept_any_certificate   a client's certificate that no authority vouches for is no reason to refuse the handshake:
                             its fingerprint may be what counts (relay_clientcerts)
    set_ticket_keys          the keys of session tickets, so that all workers know a session of one
    set_groups               several curves for the key exchange
    set_session_timeout, set_verify_depth, set_session_context, forget_sessions

The context is found where CPython keeps it: it is the first field of the object behind ssl.SSLContext, as in every
release from 3.11 to 3.14. On another interpreter, or where a first look at it does not give the values that Python
itself gives, openssl() is None, and the settings that need it are not there.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
import threading
from functools import cache

_VERSIONS = ((3, 11), (3, 14))  # whose object was looked at, both ends included
_HEADER_BYTES = object.__basicsize__

# openssl/ssl.h
_CTRL_SET_SESS_CACHE_MODE = 44
_CTRL_GET_TICKET_KEYS = 58
_CTRL_SET_TICKET_KEYS = 59
_CTRL_SET_GROUPS_LIST = 92
_SESS_CACHE_OFF = 0
_VERIFY_PEER = 1
SESSION_CONTEXT_BYTES = 32

_VerifyCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class _Verified(threading.local):
    """What was wrong with the certificates of the handshake that this thread is in; "" for nothing."""

    trouble = ""


_verified = _Verified()


class OpenSsl:
    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises AttributeError when the library lacks a function."""
        pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
        self._control = library.SSL_CTX_ctrl
        self._control.argtypes, self._control.restype = [pointer, number, long, pointer], long
        self._options = library.SSL_CTX_get_options
        self._options.argtypes, self._options.restype = [pointer], ctypes.c_uint64
        self._verify_mode = library.SSL_CTX_get_verify_mode
        self._verify_mode.argtypes, self._verify_mode.restype = [pointer], number
        self._set_verify = library.SSL_CTX_set_verify
        self._set_verify.argtypes, self._set_verify.restype = [pointer, number, _VerifyCallback], None
        self._set_depth = library.SSL_CTX_set_verify_depth
        self._set_depth.argtypes, self._set_depth.restype = [pointer, number], None
        self._set_timeout = library.SSL_CTX_set_timeout
        self._set_timeout.argtypes, self._set_timeout.restype = [pointer, long], long
        self._set_session_context = library.SSL_CTX_set_session_id_context
        self._set_session_context.argtypes = [pointer, ctypes.c_char_p, ctypes.c_uint]
        self._store_error = library.X509_STORE_CTX_get_error
        self._store_error.argtypes, self._store_error.restype = [pointer], number
        self._error_text = library.X509_verify_cert_error_string
        self._error_text.argtypes, self._error_text.restype = [long], ctypes.c_char_p
        self._note = _VerifyCallback(self._noted)  # OpenSSL calls it as long as contexts live

    def knows(self, context: ssl.SSLContext) -> bool:
        """Whether the context is where it is looked for."""
        pointer = _pointer(context)
        if pointer is None:
            return False
        options: int = self._options(pointer) & 0xFFFFFFFF
        mode: int = self._verify_mode(pointer)
        return options == int(context.options) & 0xFFFFFFFF and mode == 0

    def accept_any_certificate(self, context: ssl.SSLContext) -> None:
        """Ask the other side for a certificate, and take any and none: verified_trouble() says what is to be said."""
        self._set_verify(_pointer(context), _VERIFY_PEER, self._note)

    def begin_verifying(self) -> None:
        """Before each step of a handshake."""
        _verified.trouble = ""

    @property
    def verified_trouble(self) -> str:
        """Why the certificate that came in the last step is not to be trusted; "" for one that is, or none."""
        return _verified.trouble

    def set_verify_depth(self, context: ssl.SSLContext, depth: int) -> None:
        self._set_depth(_pointer(context), depth)

    def set_groups(self, context: ssl.SSLContext, names: list[str]) -> bool:
        """Curves and groups for the key exchange, the best first. False when OpenSSL does not know one."""
        return bool(
            self._control(_pointer(context), _CTRL_SET_GROUPS_LIST, 0, ":".join(names).encode("ascii", "replace"))
        )

    def set_session_timeout(self, context: ssl.SSLContext, seconds: int) -> None:
        self._set_timeout(_pointer(context), seconds)

    def set_session_context(self, context: ssl.SSLContext, name: bytes) -> None:
        """Sessions of contexts with another name are not taken up here."""
        self._set_session_context(_pointer(context), name, len(name))

    def forget_sessions(self, context: ssl.SSLContext) -> None:
        """Keep no sessions in memory; tickets are not touched by that."""
        self._control(_pointer(context), _CTRL_SET_SESS_CACHE_MODE, _SESS_CACHE_OFF, None)

    def ticket_key_bytes(self, context: ssl.SSLContext) -> int:
        size: int = self._control(_pointer(context), _CTRL_GET_TICKET_KEYS, 0, None)
        return size

    def set_ticket_keys(self, context: ssl.SSLContext, keys: bytes) -> bool:
        return bool(self._control(_pointer(context), _CTRL_SET_TICKET_KEYS, len(keys), keys) == 1)

    def _noted(self, trusted: int, store: int) -> int:
        if not trusted:
            text: bytes = self._error_text(self._store_error(store))
            _verified.trouble = _verified.trouble or text.decode("ascii", "replace")
        return 1


@cache
def openssl() -> OpenSsl | None:
    """None where the library cannot be reached safely."""
    if sys.implementation.name != "cpython" or not _VERSIONS[0] <= sys.version_info[:2] <= _VERSIONS[1]:
        return None
    try:
        import _ssl

        library = OpenSsl(ctypes.CDLL(_ssl.__file__))
        sample = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        sample.options |= ssl.OP_NO_TICKET
        return library if library.knows(sample) else None
    except (AttributeError, ImportError, OSError):  # OpenSSL is a part of the interpreter itself, say
        return None


def _pointer(context: ssl.SSLContext) -> int | None:
    return ctypes.c_void_p.from_address(id(context) + _HEADER_BYTES).value
