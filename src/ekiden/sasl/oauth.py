"""Access tokens of OAuth 2.0: whose they are, by the issuer's keys (RFC 7519) or by its word (RFC 7662)."""

from __future__ import annotations

import base64
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.protocol.http import HttpResponse
from ekiden.sasl.accounts import AccountTrouble, Outcome, Verdict
from ekiden.sasl.token_claims import Demands, judge
from ekiden.sasl.token_keys import TokenKeys, TokenProblem
from ekiden.tls.https import HttpsClient, HttpsTrouble, authorities_context

_ANSWER_LIMIT = 262_144
_JSON = {"Accept": "application/json"}


class HttpsUrl(Struct, frozen=True):
    host: str
    port: int
    path: str


class _Demanding:
    """What clients are told of the tokens that count."""

    _demands: Demands

    @property
    def scope(self) -> str:
        return " ".join(self._demands.scopes)

    @property
    def discovery(self) -> str:
        return discovery_url(self._demands.issuer)


class JwtTokens(_Demanding):
    """Tokens that are signed; nobody is asked about them, so one that is revoked counts until it expires."""

    def __init__(self, keys: TokenKeys, demands: Demands, clock: Clock) -> None:
        self._keys, self._demands, self._clock = keys, demands, clock

    async def verify_token(self, token: str, name: str) -> Verdict:
        try:
            claims = await self._keys.claims(token)
        except TokenProblem as problem:
            return Verdict(Outcome.WRONG, "", f"a token that does not count: {problem}")
        return judge(claims, self._demands, self._clock.time())


class AskedTokens(_Demanding):
    """Tokens that the issuer is asked about, each time. ``ask`` posts the form and gives the answer."""

    def __init__(self, ask: Callable[[bytes], Awaitable[HttpResponse]], demands: Demands, clock: Clock) -> None:
        self._ask, self._demands, self._clock = ask, demands, clock

    async def verify_token(self, token: str, name: str) -> Verdict:
        """Raises AccountTrouble."""
        form = urlencode({"token": token, "token_type_hint": "access_token"}).encode("ascii")
        answer = await self._ask(form)
        if answer.status != 200:  # RFC 7662 §2.3: an unknown token is not an error, we are
            raise AccountTrouble(f"the issuer answers {answer.status} when it is asked about a token")
        try:
            claims = msgspec.json.decode(answer.body)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict) or not isinstance(claims.get("active"), bool):
            raise AccountTrouble("the issuer's answer about a token cannot be understood")
        if not claims["active"]:
            return Verdict(Outcome.WRONG, "", "a token that does not count: the issuer says so")
        return judge(claims, self._demands, self._clock.time(), issuer_needed=False)


def discovery_url(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def open_tokens(parameters: Parameters, clock: Clock) -> JwtTokens | AskedTokens | None:
    """None without sasl_oauth_issuer. Raises ConfigError, whose text begins with the parameter to mend."""
    issuer = parameters.sasl_oauth_issuer
    if not issuer:
        return None
    if not parameters.sasl_oauth_audience:
        raise ConfigError("sasl_oauth_audience = : must be set: else tokens for any other service were taken here")
    demands = Demands(
        issuer,
        parameters.sasl_oauth_audience,
        parameters.sasl_oauth_account_claim,
        parameters.sasl_oauth_scopes,
        parameters.sasl_oauth_leeway,
    )
    if bool(parameters.sasl_oauth_keys_url) == bool(parameters.sasl_oauth_introspection_url):
        name = "sasl_oauth_keys_url" if parameters.sasl_oauth_keys_url else "sasl_oauth_issuer"
        raise ConfigError(f"{name}: needs either sasl_oauth_keys_url or sasl_oauth_introspection_url, not both")
    try:
        context = authorities_context(parameters.sasl_oauth_ca_file)
    except OSError as error:
        problem = error.strerror or error
        raise ConfigError(f"sasl_oauth_ca_file = {parameters.sasl_oauth_ca_file}: {problem}") from error

    def client(url: HttpsUrl) -> HttpsClient:
        return HttpsClient(context, system_addresses, timeout_s=parameters.sasl_oauth_timeout, port=url.port)

    if parameters.sasl_oauth_introspection_url:
        url = parse_https_url("sasl_oauth_introspection_url", parameters.sasl_oauth_introspection_url)
        return AskedTokens(_asking(client(url), url, parameters.sasl_oauth_client_file), demands, clock)
    url = parse_https_url("sasl_oauth_keys_url", parameters.sasl_oauth_keys_url)
    try:
        keys = TokenKeys(_fetching(client(url), url), parameters.sasl_oauth_keys_time, clock.monotonic)
    except ConfigError as error:
        raise ConfigError(f"sasl_oauth_keys_url: {error.text}") from error
    return JwtTokens(keys, demands, clock)


def parse_https_url(name: str, text: str) -> HttpsUrl:
    """Raises ConfigError: a token must not pass in clear text, nor a key that is believed."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme != "https" or not host or parts.username is not None or parts.fragment or not is_plain:
        raise ConfigError(f"{name} = {text}: must be an address of the form https://host/path")
    return HttpsUrl(host, port, path or "/")


def _fetching(client: HttpsClient, url: HttpsUrl) -> Callable[[], Awaitable[bytes]]:
    async def fetch() -> bytes:
        try:
            answer = await client.get(url.host, url.path, limit=_ANSWER_LIMIT, fields=_JSON)
        except HttpsTrouble as error:
            raise AccountTrouble(f"the issuer's keys: {error}") from error
        if answer.status != 200:
            raise AccountTrouble(f"the issuer answers {answer.status} when it is asked for its keys")
        return answer.body

    return fetch


def _asking(client: HttpsClient, url: HttpsUrl, file: str) -> Callable[[bytes], Awaitable[HttpResponse]]:
    """The file is read anew each time: a secret may change."""

    async def ask(form: bytes) -> HttpResponse:
        fields = {**_JSON, "Content-Type": "application/x-www-form-urlencoded", **_authorization(file)}
        try:
            return await client.post(url.host, url.path, form, limit=_ANSWER_LIMIT, fields=fields, port=url.port)
        except HttpsTrouble as error:
            raise AccountTrouble(f"the issuer: {error}") from error

    return ask


def _authorization(file: str) -> dict[str, str]:
    """RFC 6749 §2.3.1. Raises AccountTrouble."""
    if not file:
        return {}
    try:
        line = Path(file).read_text("utf-8").split("\n")[0].strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise AccountTrouble(f"sasl_oauth_client_file = {file}: {reason}") from error
    name, colon, secret = line.partition(":")
    if not colon or not name:
        raise AccountTrouble(f"sasl_oauth_client_file = {file}: must hold a line NAME:SECRET")
    pair = f"{quote(name, safe='')}:{quote(secret, safe='')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"}


async def system_addresses(host: str) -> list[str]:
    """As the system looks names up. Raises OSError."""
    import asyncio

    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
