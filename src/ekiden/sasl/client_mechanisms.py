"""The client's side of SASL mechanisms, each a small machine (RFC 4422 §3): challenges in, responses out, no I/O.

    exchange = exchange_of("SCRAM-SHA-256", Credentials("user", "password"), Channel(...))

Never: gives out a password that a stronger mechanism keeps, goes on when the server breaks the mechanism's rules, says
that all is well (``complete``) before a server of SCRAM has shown that it knows the password too.
"""

from __future__ import annotations

import base64
import functools
import hmac
import secrets
from collections.abc import Callable, Mapping

from msgspec import Struct

from ekiden.protocol.smtp.client_login import Exchange, LoginProblem
from ekiden.sasl import scram
from ekiden.sasl.exchange import MechanismTraits
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.scram import ScramHash, ScramSyntax


class Credentials(Struct, frozen=True):
    """Who we are to a server. The password, or token, is shown to nobody."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r}, ***)"


class Channel(Struct, frozen=True):
    """What a mechanism may depend on of the connection."""

    bindings: Mapping[str, bytes] = {}  # tls.channel_binding: kind to data
    has_certificate: bool = False  # we can show one of ours
    host: str = ""
    port: int = 0
    offered: frozenset[str] = frozenset()  # the server's mechanisms


# More would keep the loop, and all other mail with it, busy for a server's pleasure.
ITERATIONS_CEILING = 200_000

# Kinds of channel binding, the best first (RFC 9266 §2; tls-server-end-point says the least).
BINDINGS = ("tls-exporter", "tls-unique", "tls-server-end-point")


class Plain:
    """RFC 4616."""

    mechanism = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self.initial: bytes | None = f"\0{credentials.user}\0{credentials.password}".encode()
        self.complete = True

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        return LoginProblem("PLAIN has no challenge")


class Login:
    """What everybody does, and no RFC describes: two questions, whatever their text, for user and password."""

    mechanism = "LOGIN"
    initial = None

    def __init__(self, credentials: Credentials) -> None:
        self._answers = [credentials.password.encode(), credentials.user.encode()]

    @property
    def complete(self) -> bool:
        return not self._answers

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        return self._answers.pop() if self._answers else LoginProblem("LOGIN has two challenges")


class CramMd5:
    """RFC 2195 §2."""

    mechanism = "CRAM-MD5"
    initial = None

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.complete = False

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        if self.complete or not challenge:
            return LoginProblem("CRAM-MD5 has one challenge")
        self.complete = True
        digest = hmac.new(self._credentials.password.encode(), challenge, "md5").hexdigest()
        return f"{self._credentials.user} {digest}".encode()


class External:
    """RFC 4422 appendix A: the server knows us by our certificate; the name is whom we would be, empty for that."""

    mechanism = "EXTERNAL"

    def __init__(self, credentials: Credentials) -> None:
        self.initial: bytes | None = credentials.user.encode()
        self.complete = True

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        return LoginProblem("EXTERNAL has no challenge")


class _Bearer:
    """The password is an access token. What follows a refusal is the server's reason, which wants a last word."""

    mechanism = ""
    _last = b""

    def __init__(self, initial: str) -> None:
        self.initial: bytes | None = initial.encode()
        self.complete = True

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        if not self.complete:
            return LoginProblem(f"{self.mechanism} has no second challenge")
        self.complete = False  # a success after a reason for failure is none
        return self._last


class OAuthBearer(_Bearer):
    """RFC 7628 §3.1, §3.2.3."""

    mechanism = "OAUTHBEARER"
    _last = b"\1"

    def __init__(self, credentials: Credentials, channel: Channel) -> None:
        name = credentials.user.replace("=", "=3D").replace(",", "=2C")
        where = f"\1host={channel.host}\1port={channel.port}" if channel.host else ""
        super().__init__(f"n,a={name},{where}\1auth=Bearer {credentials.password}\1\1")


class XOAuth2(_Bearer):
    """OAUTHBEARER as it was before the RFC."""

    mechanism = "XOAUTH2"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(f"user={credentials.user}\1auth=Bearer {credentials.password}\1\1")


def random_nonce() -> str:
    return base64.b64encode(secrets.token_bytes(24)).decode("ascii")


