"""``ldap:/path``: a directory that checks passwords itself, by a bind (RFC 4513 §5.1): OpenLDAP, Active Directory ...

The file has the parameters of ldap_table(5) for the servers, TLS, the search and who searches, and these:

    user_dn = uid=%u,ou=people,dc=example    bind so without a search; %s is the name, %u and %d its parts
    user_dn = %u@corp.example                ... as Active Directory takes it, a name that is no DN
    account_attribute = uid                  the attribute of the entry found that is the account's canonical name

Without user_dn the entry is searched for (search_base, query_filter); exactly one must be found, and its DN binds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial

from ekiden.protocol.ldap import filter as ldap_filter
from ekiden.protocol.ldap import names
from ekiden.protocol.ldap.messages import SUCCESS, Done, Entry, Scope
from ekiden.sasl.accounts import AccountTrouble, HashName, Outcome, ScramKeys, Verdict
from ekiden.sasl.open import Opening, full_path
from ekiden.sasl.place import no_keys
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import Format, KeyParts
from ekiden.tables.ldap import PORT, read_login
from ekiden.tables.ldap_client import LdapConnection, LdapLogin, LdapServer, Search, parse_server
from ekiden.tables.server_pool import PoolLimits, ServerPool, ServerTrouble
from ekiden.tables.table import TableTrouble

_SCOPES = {"sub": Scope.SUB, "base": Scope.BASE, "one": Scope.ONE}
# RFC 4511 §4.1.9: no such object, invalid DN syntax, inappropriate authentication, invalid credentials, and unwilling
# to perform, which servers say of accounts that are locked.
_OF_NAMES = frozenset('=,+"\\<>;#/')
_WRONG = frozenset({32, 34, 48, 49, 53})


def open_place(where: str, opening: Opening) -> LdapPlace:
    """Raises ConfigError."""
    settings = read_client_settings("ldap", str(full_path(where)), opening.parameters)
    return LdapPlace(settings, opening.parameters.table_connection_limit)


class LdapPlace:
    def __init__(self, settings: ClientSettings, connections: int) -> None:
        """Raises ConfigError."""
        self.name = settings.table
        port = settings.number("server_port", PORT, minimum=1, maximum=65535)
        forms = "ldap://host:port, ldaps://host or ldapi://%2Fpath"
        self._servers = settings.servers("server_host", lambda word: parse_server(word, port), forms)
        login, _ = read_login(settings, any(server.tls for server in self._servers))
        self._timeout_s = settings.seconds("timeout", 10, minimum=1)
        self._user_dn = settings.read("user_dn", "", Format) if settings.given("user_dn") else None
        self._attribute = settings.text("account_attribute").lower()
        self._base = settings.read("search_base", "", Format)
        self._filter = settings.read("query_filter", "(|(uid=%s)(mail=%s))", Format)
        self._scope = _SCOPES[settings.choice("scope", "sub", tuple(_SCOPES))]
        settings.number("version", 3, minimum=2, maximum=3)
        if self._user_dn is None:
            settings.needed("search_base", "dc=example, dc=com")
        elif not self._user_dn.expands:
            raise settings.wrong("user_dn", "must hold %s or %u, which stand for the name: else all were one account")
        self._problems = [f"{each.file}, line {each.line}: {each.text}" for each in settings.unknown()]
        # Who searches; and the same without a name, for the bind of whoever logs in.
        self._anonymous = LdapLogin("", "", "", login.start_tls, login.tls)
        limits = PoolLimits(connections, self._timeout_s)
        self._pool = ServerPool(self._servers, partial(LdapConnection.open, login), limits)

    async def verify(self, name: str, password: str) -> Verdict:
        if not password:  # RFC 4513 §5.1.2
            return Verdict(Outcome.WRONG, name, "an empty password")
        found = await self._bind_name(name)
        if found is None:
            return Verdict(Outcome.WRONG, name, "no such entry")
        dn, account = found
        answer = await self._bind(dn, password)
        known = self._user_dn is None
        if answer.code == SUCCESS:
            return Verdict(Outcome.OK, account, known=known)
        if answer.code in _WRONG:
            return Verdict(Outcome.WRONG, account, f"{dn}: {answer}"[:300], known=known)
        raise AccountTrouble(f"the server says: {answer}")

    async def _bind_name(self, name: str) -> tuple[str, str] | None:
        """What the bind is for, and the account's canonical name. Raises AccountTrouble."""
        parts = KeyParts.of(name)
        if self._user_dn is not None:
            # A name that is no DN has no quoting: what could make it one is not for it.
            is_dn = "=" in self._user_dn.text
            if not is_dn and any(char in _OF_NAMES for char in name):
                return None
            dn = self._user_dn.of_key(parts, names.quoted if is_dn else str)
            return None if dn is None else (dn, _account(parts, self._user_dn))
        entries = await self._search(parts)
        if not entries:
            return None
        if len(entries) > 1 or not entries[0].name:
            raise AccountTrouble(f"{len(entries)} entries fit one name: {entries[0].name}, {entries[-1].name}")
        if not self._attribute:
            return entries[0].name, _account(parts, self._base, self._filter)
        values = [values for kind, values in entries[0].attributes if kind.lower() == self._attribute and values]
        if not values:
            raise AccountTrouble(f"{entries[0].name} has no {self._attribute} (account_attribute)")
        return entries[0].name, values[0][0].decode("utf-8", "surrogateescape").casefold()

    async def _search(self, parts: KeyParts) -> list[Entry]:
        base = self._base.of_key(parts, names.quoted)
        text = self._filter.of_key(parts, ldap_filter.quoted)
        if base is None or text is None:
            return []
        try:
            encoded = ldap_filter.encode(text)
        except ValueError as error:
            raise AccountTrouble(f"query_filter: {error}") from error
        attributes = (self._attribute,) if self._attribute else ("1.1",)  # RFC 4511 §4.5.1.8: none
        search = Search(base, self._scope, encoded, attributes, 0, 2, self._timeout_s)
        try:
            return await self._pool.ask(self.name, lambda connection: connection.search(search, self.name))
        except TableTrouble as error:
            raise AccountTrouble(str(error)) from error

    async def _bind(self, dn: str, password: str) -> Done:
        """A connection of its own: after the bind it is somebody else's. Raises AccountTrouble."""
        reasons = []
        for server in self._servers:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._bind_at(server, dn, password)
            except TimeoutError:
                reasons.append(f"{server}: it does not answer")
            except (OSError, ServerTrouble) as error:
                reasons.append(f"{server}: {error}")
        raise AccountTrouble("; ".join(reasons))

    async def _bind_at(self, server: LdapServer, dn: str, password: str) -> Done:
        connection = await LdapConnection.open(self._anonymous, server)
        try:
            return await connection.bind(dn, password)
        finally:
            connection.close()

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        """It has none, but an account that it has is not for another place."""
        if self._user_dn is not None:
            return None
        found = await self._bind_name(name)
        return None if found is None else no_keys(found[1])

    async def is_disabled(self, name: str) -> bool | None:
        return None

    async def stamp(self, name: str) -> Hashable | None:
        return None

    def check(self) -> list[str]:
        return self._problems

    async def aclose(self) -> None:
        self._pool.close()


def _account(parts: KeyParts, *formats: Format) -> str:
    """The name as far as the directory was asked for it: where no domain was, anna@anywhere is nobody but anna."""
    asked = {code for each in formats for _, code in each.pieces}
    whole = asked & set("sd123456789")
    return (parts.whole if whole or parts.user is None else parts.user).casefold()
