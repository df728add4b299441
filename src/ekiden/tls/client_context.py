"""The client's side of TLS: a context for each kind of policy, made once, and the sessions that can be resumed.

A context never breaks a handshake off for the certificate that the server shows: who the server is, is told afterwards
(tls.peer_check), and then it is said goodbye to politely. Only where OpenSSL cannot be reached for that (tls.openssl)
the levels that want an authority's word have it from the handshake itself.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from cryptography import x509
from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.host import Host
from ekiden.tls.ciphers import CipherTrouble, cipher_list, set_ciphers
from ekiden.tls.key_files import KeyFiles, client_key_pairs
from ekiden.tls.layer import TlsLayer, reason_of
from ekiden.tls.openssl import openssl
from ekiden.tls.pem import PemTrouble, key_chains, load_chain
from ekiden.tls.policy import Level, TlsPolicy
from ekiden.tls.versions import safe_versions

# Sessions that are remembered; the ones unused for longest go first. One costs some 6 KiB.
_SESSIONS = 1000
_DER = 2  # _ssl.ENCODING_DER


class ContextTrouble(ValueError):
    """A policy has no context: a file cannot be read, a list of ciphers leaves nothing. One line for administrators."""


class _Kind(Struct, frozen=True):
    """What makes a context another one."""

    protocols: str
    ciphers: str
    exclude: tuple[str, ...]
    anchors: tuple[str, ...]
    public: bool
    wants_authority: bool


class _Remembered(Struct, frozen=True):
    session: ssl.SSLSession
    until: float
    verify_trouble: str  # a resumed handshake shows no certificates that could be looked at again
    chain: tuple[bytes, ...] = ()  # what DANE looks at again: the records may be others by now


class ClientContexts:
    """``prefix``: smtp or lmtp, whose parameters count. ``monotonic``: seconds.

    ``key_files``: what the files of keys hold now, of which a worker may read none; what is not there is read here.
    """

    def __init__(
        self,
        parameters: Parameters,
        prefix: str,
        *,
        monotonic: Callable[[], float],
        key_files: Callable[[], KeyFiles] = KeyFiles,
    ) -> None:
        self._key_files = key_files
        self._files = key_files()
        self._parameters, self._prefix, self._monotonic = parameters, prefix, monotonic
        self._own: Callable[[str], Any] = lambda name: getattr(parameters, f"{prefix}_tls_{name}")
        self._by_kind: dict[_Kind, ssl.SSLContext] = {}
        self._lifetime_s: float = self._own("session_cache_timeout")
        self._keeps_sessions = bool(self._own("session_cache_database"))
        self._sessions: OrderedDict[tuple[TlsPolicy, str, Host], _Remembered] = OrderedDict()

    def check(self, policy: TlsPolicy) -> None:
        """Raises ConfigError where a policy of the parameters can never be had."""
        try:
            self._context(policy)
        except ContextTrouble as error:
            raise ConfigError(str(error)) from error

    def layer(self, policy: TlsPolicy, next_hop_domain: str, host: Host) -> ClientLayer:
        """For a new connection. Raises ContextTrouble."""
        context = self._context(policy)
        remembered = self._session(policy, next_hop_domain, host) if self._keeps_sessions else None
        server_name = server_name_of(policy, next_hop_domain, host)
        try:
            return ClientLayer(context, server_name, remembered)
        except ValueError as error:  # a name that cannot be one
            raise ContextTrouble(f"servername {server_name!r}: {error}") from error

    def remember(self, layer: TlsLayer, policy: TlsPolicy, next_hop_domain: str, host: Host) -> None:
        """Keep the session of a connection that has heard from its server: by then TLS 1.3 has given its tickets."""
        if not self._keeps_sessions or (session := layer.connection.session) is None:
            return
        if not session.has_ticket and layer.connection.version() == "TLSv1.3":
            return  # none has come yet
        key = policy, next_hop_domain, host
        until = self._monotonic() + self._lifetime_s
        chain = tuple(layer.chain) if policy.tlsa and isinstance(layer, ClientLayer) else ()
        self._sessions[key] = _Remembered(session, until, layer.verify_trouble, chain)
        self._sessions.move_to_end(key)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def forget(self, policy: TlsPolicy, next_hop_domain: str, host: Host) -> None:
        """After a handshake that failed: the next one begins from nothing."""
        self._sessions.pop((policy, next_hop_domain, host), None)

    def _session(self, policy: TlsPolicy, next_hop_domain: str, host: Host) -> _Remembered | None:
        found = self._sessions.get((policy, next_hop_domain, host))
        if found is not None and found.until <= self._monotonic():
            self.forget(policy, next_hop_domain, host)
            return None
        return found

    def _context(self, policy: TlsPolicy) -> ssl.SSLContext:
        if (files := self._key_files()) is not self._files and files != self._files:
            self._by_kind.clear()
            self._sessions.clear()  # they belong to their contexts
        self._files = files
        kind = _Kind(
            protocols=policy.protocols,
            ciphers=policy.ciphers,
            exclude=policy.exclude,
            anchors=policy.trust_anchors,
            public=policy.public_authorities,
            wants_authority=policy.level in (Level.VERIFY, Level.SECURE),
        )
        context = self._by_kind.get(kind)
        if context is None:
            context = self._by_kind[kind] = self._made(kind)
        return context

    def _made(self, kind: _Kind) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # names are compared afterwards, as the policy has them
        context.verify_mode = ssl.CERT_NONE
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        safe_versions("protocols", kind.protocols).apply(context)
        try:
            set_ciphers(context, cipher_list(self._parameters, kind.ciphers, " ".join(kind.exclude)))
        except CipherTrouble as error:
            raise ContextTrouble(f"{self._prefix}_tls_ciphers: {error}") from error
        self._trust(context, kind)
        self._show(context)
        library = openssl()
        if library is not None:
            library.accept_any_certificate(context)
            library.set_verify_depth(context, self._own("scert_verifydepth"))
        elif kind.wants_authority:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _trust(self, context: ssl.SSLContext, kind: _Kind) -> None:
        """Load the authorities, or the trust anchors in their place."""
        if kind.anchors:
            # RFC 5280 §6.1.1: an anchor need not be at the top of its own chain.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            for path in kind.anchors:
                self._load(context, f"{self._prefix}_tls_trust_anchor_file (tafile)", path, cafile=path)
            return
        file, folder = self._own("CAfile"), self._own("CApath")
        if file:
            self._load(context, f"{self._prefix}_tls_CAfile", file, cafile=file)
        if folder:
            self._load(context, f"{self._prefix}_tls_CApath", folder, capath=folder)
        if kind.public or self._parameters.tls_append_default_CA:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)

    def _load(self, context: ssl.SSLContext, name: str, value: str, **where: str) -> None:
        try:
            context.load_verify_locations(**where)
        except (OSError, ValueError) as error:  # ssl.SSLError is one
            why = reason_of(error) if isinstance(error, ssl.SSLError) else error.args[-1]
            raise ContextTrouble(f"{name} = {value}: {why}") from error

    def _show(self, context: ssl.SSLContext) -> None:
        """Load our own certificates, for servers that ask for one."""
        for name, certificate, key in client_key_pairs(self._parameters, self._prefix):
            place = f"{name} = {certificate}"
            try:
                chain = self._read(certificate)
                if name.endswith("chain_files"):
                    for piece in key_chains(chain):
                        load_chain(context, piece, piece)
                else:
                    load_chain(context, chain, chain if key == certificate else self._read(key))
            except OSError as error:
                raise ContextTrouble(f"{place}: {error.filename}: {error.strerror}") from error
            except PemTrouble as error:
                raise ContextTrouble(f"{place}: {error}") from error

    def _read(self, path: str) -> bytes:
        """Raises OSError."""
        if path in self._files.troubles:
            raise OSError(0, self._files.troubles[path], path)
        if path in self._files.contents:
            return self._files.contents[path]
        with open(path, "rb") as file:
            return file.read()


class ClientLayer(TlsLayer):
    """A connection of ours; ``server_name`` is the SNI."""

    __slots__ = ("_chain_before", "server_name")

    def __init__(self, context: ssl.SSLContext, server_name: str, remembered: _Remembered | None = None) -> None:
        super().__init__(
            context,
            server_side=False,
            server_hostname=server_name or None,
            session=remembered.session if remembered is not None else None,
        )
        self.server_name = server_name
        self._chain_before = remembered.chain if remembered is not None else ()
        if remembered is not None:
            self.verify_trouble = remembered.verify_trouble

    @property
    def certificate(self) -> x509.Certificate | None:
        """The server's; None where it showed none that can be read."""
        der = self.connection.getpeercert(binary_form=True)
        try:
            return x509.load_der_x509_certificate(der) if der else None
        except ValueError:
            return None

    @property
    def chain(self) -> list[bytes]:
        """The certificates as the server sent them, its own first; DER. In a resumed session those of before."""
        connection = self.connection
        if connection.session_reused and self._chain_before:
            return list(self._chain_before)
        if hasattr(connection, "get_unverified_chain"):  # from Python 3.13 on
            return list(connection.get_unverified_chain())
        inner = getattr(connection, "_sslobj", None)
        certificates = inner.get_unverified_chain() if inner is not None else None
        return [each.public_bytes(_DER) for each in certificates or ()]


def server_name_of(policy: TlsPolicy, next_hop_domain: str, host: Host) -> str:
    """The SNI to ask for (RFC 6066 §3), which is never an address."""
    if policy.tlsa:
        return policy.tlsa_base or host.name  # RFC 7672 §8.1
    name = {"hostname": host.name, "nexthop": next_hop_domain}.get(policy.server_name, policy.server_name)
    return name if any(char.isalpha() for char in name.rpartition(".")[2]) and ":" not in name else ""
