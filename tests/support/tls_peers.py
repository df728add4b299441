"""Both ends of TLS in one process: a client's contexts, and handshakes without a socket."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe.events import Event, Note
from ekiden.tls.key_files import KeyFileReader, KeyFiles
from ekiden.tls.layer import TlsFailure, TlsLayer
from ekiden.tls.server_context import ServerTls
from ekiden.tls.tickets import TicketKeys


def client_context(authority: Path | None = None, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    """``lowest`` and ``highest`` are versions; without an authority any certificate is taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(authority)
    if "lowest" in versions:
        context.minimum_version = versions["lowest"]
    if "highest" in versions:
        context.maximum_version = versions["highest"]
    return context


class Service:
    """TLS of a service by its parameters, and the log that it writes."""

    def __init__(self, settings: Mapping[str, str], *, tickets: TicketKeys | None = None, name: str = "smtp") -> None:
        self.parameters = Parameters({"smtpd_tls_security_level": "may", **settings})
        self.notes: list[str] = []
        self.now = 1000.0
        self.reader = KeyFileReader([self.parameters])
        self.tls = ServerTls(
            self.parameters,
            self.reader.read(),
            service=name,
            observer=self,
            tickets=tickets or TicketKeys(0.0),
            monotonic=lambda: self.now,
        )

    def emit(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.notes.append(event.text)

    def read(self) -> KeyFiles:
        return self.reader.read()

    def meet(self, client: ssl.SSLContext, name: str = "mx.test", session: ssl.SSLSession | None = None) -> Meeting:
        layer = self.tls.layer()
        assert layer is not None, self.notes
        meeting = Meeting(layer, client, name, session)
        self.facts_of(meeting)
        return meeting

    def facts_of(self, meeting: Meeting) -> TlsFacts:
        meeting.facts = self.tls.facts(meeting.layer)
        return meeting.facts


class Meeting:
    """One handshake, done. Raises TlsFailure or ssl.SSLError when it fails on either side."""

    facts: TlsFacts

    def __init__(self, layer: TlsLayer, client: ssl.SSLContext, name: str, session: ssl.SSLSession | None) -> None:
        self.layer = layer
        self._to_client, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self._to_client, self._to_server, server_hostname=name, session=session)
        done = False
        trouble: TlsFailure | None = None
        while not (done and layer.done):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
                done = True
            if layer.done:
                break
            data = self._to_server.read()
            if trouble is not None or not data:
                raise trouble or AssertionError("the client says nothing")
            try:
                layer.handshake(data)
            except TlsFailure as failure:
                trouble = failure  # the client learns it first
            self._to_client.write(layer.take_output())
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
        self.hear()

    def hear(self, data: bytes = b"") -> bytes:
        """What the server says, ``data`` the last of it; tickets of TLS 1.3 come with it."""
        self._to_client.write(self.layer.take_output() + data)
        with contextlib.suppress(ssl.SSLWantReadError):
            return self.client.read(65536)
        return b""

    def say(self, data: bytes) -> bytes:
        """What the server reads of it."""
        self.client.write(data)
        return self.layer.receive(self._to_server.read())

    @property
    def shown(self) -> str:
        """The common name of the server's certificate."""
        der = self.client.getpeercert(binary_form=True)
        assert der is not None
        from ekiden.tls.facts import certificate_of

        return certificate_of(der, "sha256").name
