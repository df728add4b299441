"""A FakePeer that knows TLS: by STARTTLS, or from the first byte on, with a certificate that the test chooses."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from support.certificates import Authority, Pair
from support.fake_peer import Act, Answer, FakePeer, Script

EHLO = b"250-fake.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-STARTTLS\r\n250 8BITMIME\r\n"
AFTER = b"250-fake.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250 8BITMIME\r\n"


def server_context(folder: Path, pair: Pair, *, asks: Authority | None = None) -> ssl.SSLContext:
    """``asks``: for a certificate of this authority."""
    certificate, key = pair.write(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if asks is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=asks.pem.decode())
    return context


class TlsPeer(FakePeer):
    """``handshakes`` holds each connection that is encrypted; ``names`` the SNI of each."""

    def __init__(
        self,
        context: ssl.SSLContext,
        script: Script | None = None,
        *,
        path: str = "",
        name: str = "fake.example",
        implicit: bool = False,
    ) -> None:
        own: dict[str, Answer | list[Answer]] = {"EHLO": EHLO, "LHLO": EHLO, "STAR": b"220 2.0.0 go ahead\r\n"}
        if implicit:
            own = {"EHLO": AFTER, "LHLO": AFTER}
        super().__init__({**own, **(script or {})}, path=path, name=name)
        self._context = context
        self._implicit = implicit
        self.handshakes: list[ssl.SSLObject] = []
        self.names: list[str | None] = []
        context.sni_callback = lambda _connection, name, _context: self.names.append(name)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._implicit:
            await self._encrypt(writer)
        await super()._converse(reader, writer)

    async def _answer(
        self, verb: str, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        encrypted = writer.get_extra_info("ssl_object") is not None
        if encrypted and verb in ("EHLO", "LHLO") and self._script[verb] == EHLO:
            writer.write(AFTER)
            await writer.drain()
            return AFTER
        said = await super()._answer(verb, line, reader, writer)
        if verb == "STAR" and said.startswith(b"220"):
            await self._encrypt(writer)
        return said

    async def _encrypt(self, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(self._context)
        except ssl.SSLError as error:
            raise ConnectionError from error
        self.handshakes.append(writer.get_extra_info("ssl_object"))


__all__ = ["AFTER", "EHLO", "Act", "TlsPeer", "server_context"]
