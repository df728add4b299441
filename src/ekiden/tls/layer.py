"""TLS as a machine without a socket: encrypted bytes in, plain ones out, and the other way round.

    layer.handshake(data)   until it is True; what take_output() has goes to the other side after each step, and after
                            a failure too (an alert)
    layer.receive(data)     what the other side says
    layer.send(data)        what goes to the other side when we say that
    layer.close()           the farewell

Never: does I/O, keeps more than one record and what the handshake needs (OpenSSL bounds both).
"""

from __future__ import annotations

import ssl

from ekiden.tls.openssl import openssl

_RECORD_BYTES = 16_384  # RFC 8446 §5.1: the most plaintext of one record


class TlsFailure(Exception):
    """The handshake or the connection failed; the text is one line, in OpenSSL's words where it has some."""


class TlsLayer:
    __slots__ = ("_incoming", "_object", "_outgoing", "done", "ended", "verify_trouble")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """``session``: one of before, of the same context, that a client would resume."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname, session)
        self.done = False
        self.ended = False  # the other side said farewell: nothing more comes
        self.verify_trouble = ""  # why the other side's certificate is not trusted, where any is accepted

    @property
    def connection(self) -> ssl.SSLObject:
        """For the facts of the handshake."""
        return self._object

    def handshake(self, data: bytes = b"") -> bool:
        """Whether it is done. Raises TlsFailure."""
        self._incoming.write(data)
        library = openssl()
        if library is not None:
            library.begin_verifying()
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise TlsFailure(reason_of(error)) from error
        finally:
            if library is not None and library.verified_trouble:
                self.verify_trouble = library.verified_trouble
        self.done = True
        return True

    def receive(self, data: bytes) -> bytes:
        """The plaintext in it, which may be none. Raises TlsFailure."""
        self._incoming.write(data)
        pieces: list[bytes] = []
        try:
            while True:
                piece = self._object.read(_RECORD_BYTES)
                if not piece:
                    self.ended = True
                    break
                pieces.append(piece)
                # Each read gives a whole record. Without a look at what is left the end would cost an exception.
                if not self._incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            if not pieces:
                raise TlsFailure(reason_of(error)) from error
            # What came whole before is given out; the same error comes again at the next call.
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send(self, data: bytes) -> bytes:
        """What is to be written. Raises TlsFailure."""
        try:
            while data:
                sent = self._object.write(data)
                data = data[sent:] if sent < len(data) else b""
        except ssl.SSLError as error:
            raise TlsFailure(reason_of(error)) from error
        return self._outgoing.read()

    def close(self) -> None:
        """Say farewell (close_notify, RFC 8446 §6.1); that of the other side is not waited for."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the other side has not answered yet, or the connection has failed before

    def take_output(self) -> bytes:
        return self._outgoing.read() if self._outgoing.pending else b""


def reason_of(error: Exception) -> str:
    """What OpenSSL says of a failure, in words: ``wrong version number``."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "the connection was closed in the middle"
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if isinstance(reason, str) else str(error)
