"""SCRAM: the arithmetic and the messages that both sides share (RFC 5802; RFC 7677 for SHA-256).

In:   passwords, salts, nonces and the messages' text.
Out:  keys, proofs, signatures and the messages' parts. No I/O, no randomness: nonces and salts are given.
Errors: ScramSyntax for what is no message of SCRAM; ValueError of saslprep for a password that has no form.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re

from msgspec import Struct

from ekiden.sasl.saslprep import saslprep

# RFC 7677 §4 asks for 4096 iterations at least. What takes longer than the highest is an attack on a client's time.
ITERATIONS_FLOOR = 4096
ITERATIONS_CEILING = 2_000_000

_CLIENT_KEY = b"Client Key"
_SERVER_KEY = b"Server Key"


class ScramSyntax(Exception):
    """A message breaks the grammar of RFC 5802 §7. ``error`` is that section's word for it."""

    def __init__(self, text: str, error: str = "other-error") -> None:
        super().__init__(text)
        self.error = error


class ScramHash(enum.Enum):
    """The hash functions, by the name that hashlib knows; SHA-1 is for what knows no other."""

    SHA1 = "sha1"
    SHA256 = "sha256"

    @property
    def mechanism(self) -> str:
        return "SCRAM-SHA-1" if self is ScramHash.SHA1 else "SCRAM-SHA-256"

    @property
    def size(self) -> int:
        return 20 if self is ScramHash.SHA1 else 32

    def digest(self, data: bytes) -> bytes:
        return hashlib.new(self.value, data).digest()

    def hmac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self.value)


def hash_of(mechanism: str) -> ScramHash | None:
    """The hash of a mechanism's name, with ``-PLUS`` or without; None when it is no SCRAM of ours."""
    name = mechanism.removesuffix("-PLUS")
    return next((each for each in ScramHash if each.mechanism == name), None)


def salted_password(algorithm: ScramHash, password: str, salt: bytes, iterations: int) -> bytes:
    """Hi() of RFC 5802 §2.2: slow on purpose. Raises ValueError for a password that cannot be."""
    return hashlib.pbkdf2_hmac(algorithm.value, saslprep(password).encode(), salt, iterations)


def stored_key(algorithm: ScramHash, salted: bytes) -> bytes:
    """What a server keeps to check clients by (RFC 5802 §3)."""
    return algorithm.digest(client_key(algorithm, salted))


def server_key(algorithm: ScramHash, salted: bytes) -> bytes:
    """What a server keeps to show that it knows the account (RFC 5802 §3)."""
    return algorithm.hmac(salted, _SERVER_KEY)


def client_key(algorithm: ScramHash, salted: bytes) -> bytes:
    return algorithm.hmac(salted, _CLIENT_KEY)


def client_proof(algorithm: ScramHash, key: bytes, auth_message: str) -> bytes:
    """ClientProof of RFC 5802 §3; ``key`` is the client's."""
    return _xor(key, algorithm.hmac(algorithm.digest(key), auth_message.encode()))


def is_proof(algorithm: ScramHash, stored: bytes, proof: bytes, auth_message: str) -> bool:
    """Whether the proof is that of somebody who knows the password (RFC 5802 §3). Takes the same time either way.

    ``stored`` is the account's stored key.
    """
    signature = algorithm.hmac(stored, auth_message.encode())
    if len(proof) != len(signature):
        return False
    return hmac.compare_digest(algorithm.digest(_xor(proof, signature)), stored)


def server_signature(algorithm: ScramHash, key: bytes, auth_message: str) -> bytes:
    """What shows a client that the server knows the account (RFC 5802 §3); ``key`` is the server's."""
    return algorithm.hmac(key, auth_message.encode())


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


# The messages (RFC 5802 §7).


class ClientFirst(Struct, frozen=True):
    """``gs2-header client-first-message-bare``.

    ``binding`` is the kind of channel binding that is used (``tls-exporter``); without one ``flag`` is ``n`` or, from
    a client that knows bindings and was offered no -PLUS, ``y``.
    """

    flag: str  # "n", "y" or "p"
    binding: str
    authzid: str
    name: str
    nonce: str
    header: str  # gs2-header, with its last comma
    bare: str

    @property
    def text(self) -> str:
        return self.header + self.bare


class ServerFirst(Struct, frozen=True):
    nonce: str  # the client's and the server's
    salt: bytes
    iterations: int
    text: str


class ClientFinal(Struct, frozen=True):
    channel: bytes  # gs2-header and the channel binding's data
    nonce: str
    proof: bytes
    without_proof: str


class ServerFinal(Struct, frozen=True):
    """Either the server's ``signature`` or its ``error``."""

    signature: bytes = b""
    error: str = ""