class ScramClient:
    """RFC 5802 §5; with ``-PLUS`` the exchange is bound to its TLS connection (§6). ``nonce``: 128 bits at least.

    Raises ValueError for a name that has no form in SASLprep.
    """

    def __init__(
        self, mechanism: str, credentials: Credentials, channel: Channel, *, nonce: Callable[[], str] = random_nonce
    ) -> None:
        algorithm = scram.hash_of(mechanism)
        assert algorithm is not None  # who chose this class knew the mechanism
        self.mechanism = mechanism
        self._hash: ScramHash = algorithm
        self._password = credentials.password
        self._binding_data = b""
        flag = binding = ""
        if mechanism.endswith("-PLUS"):
            flag, binding = "p", next(kind for kind in BINDINGS if kind in channel.bindings)
            self._binding_data = channel.bindings[binding]
        else:
            # §6: y says that we know bindings and were offered none, so that nobody between us can hide an offer.
            offered = any(name.startswith("SCRAM-") and name.endswith("-PLUS") for name in channel.offered)
            flag = "y" if channel.bindings and not offered else "n"
        self._first = scram.client_first(saslprep(credentials.user), nonce(), flag=flag, binding=binding)
        self.initial: bytes | None = self._first.text.encode()
        self._signature: bytes | None = None  # that the server must show
        self._ended = False  # the server has said its last word
        self.complete = False

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        if self._ended:
            return LoginProblem("the server goes on after its last word")
        try:
            return self._prove(challenge) if self._signature is None else self._believe(challenge)
        except ScramSyntax as problem:
            return LoginProblem(f"the server breaks the rules of SCRAM: {problem}")

    def _prove(self, challenge: bytes) -> bytes | LoginProblem:
        answer = scram.parse_server_first(challenge)
        nonce = self._first.nonce
        if not answer.nonce.startswith(nonce) or len(answer.nonce) == len(nonce):
            return LoginProblem("the server's nonce does not go on from ours")
        if not scram.ITERATIONS_FLOOR <= answer.iterations <= ITERATIONS_CEILING:
            # Fewer would make it cheap to find the password out from what we say.
            return LoginProblem(f"the server asks for {answer.iterations} iterations")
        try:
            salted = _salted_password(self._hash, self._password, answer.salt, answer.iterations)
        except ValueError:
            return LoginProblem("the password has characters that SCRAM does not take")
        without = scram.without_proof(self._first, answer.nonce, self._binding_data)
        signed = scram.auth_message(self._first, answer, without)
        self._signature = scram.server_signature(self._hash, scram.server_key(self._hash, salted), signed)
        proof = scram.client_proof(self._hash, scram.client_key(self._hash, salted), signed)
        return scram.client_final(without, proof).encode()

    def _believe(self, challenge: bytes) -> bytes | LoginProblem:
        final = scram.parse_server_final(challenge)
        self._ended = True
        if final.error:
            return b""  # §7: the refusal follows
        assert self._signature is not None
        if not hmac.compare_digest(final.signature, self._signature):
            return LoginProblem("the server does not know the password")
        self.complete = True
        return b""


# A server asks for the same salt each time (RFC 5802 §5.1 suggests to keep what came of it).
_salted_password = functools.lru_cache(maxsize=100)(scram.salted_password)


def _scram_traits(mechanism: str) -> MechanismTraits:
    return MechanismTraits(mechanism, dictionary=True, mutual=True)


# What we know, the strongest first, with what security options look at.
KNOWN: tuple[MechanismTraits, ...] = (
    _scram_traits("SCRAM-SHA-256-PLUS"),
    _scram_traits("SCRAM-SHA-1-PLUS"),
    _scram_traits("SCRAM-SHA-256"),
    _scram_traits("SCRAM-SHA-1"),
    MechanismTraits("CRAM-MD5", dictionary=True, active=True),
    MechanismTraits("PLAIN", plaintext=True, dictionary=True, active=True),
    MechanismTraits("LOGIN", plaintext=True, dictionary=True, active=True),
    MechanismTraits("OAUTHBEARER", plaintext=True, active=True),
    MechanismTraits("XOAUTH2", plaintext=True, active=True),
    MechanismTraits("EXTERNAL", active=True),
)
TOKENS = frozenset({"OAUTHBEARER", "XOAUTH2"})  # the password is a token


def exchange_of(
    mechanism: str, credentials: Credentials, channel: Channel, *, nonce: Callable[[], str] = random_nonce
) -> Exchange | LoginProblem:
    """A new exchange of a known mechanism."""
    if "\0" in credentials.user + credentials.password or "\1" in credentials.user + credentials.password:
        return LoginProblem("user or password has characters that no mechanism takes", mechanism)
    match mechanism:
        case "PLAIN":
            return Plain(credentials)
        case "LOGIN":
            return Login(credentials)
        case "CRAM-MD5":
            return CramMd5(credentials)
        case "EXTERNAL":
            return External(credentials)
        case "OAUTHBEARER":
            return OAuthBearer(credentials, channel)
        case "XOAUTH2":
            return XOAuth2(credentials)
    try:
        return ScramClient(mechanism, credentials, channel, nonce=nonce)
    except ValueError:
        return LoginProblem("the user's name has characters that SCRAM does not take", mechanism)
