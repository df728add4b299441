"""``ldap:/path``: a directory (ldap_table(5)).

Groups are followed through DNs and LDAP URLs, each entry once: groups that contain each other end. Referrals to other
servers are not followed, and of SASL there is EXTERNAL only.
"""

from __future__ import annotations

import ssl
from functools import partial
from types import MappingProxyType

from ekiden.protocol.ldap import filter as ldap_filter
from ekiden.protocol.ldap import names
from ekiden.protocol.ldap.messages import Entry, Scope
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import Format, KeyDomains, KeyParts, can_be_asked, joined
from ekiden.tables.ldap_client import LdapConnection, LdapLogin, Search, parse_server
from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, shared_pool
from ekiden.tables.table import Finding, Opening, Table, TableTrouble, folded

PORT = 389
_SCOPES = MappingProxyType({"sub": Scope.SUB, "base": Scope.BASE, "one": Scope.ONE})
_BINDS = MappingProxyType({"yes": "simple", "simple": "simple", "no": "", "none": "", "sasl": "external"})
_ANY = ldap_filter.encode("(objectClass=*)")
# Parameters of libraries, or without meaning since long.
_WITHOUT_MEANING = ("cache", "cache_expiry", "cache_size", "debuglevel", "sasl_minssf", "sasl_realm", "tls_random_file")


def open_type(text: str, opening: Opening) -> LdapTable:
    """Raises ConfigError."""
    return LdapTable(read_client_settings("ldap", text, opening.parameters), opening)


class LdapTable(Table):
    def __init__(self, settings: ClientSettings, opening: Opening) -> None:
        self.name = settings.table
        self._fold = opening.fold
        self._read_query(settings, opening)
        self._read_attributes(settings)
        port = settings.number("server_port", PORT, minimum=1, maximum=65535)
        forms = "ldap://host:port, ldaps://host or ldapi://%2Fpath"
        servers = settings.servers("server_host", lambda word: parse_server(word, port), forms)
        login, key = read_login(settings, any(server.tls for server in servers))
        limits = PoolLimits(opening.parameters.table_connection_limit, self._timeout_s)
        for name in _WITHOUT_MEANING:
            settings.given(name)
        self._findings = settings.unknown()
        name = self.name
        self._pool = shared_pool(
            ("ldap", servers, key, limits),
            lambda: ServerPool(servers, partial(LdapConnection.open, login), limits, monotonic=opening.monotonic),
        )

    def _read_query(self, settings: ClientSettings, opening: Opening) -> None:
        settings.needed("search_base", "dc=example, dc=com")
        self._base = settings.read("search_base", "", Format)
        self._filter = settings.read("query_filter", "(mailacceptinggeneralid=%s)", Format)
        self._result_format = settings.read("result_format", settings.text("result_filter", "%s"), Format)
        try:
            self._encoded_filter(KeyParts.of("user@a.b.c.d.e.f.g.h.example"))
        except ValueError as error:
            raise settings.wrong("query_filter", str(error)) from error
        self._domains = KeyDomains(settings.words("domain"), opening)
        self._scope = _SCOPES[settings.choice("scope", "sub", tuple(_SCOPES))]
        self._dereference = settings.number("dereference", 0, maximum=3)
        self._timeout_s = settings.seconds("timeout", 10, minimum=1)
        self._recursion_limit = settings.number("recursion_limit", 1000, minimum=1)
        self._expansion_limit = settings.number("expansion_limit", 0)
        self._size_limit = settings.number("size_limit", self._expansion_limit)
        settings.number("version", 3, minimum=2, maximum=3)  # version 2 is historic (RFC 3494): 3 is spoken
        if settings.yes("chase_referrals", False):
            raise settings.wrong("chase_referrals", "referrals to other servers are not followed; name those servers")

    def _read_attributes(self, settings: ClientSettings) -> None:
        self._ordinary = _attributes(settings, "result_attribute", "maildrop")
        self._special = _attributes(settings, "special_result_attribute")
        self._terminal = _attributes(settings, "terminal_result_attribute")
        self._leaf = _attributes(settings, "leaf_result_attribute")
        self._all = tuple(dict.fromkeys((*self._ordinary, *self._special, *self._terminal, *self._leaf)))
        if not self._all:
            raise settings.wrong("result_attribute", "no attribute at all is asked for")

    async def lookup(self, key: str) -> str | None:
        parts = KeyParts.of(folded(key, self._fold))
        if not can_be_asked(key) or not self._result_format.has_all_of(parts) or not await self._domains.include(parts):
            return None
        base = self._base.of_key(parts, names.quoted)
        try:
            search_filter = self._encoded_filter(parts)
        except ValueError as error:
            raise TableTrouble(f"{self.name}: query_filter for {key!r}: {error}") from error
        if base is None or search_filter is None:
            return None
        first = self._search(base, self._scope, search_filter, self._all)
        values = await self._pool.ask(self.name, partial(self._expand, first))
        return joined(self.name, values, self._result_format, parts, self._expansion_limit)

    def _encoded_filter(self, key: KeyParts) -> bytes | None:
        """Raises ValueError."""
        text = self._filter.of_key(key, ldap_filter.quoted)
        return None if text is None else ldap_filter.encode(text)

    def _search(self, base: str, scope: Scope, search_filter: bytes, attributes: tuple[str, ...]) -> Search:
        return Search(base, scope, search_filter, attributes, self._dereference, self._size_limit, self._timeout_s)

    async def _expand(self, first: Search, connection: LdapConnection) -> list[str]:
        """The values that a search leads to, those of groups' members included. Raises ServerTrouble, TableTrouble."""
        values: list[str] = []
        seen: set[Search] = {first}
        waiting = [first]
        depth = 0
        while waiting:
            if depth > self._recursion_limit:
                limit = f"recursion_limit = {self._recursion_limit}"
                raise Refusal(f"{self.name}: groups are nested deeper than {limit}")
            following: list[Search] = []
            for search in waiting:
                for entry in await connection.search(search, self.name):
                    found, members = self._read_entry(entry)
                    values += found
                    if self._expansion_limit and len(values) > self._expansion_limit:
                        return values  # too many: what is said of that is said where they are joined
                    for member in members:
                        if (inner := self._member_search(member)) is not None and inner not in seen:
                            seen.add(inner)
                            following.append(inner)
            waiting = following
            depth += 1
        return values

    def _read_entry(self, entry: Entry) -> tuple[list[str], list[str]]:
        """The results of an entry, and the DNs and URLs of its members."""
        found = {kind.lower(): values for kind, values in entry.attributes if values}
        special: tuple[str, ...] = ()
        if any(name in found for name in self._terminal):
            wanted = self._terminal
        elif any(name in found for name in self._special):
            wanted, special = self._ordinary, self._special
        else:
            wanted = tuple(dict.fromkeys((*self._ordinary, *self._leaf)))
        results = [_text(value) for name in wanted for value in found.get(name, ())]
        return results, [_text(value) for name in special for value in found.get(name, ())]

    def _member_search(self, member: str) -> Search | None:
        if not member.lower().startswith(("ldap://", "ldaps://", "ldapi://")):
            return self._search(member, Scope.BASE, _ANY, self._all)
        try:
            url = names.parse_search_url(member)
            search_filter = ldap_filter.encode(url.filter)
        except ValueError as error:
            raise Refusal(f"{self.name}: the directory has an LDAP URL that cannot be used: {error}") from error
        named = {name.lower() for name in url.attributes}
        attributes = tuple(name for name in self._all if name in named) if named else self._all
        return self._search(url.base, url.scope, search_filter, attributes) if attributes else None

    def check(self) -> list[Finding]:
        return self._findings

    async def close(self) -> None:
        self._pool.close()