# RFC 5802 §7; a name may be anything but NUL, "=" and "," (written =3D and =2C), and in it are bounds enough.
_SASLNAME = r"(?:[^\0=,]|=2C|=3D)+"
_NONCE = r"[!-+\--~]+"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_EXTENSIONS = r"(?:,[A-Za-z]=[^\0,]+)*"
_CLIENT_FIRST = re.compile(
    rf"(?P<header>(?P<flag>n|y|p=(?P<binding>[A-Za-z0-9.\-]+)),(?:a=(?P<authzid>{_SASLNAME}))?,)"
    rf"(?P<bare>n=(?P<name>{_SASLNAME}),r=(?P<nonce>{_NONCE}){_EXTENSIONS})"
)
_MANDATORY_EXTENSION = re.compile(r"[^,]*,[^,]*,m=")
_SERVER_FIRST = re.compile(rf"r=({_NONCE}),s=({_BASE64}),i=([1-9][0-9]{{0,9}}){_EXTENSIONS}")
_CLIENT_FINAL = re.compile(rf"(c=({_BASE64}),r=({_NONCE}){_EXTENSIONS}),p=({_BASE64})")
_SERVER_FINAL = re.compile(rf"(?:v=({_BASE64})|e=([^\0,]+)){_EXTENSIONS}")


def client_first(name: str, nonce: str, *, flag: str = "n", binding: str = "", authzid: str = "") -> ClientFirst:
    """The message to send; ``name`` and ``authzid`` unescaped, ``name`` prepared (RFC 5802 §5.1)."""
    gs2 = f"p={binding}" if flag == "p" else flag
    header = f"{gs2},{f'a={_escaped(authzid)}' if authzid else ''},"
    return ClientFirst(flag, binding, authzid, name, nonce, header, f"n={_escaped(name)},r={nonce}")


def server_first(nonce: str, salt: bytes, iterations: int) -> ServerFirst:
    return ServerFirst(nonce, salt, iterations, f"r={nonce},s={_encoded(salt)},i={iterations}")


def without_proof(first: ClientFirst, nonce: str, binding_data: bytes = b"") -> str:
    """``client-final-message-without-proof``."""
    return f"c={_encoded(first.header.encode() + binding_data)},r={nonce}"


def client_final(without: str, proof: bytes) -> str:
    return f"{without},p={_encoded(proof)}"


def server_final(signature: bytes) -> str:
    return f"v={_encoded(signature)}"


def auth_message(first: ClientFirst, answer: ServerFirst, without: str) -> str:
    """What both sides sign (RFC 5802 §3)."""
    return f"{first.bare},{answer.text},{without}"


def parse_client_first(data: bytes) -> ClientFirst:
    text = _decoded(data)
    found = _CLIENT_FIRST.fullmatch(text)
    if found is None:
        if _MANDATORY_EXTENSION.match(text) is not None:
            # RFC 5802 §5.1: an extension that must be understood and is not.
            raise ScramSyntax("mandatory extension", "extensions-not-supported")
        raise ScramSyntax("malformed client-first-message")
    return ClientFirst(
        flag=found["flag"][0],
        binding=found["binding"] or "",
        authzid=_unescaped(found["authzid"] or ""),
        name=_unescaped(found["name"]),
        nonce=found["nonce"],
        header=found["header"],
        bare=found["bare"],
    )


def parse_server_first(data: bytes) -> ServerFirst:
    text = _decoded(data)
    found = _SERVER_FIRST.fullmatch(text)
    if found is None:
        if text.startswith("m="):
            raise ScramSyntax("mandatory extension", "extensions-not-supported")
        raise ScramSyntax("malformed server-first-message")
    return ServerFirst(found[1], binascii.a2b_base64(found[2]), int(found[3]), text)


def parse_client_final(data: bytes) -> ClientFinal:
    found = _CLIENT_FINAL.fullmatch(_decoded(data))
    if found is None:
        raise ScramSyntax("malformed client-final-message")
    return ClientFinal(binascii.a2b_base64(found[2]), found[3], binascii.a2b_base64(found[4]), found[1])


def parse_server_final(data: bytes) -> ServerFinal:
    found = _SERVER_FINAL.fullmatch(_decoded(data))
    if found is None:
        raise ScramSyntax("malformed server-final-message")
    return ServerFinal(error=found[2]) if found[1] is None else ServerFinal(binascii.a2b_base64(found[1]))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScramSyntax("not UTF-8", "invalid-encoding") from error


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _escaped(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")


def _unescaped(name: str) -> str:
    return name.replace("=2C", ",").replace("=3D", "=")
