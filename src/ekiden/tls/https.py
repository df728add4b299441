"""An HTTPS client for the few things that a mail server fetches and posts: policies, reports, tokens (RFC 9110).

In:   a TLS context, a way to look up addresses; host, path, body; limits of size and time.
Out:  an HttpResponse whatever its status; HttpsTrouble, which says whether it was the certificate.
Never: follows a redirect, takes more than the limit, asks another host than it was told to, speaks without TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ekiden.protocol.http import HttpError, HttpResponse, ResponseReader, request

_READ_BYTES = 16 * 1024
_ADDRESSES_LIMIT = 4

Addresses = Callable[[str], Awaitable[Sequence[str]]]


class HttpsTrouble(Exception):
    """Nothing was answered. ``by_certificate``: the server could not show who it is."""

    def __init__(self, text: str, *, by_certificate: bool = False) -> None:
        super().__init__(text)
        self.by_certificate = by_certificate


class HttpsClient:
    """``addresses`` gives the addresses of a host's name, and raises OSError or TimeoutError when there are none.

    ``timeout_s`` is for one whole exchange, from look-up to the last byte.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        addresses: Addresses,
        *,
        timeout_s: float,
        port: int = 443,
        agent: str = "Ekiden",
    ) -> None:
        self._context = context
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._port = port
        self._agent = agent

    async def get(self, host: str, path: str, *, limit: int, fields: Mapping[str, str] | None = None) -> HttpResponse:
        """``limit``: of the body, in bytes. Raises HttpsTrouble."""
        return await self._exchange("GET", host, self._port, path, fields or {}, b"", limit)

    async def post(
        self, host: str, path: str, body: bytes, *, limit: int, fields: Mapping[str, str], port: int | None = None
    ) -> HttpResponse:
        """Raises HttpsTrouble."""
        return await self._exchange("POST", host, self._port if port is None else port, path, fields, body, limit)

    async def _exchange(
        self, method: str, host: str, port: int, path: str, fields: Mapping[str, str], body: bytes, limit: int
    ) -> HttpResponse:
        try:
            asked = request(
                method,
                host if port == 443 else f"{host}:{port}",
                path,
                {"User-Agent": self._agent, "Accept-Encoding": "identity", **fields},
                body,
            )
            async with asyncio.timeout(self._timeout_s):
                return await self._converse(host, port, asked, limit)
        except TimeoutError:
            raise HttpsTrouble(f"{host}: no whole answer within {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise HttpsTrouble(f"{host}: {error.verify_message}", by_certificate=True) from error
        except (OSError, HttpError, ValueError) as error:  # ssl.SSLError is an OSError
            raise HttpsTrouble(f"{host}: {error}") from error

    async def _converse(self, host: str, port: int, asked: bytes, limit: int) -> HttpResponse:
        reader, writer = await self._connect(host, port)
        try:
            writer.write(asked)
            answer = ResponseReader(limit)
            while answer.response is None:
                data = await reader.read(_READ_BYTES)
                if not data:
                    return answer.end()
                answer.feed(data)
            return answer.response
        finally:
            # Nothing more is wanted of the server, its goodbye neither.
            writer.transport.abort()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        problem: OSError | None = None
        for address in tuple(await self._addresses(host))[:_ADDRESSES_LIMIT]:
            try:
                return await asyncio.open_connection(address, port, ssl=self._context, server_hostname=host)
            except ssl.SSLError:
                raise
            except OSError as error:
                problem = error
        raise problem if problem is not None else OSError("the name has no address")


def authorities_context(ca_file: str = "", ca_path: str = "") -> ssl.SSLContext:
    """The system's authorities, and those of the files beside them. TLS 1.2 is the floor (RFC 8996). Raises OSError."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file or ca_path:
        context.load_verify_locations(ca_file or None, ca_path or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