def _attributes(settings: ClientSettings, name: str, default: str = "") -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.lower() for word in settings.words(name, default)))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def read_login(settings: ClientSettings, ldaps: bool) -> tuple[LdapLogin, tuple[object, ...]]:
    """How to log in, and the same as values that can be compared. Raises ConfigError."""
    bind = settings.text("bind", "yes").lower()
    if bind not in _BINDS:
        raise settings.wrong("bind", f"must be one of {', '.join(_BINDS)}")
    mechanism = _BINDS[bind]
    mechanisms = settings.words("sasl_mechs")
    if mechanism == "external" and [name.upper() for name in mechanisms] != ["EXTERNAL"]:
        name = "sasl_mechs" if settings.given("sasl_mechs") else "bind"
        raise settings.wrong(name, "of SASL there is EXTERNAL only: write sasl_mechs = EXTERNAL, or bind = simple")
    authorization = settings.text("sasl_authz_id")
    name = authorization if mechanism == "external" else settings.text("bind_dn")
    password = settings.text("bind_pw")
    if mechanism == "simple" and name and not password:
        # RFC 4513 §5.1.2: such a bind succeeds as nobody, whatever the name
        raise settings.wrong("bind_dn", "a bind without a password is one as nobody: set bind_pw, or empty bind_dn")
    start_tls = settings.yes("start_tls", False)
    files = tuple(settings.text(f"tls_{what}") for what in ("ca_cert_file", "ca_cert_dir", "cert", "key"))
    verify = settings.yes("tls_require_cert", False)
    ciphers = settings.text("tls_cipher_suite")
    tls = None
    if start_tls or ldaps:
        try:
            tls = _context(*files, verify=verify, ciphers=ciphers)
        except (OSError, ValueError) as error:
            given = [f"tls_{what}" for what in ("ca_cert_file", "ca_cert_dir", "cert", "key", "cipher_suite")]
            guilty = next((name for name in given if settings.text(name)), "start_tls")
            raise settings.wrong(guilty, f"the certificates, the key or the ciphers cannot be used: {error}") from error
    key = (mechanism, name, password, start_tls, *files, verify, ciphers)
    return LdapLogin(mechanism, name, password, start_tls, tls), key


def _context(ca_file: str, ca_dir: str, certificate: str, key: str, *, verify: bool, ciphers: str) -> ssl.SSLContext:
    """Raises OSError, ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if ca_file or ca_dir:
        context.load_verify_locations(ca_file or None, None if ca_file else ca_dir)
    elif verify:
        context.load_default_certs()
    if certificate:
        context.load_cert_chain(certificate, key or None)
    if ciphers:
        context.set_ciphers(ciphers)
    return context
