"""TLS of one service of smtpd: its contexts, made of Postfix's parameters and of the files that the supervisor read.

A ServerContexts never changes; ServerTls has the one of now, and makes another when the files have changed. When new
files are no good, the old contexts stay and the log says so, once.
"""

from __future__ import annotations

import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from msgspec import Struct

from ekiden.config.parameters.tls import SSL_OPTIONS
from ekiden.config.snapshot import Parameters
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe.events import Note, Observer
from ekiden.tls.ciphers import CipherTrouble, cipher_list, set_ciphers
from ekiden.tls.facts import facts_of
from ekiden.tls.key_files import KeyFiles, key_pairs, offers_tls
from ekiden.tls.layer import TlsLayer, reason_of
from ekiden.tls.openssl import SESSION_CONTEXT_BYTES, openssl
from ekiden.tls.pem import PemTrouble, key_chains, load_chain
from ekiden.tls.tickets import TicketKeys
from ekiden.tls.versions import safe_versions

# Contexts of server names that are kept; one costs some 40 KiB and is made anew in a millisecond.
_NAMED_CONTEXTS = 256
# RFC 8446 §4.6.1: no ticket is good for longer than seven days.
_LONGEST_SESSION_S = 604_800


class TlsTrouble(ValueError):
    """A service has no context; the text begins with the parameter and is one line for the administrator."""


class ServerSide(ssl.SSLObject):
    """The server's side of one connection."""

    server_name = ""  # the SNI, if there is a certificate for it
    unknown_name = ""  # the SNI, if there is none


class Chain(Struct, frozen=True):
    """A certificate with those above it, and its key; PEM. The origins are how the configuration names the two."""

    origin: str
    key_origin: str
    certificates: bytes
    key: bytes


class ServerContexts:
    """Raises TlsTrouble."""

    def __init__(self, parameters: Parameters, files: KeyFiles, *, service: str) -> None:
        self._parameters, self._files = parameters, files
        self.is_mandatory, self.asks_certificate = is_mandatory(parameters), asks_certificate(parameters)
        self.chains = tuple(_chains(parameters, files))
        if not self.chains:
            raise TlsTrouble("smtpd_tls_cert_file: no certificate: set smtpd_tls_chain_files, or this and its key")
        self._authorities = _authorities(parameters, files)
        self.context = self._base(service)
        self._named: OrderedDict[str, ssl.SSLContext | None] = OrderedDict()
        self._tables = [files.names[word] for word in parameters.tls_server_sni_maps if word in files.names]
        for word in parameters.tls_server_sni_maps:
            if word in files.troubles:
                raise TlsTrouble(f"tls_server_sni_maps = {word}: {files.troubles[word]}")
        if self._tables:
            self.context.sni_callback = self._choose

    def is_like(self, other: ServerContexts) -> bool:
        """Whether all certificates and authorities are the same."""
        mine, others = ((it.chains, it._authorities, it._tables) for it in (self, other))
        return mine == others

    def check_names(self) -> list[str]:
        """What is wrong with the certificates of server names: they are made only when somebody asks for one."""
        found = [
            f"tls_server_sni_maps = {place}: {text}"
            for place, text in self._files.troubles.items()
            if any(place.startswith(f"{word} ") for word in self._parameters.tls_server_sni_maps)
        ]
        for table in self._tables:
            for name, pem in table.items():
                try:
                    self._for_name(pem)
                except (PemTrouble, TlsTrouble) as error:
                    found.append(f"tls_server_sni_maps: {name}: {error}")
        return found

    def _base(self, service: str) -> ssl.SSLContext:
        parameters = self._parameters
        context = self._bare()
        mandatory = self.is_mandatory
        name = "smtpd_tls_mandatory_protocols" if mandatory else "smtpd_tls_protocols"
        safe_versions(name, getattr(parameters, name)).apply(context)
        excluded = parameters.smtpd_tls_exclude_ciphers
        if mandatory:
            excluded += f" {parameters.smtpd_tls_mandatory_exclude_ciphers}"
        if parameters.smtpd_tls_eecdh_grade == "none":
            excluded += " kEECDH"
        name = "smtpd_tls_mandatory_ciphers" if mandatory else "smtpd_tls_ciphers"
        grade: str = getattr(parameters, name)
        try:
            set_ciphers(context, cipher_list(parameters, grade, excluded))
        except CipherTrouble as error:
            raise TlsTrouble(f"{name} = {grade}: {error}") from error
        self._set_options(context)
        self._set_sessions(context, service)
        self._set_verification(context)
        self._set_groups(context)
        context.sslobject_class = ServerSide
        return context

    def _bare(self) -> ssl.SSLContext:
        """A context with the certificates of the service and the authorities that it trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for chain in self.chains:
            try:
                load_chain(context, chain.certificates, chain.key)
            except PemTrouble as error:
                raise TlsTrouble(f"{chain.key_origin if error.of_key else chain.origin}: {error}") from error
        self._load_authorities(context)
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        parameters = self._parameters
        if parameters.tls_append_default_CA:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        try:
            if self._authorities:
                context.load_verify_locations(cadata=self._authorities)
            if parameters.smtpd_tls_CApath:
                context.load_verify_locations(capath=parameters.smtpd_tls_CApath)
        except (ssl.SSLError, OSError, ValueError) as error:
            name = "smtpd_tls_CAfile" if self._authorities else "smtpd_tls_CApath"
            raise TlsTrouble(f"{name} = {getattr(parameters, name)}: {reason_of(error)}") from error

    def _set_options(self, context: ssl.SSLContext) -> None:
        parameters = self._parameters
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if parameters.tls_preempt_cipherlist:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        # A client that has the handshake repeated costs us more than itself.
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        for name in parameters.tls_ssl_options:
            context.options |= SSL_OPTIONS[name]

    def _set_sessions(self, context: ssl.SSLContext, service: str) -> None:
        """Sessions are taken up by tickets alone: with a certificate of the client at every handshake, not at all."""
        parameters, library = self._parameters, openssl()
        lifetime_s = min(int(parameters.smtpd_tls_session_cache_timeout), _LONGEST_SESSION_S)
        if asks_certificate(parameters) or not lifetime_s:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        else:
            # One is enough: a client that opens several connections at once may use it for each.
            context.num_tickets = 1
        if library is not None:
            library.forget_sessions(context)
            if lifetime_s:
                library.set_session_timeout(context, lifetime_s)
            name = hashlib.sha256(service.encode("utf-8", "surrogateescape")).digest()
            library.set_session_context(context, name[:SESSION_CONTEXT_BYTES])

    def _set_verification(self, context: ssl.SSLContext) -> None:
        parameters, library = self._parameters, openssl()
        if not asks_certificate(parameters):
            return
        if library is None:
            # The handshake fails with a certificate that no authority vouches for.
            context.verify_mode = ssl.CERT_OPTIONAL
            return
        library.accept_any_certificate(context)
        library.set_verify_depth(context, parameters.smtpd_tls_ccert_verifydepth)

    def _set_groups(self, context: ssl.SSLContext) -> None:
        parameters, library = self._parameters, openssl()
        name = {
            "auto": "tls_eecdh_auto_curves",
            "none": "tls_eecdh_auto_curves",  # TLS 1.3 knows nothing else
            "strong": "tls_eecdh_strong_curve",
            "ultra": "tls_eecdh_ultra_curve",
        }[parameters.smtpd_tls_eecdh_grade]
        value: tuple[str, ...] | str = getattr(parameters, name)
        curves = [value] if isinstance(value, str) else list(value)
        if library is not None and curves and not library.set_groups(context, curves):
            raise TlsTrouble(f"{name} = {' '.join(curves)}: OpenSSL does not know a curve of these")

    def _choose(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        """A client names the server that it wants (RFC 6066 §3); a name that nobody knows gets the default."""
        if not name:
            return
        assert isinstance(connection, ServerSide)
        name = name.lower()
        if name not in self._named:
            self._named[name] = self._find(name)
            if len(self._named) > _NAMED_CONTEXTS:
                self._named.popitem(last=False)
        context = self._named[name]
        self._named.move_to_end(name)
        if context is None:
            connection.unknown_name = name
            return
        connection.server_name = name
        connection.context = context

    def _find(self, name: str) -> ssl.SSLContext | None:
        parent = name
        keys = [name]
        while (dot := parent.find(".", 1)) >= 0:
            parent = parent[dot:]
            keys.append(parent)
        for key in keys:
            for table in self._tables:
                if (pem := table.get(key)) is not None:
                    try:
                        return self._for_name(pem)
                    except (PemTrouble, TlsTrouble):
                        return None  # `ekiden check` and renew() have told of it
        return None

    def _for_name(self, pem: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for chain in key_chains(pem):
            load_chain(context, chain, chain)
        self._load_authorities(context)
        return context


class ServerTls:
    """TLS of a service that has some (offers_tls)."""

    def __init__(
        self,
        parameters: Parameters,
        files: KeyFiles,
        *,
        service: str,
        observer: Observer,
        tickets: TicketKeys,
        monotonic: Callable[[], float],
        announces: bool = True,
    ) -> None:
        """``announces``: say in the log what becomes of the files; one of the workers does it for all."""
        self._announces = announces
        self._parameters, self._service = parameters, service
        self._observer, self._tickets, self._monotonic = observer, tickets, monotonic
        self.is_implicit = parameters.smtpd_tls_wrappermode
        self.is_mandatory = is_mandatory(parameters)
        self.asks_certificate = asks_certificate(parameters)
        self.requires_certificate = parameters.smtpd_tls_req_ccert and self.is_mandatory
        self._contexts: ServerContexts | None = None
        self._period = -1
        self._said = ""
        self.renew(files)

    @property
    def is_ready(self) -> bool:
        """There is a certificate to show: STARTTLS can be offered."""
        return self._contexts is not None

    def renew(self, files: KeyFiles) -> None:
        """Take over what the files hold now, or say why not."""
        try:
            contexts = ServerContexts(self._parameters, files, service=self._service)
        except TlsTrouble as trouble:
            kept = "TLS is not available" if self._contexts is None else "the old certificates stay"
            self._say(f"{trouble}; {kept}")
            return
        if self._contexts is not None and contexts.is_like(self._contexts):
            self._said = ""
            return
        for text in contexts.check_names():
            self._say(f"{text}; clients that ask for this name get the default certificate")
        if self._contexts is not None and self._announces:
            text = f"{self._service}: the certificates have changed and are used from now on"
            self._observer.emit(Note("smtpd", text))
        self._contexts, self._period, self._said = contexts, -1, ""

    def layer(self) -> TlsLayer | None:
        """For a new connection; None while there is no certificate."""
        contexts = self._contexts
        if contexts is None:
            return None
        now = self._monotonic()
        period = self._tickets.advance(now)
        if period != self._period and (library := openssl()) is not None:
            self._period = period
            size = library.ticket_key_bytes(contexts.context)
            library.set_ticket_keys(contexts.context, self._tickets.keys(now, self._service, size))
        return TlsLayer(contexts.context, server_side=True)

    def facts(self, layer: TlsLayer) -> TlsFacts:
        """What the handshake, which is done, has shown."""
        connection = cast("ServerSide", layer.connection)
        return facts_of(
            connection,
            digest=self._parameters.smtpd_tls_fingerprint_digest,
            trusted=self.asks_certificate and not layer.verify_trouble,
            server_name=connection.server_name,
        )

    def _say(self, text: str) -> None:
        if text != self._said and self._announces:
            self._said = text
            self._observer.emit(Note("smtpd", f"{self._service}: {text}", "warning"))


def is_mandatory(parameters: Parameters) -> bool:
    level = parameters.smtpd_tls_security_level
    return parameters.smtpd_tls_wrappermode or (level == "encrypt" if level else parameters.smtpd_enforce_tls)


def asks_certificate(parameters: Parameters) -> bool:
    return parameters.smtpd_tls_ask_ccert or (parameters.smtpd_tls_req_ccert and is_mandatory(parameters))


def server_tls(
    parameters: Parameters,
    files: KeyFiles,
    *,
    service: str,
    observer: Observer,
    tickets: TicketKeys,
    monotonic: Callable[[], float],
    announces: bool = True,
) -> ServerTls | None:
    """None for a service without TLS."""
    if not offers_tls(parameters):
        return None
    return ServerTls(
        parameters,
        files,
        service=service,
        observer=observer,
        tickets=tickets,
        monotonic=monotonic,
        announces=announces,
    )


def _chains(parameters: Parameters, files: KeyFiles) -> list[Chain]:
    found: list[Chain] = []
    for parameter, certificate, key in key_pairs(parameters):
        origin = f"{parameter} = {certificate}"
        key_origin = f"{_key_parameter(parameter)} = {key}"
        for name, path in ((origin, certificate), (key_origin, key)):
            if path in files.troubles:
                raise TlsTrouble(f"{name}: {files.troubles[path]}")
            if path not in files.contents:
                raise TlsTrouble(f"{name}: it has not been read")
        if certificate == key and parameter == "smtpd_tls_chain_files":
            try:
                found += [Chain(origin, origin, chain, chain) for chain in key_chains(files.contents[certificate])]
            except PemTrouble as error:
                raise TlsTrouble(f"{origin}: {error}") from error
        else:
            found.append(Chain(origin, key_origin, files.contents[certificate], files.contents[key]))
    return found


def _key_parameter(parameter: str) -> str:
    return parameter.replace("cert_file", "key_file")


def _authorities(parameters: Parameters, files: KeyFiles) -> str:
    path = parameters.smtpd_tls_CAfile
    if not path:
        return ""
    if path in files.troubles:
        raise TlsTrouble(f"smtpd_tls_CAfile = {path}: {files.troubles[path]}")
    # Between the certificates there may be their descriptions, in any encoding.
    return files.contents.get(path, b"").decode("ascii", "ignore")
