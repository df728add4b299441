"""Whose mail gets which DKIM signatures: dkim_signing_table, and the keys that it names.

In:   the header of a message that is ours to sign (dkim_signing_clients decides that), and the hash of its body.
Out:  DKIM-Signature fields for the top of the header; what a key lacked; perhaps a refusal.
Never: reads a file (the supervisor does), uses a key outside of dkim_key_directory, signs without an entry for From:.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dkim.keys import KeyTrouble, SigningKey, signing_key
from ekiden.auth.dkim.sign import DkimSigning, SigningOptions
from ekiden.config.snapshot import Parameters
from ekiden.dns.name import host_name
from ekiden.message.address import Address
from ekiden.message.address_list import parse_addresses
from ekiden.message.reply import Refusal, reply
from ekiden.tables.address import find_transport
from ekiden.tables.open import Maps
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import KeyFiles

# Of an entry: RSA and Ed25519, both also for a second domain, and one that is on its way out.
SIGNATURES_LIMIT = 5
AUTHORS_LIMIT = 10  # addresses of From: that are looked up
_KEYS_LIMIT = 10_000  # that are kept parsed
_NONE = "none"  # an entry that says: no signature

_BROKEN = reply(451, "4.3.5", "Error: the message cannot be signed")
_NO_TABLE = reply(451, "4.3.0", "Error: a lookup table is not available")


class NamedKey(Struct, frozen=True):
    """A key as an entry of the table names it. ``file`` is an absolute path below the directory of keys."""

    domain: str
    selector: str
    file: str


class Signed(Struct, frozen=True):
    """``keys``: the names of the records of the keys that signed. ``troubles``: warnings for the log, a line each."""

    fields: bytes = b""
    keys: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    refusal: Refusal | None = None


_UNSIGNED = Signed()


class KeyRing:
    """The keys that the supervisor has read, parsed when they are first used and again when their files changed."""

    def __init__(self, key_files: Callable[[], KeyFiles]) -> None:
        """``key_files``: what the files hold now."""
        self._key_files = key_files
        self._known: dict[NamedKey, tuple[bytes, SigningKey | KeyTrouble]] = {}

    def key(self, named: NamedKey) -> SigningKey:
        """Raises KeyTrouble."""
        files = self._key_files()
        pem = files.contents.get(named.file)
        if pem is None:
            reason = files.troubles.get(named.file) or files.troubles.get(os.path.dirname(named.file))
            raise KeyTrouble(reason or "there is no such file, or its name does not end in .pem, .key or .private")
        known = self._known.get(named)
        if known is None or known[0] != pem:
            if len(self._known) >= _KEYS_LIMIT:
                self._known.clear()
            found: SigningKey | KeyTrouble
            try:
                found = signing_key(named.domain, named.selector, pem)
            except KeyTrouble as trouble:
                found = trouble
            known = self._known[named] = pem, found
        if isinstance(known[1], KeyTrouble):
            raise KeyTrouble(str(known[1]))
        return known[1]


class DkimSigner:
    """What one service signs. Asked for nothing where dkim_signing_table is empty: it is false then."""

    def __init__(self, parameters: Parameters, maps: Maps, *, key_files: Callable[[], KeyFiles]) -> None:
        """``maps``: the tables of dkim_signing_table."""
        self._maps = maps
        self._delimiter = parameters.recipient_delimiter
        self._directory = os.path.normpath(parameters.dkim_key_directory)
        self._required = parameters.dkim_signing_required
        self._ring = KeyRing(key_files)
        self._options = signing_options(parameters)

    def __bool__(self) -> bool:
        return bool(self._maps)

    def prepare(self, hashes: BodyHashes) -> None:
        """Before the body is fed: have made of it what sign() needs."""
        hashes.want(self._options.body_canonicalization, "sha256", None)

    async def sign(self, header: bytes, hashes: BodyHashes, *, now: float) -> Signed:
        """``header`` is the one that leaves: rewritten, with all that was added. After ``hashes.finish()``."""
        signable = SignableHeader(header)
        try:
            entry, author = await self._entry(signable)
        except TableTrouble as trouble:
            return Signed(troubles=(str(trouble),), refusal=Refusal(_NO_TABLE, "table-trouble", str(trouble)))
        if not entry or entry.lower() == _NONE:
            return _UNSIGNED
        keys, troubles = self._keys(entry, author)
        if troubles and self._required:
            return Signed(troubles=tuple(troubles), refusal=Refusal(_BROKEN, "dkim-key-unusable", troubles[0]))
        signing = DkimSigning(signable, hashes, keys, now=now, options=self._options)
        return Signed(signing.fields(), tuple(key.record_name for key in keys), tuple(troubles))

    async def _entry(self, header: SignableHeader) -> tuple[str, str]:
        """What the table says of the first author that it knows, and that author's domain. Raises TableTrouble."""
        for address in authors(header):
            domain = host_name(address.domain)
            if domain is not None:
                found = await find_transport(self._maps, address, delimiter=self._delimiter)
                if found is not None:
                    return found.value, domain
        return "", ""

    def _keys(self, entry: str, author: str) -> tuple[list[SigningKey], list[str]]:
        """The keys of an entry that can be used, and what the others lack."""
        keys: list[SigningKey] = []
        troubles: list[str] = []
        words = entry_words(entry)
        for word in words[:SIGNATURES_LIMIT]:
            try:
                named = named_key(word, author, self._directory)
            except KeyTrouble as trouble:
                troubles.append(f"no DKIM signature by {word}: {trouble}")
                continue
            try:
                keys.append(self._ring.key(named))
            except KeyTrouble as trouble:
                troubles.append(f"no DKIM signature by {named.file} for {author}: {trouble}")
        if len(words) > SIGNATURES_LIMIT:
            troubles.append(f"an entry of dkim_signing_table for {author} has more than {SIGNATURES_LIMIT} keys")
        return keys, troubles


def signing_options(parameters: Parameters) -> SigningOptions:
    header, _, body = parameters.dkim_canonicalization.partition("/")
    return SigningOptions(
        header_canonicalization=header,
        body_canonicalization=body,
        signed=parameters.dkim_sign_headers,
        oversigned=parameters.dkim_oversign_headers,
        lifetime_s=int(parameters.dkim_signature_lifetime),
    )


def authors(header: SignableHeader) -> list[Address]:
    """The addresses of From:, the first AUTHORS_LIMIT of them."""
    found: list[Address] = []
    for field in header.named(b"from")[:AUTHORS_LIMIT]:
        # Each address has a word, an operator and a word at least.
        listed = parse_addresses(field.value, token_limit=100 * AUTHORS_LIMIT)
        found += [mailbox.address for mailbox in listed.mailboxes if mailbox.has_domain]
    return found[:AUTHORS_LIMIT]


def entry_words(entry: str) -> list[str]:
    """The keys of a value of the table, separated by commas or white space."""
    return entry.replace(",", " ").split()


def named_key(word: str, author: str, directory: str) -> NamedKey:
    """``domain:selector:file``; % in it is ``author``, a domain in A-labels. Raises KeyTrouble."""
    parts = word.replace("%", author).split(":", 2)
    if len(parts) != 3 or not all(parts):
        raise KeyTrouble("an entry of dkim_signing_table is not domain:selector:file")
    domain, selector, file = parts
    path = os.path.normpath(os.path.join(directory, file))
    if not path.startswith(directory.rstrip("/") + "/"):
        raise KeyTrouble(f"{path} does not lie in dkim_key_directory ({directory})")
    return NamedKey(domain, selector, path)


def listed_keys(entries: Sequence[tuple[str, str]], directory: str) -> list[tuple[str, NamedKey | KeyTrouble]]:
    """For the entries of a table that can be listed: each key once, with the entry's own key for %.

    Where % stands for any domain (the keys ``*`` and ``.parent``) there is nothing to list.
    """
    found: dict[tuple[str, str], NamedKey | KeyTrouble] = {}
    for key, value in entries:
        if value.strip().lower() == _NONE:
            continue
        domain = host_name(key.rpartition("@")[2]) or ""
        for word in entry_words(value):
            if "%" in word and not domain:
                continue
            try:
                found[key, word] = named_key(word, domain, directory)
            except KeyTrouble as trouble:
                found[key, word] = trouble
    once: dict[NamedKey | KeyTrouble, str] = {}
    for (key, _), named in found.items():
        once.setdefault(named, key)
    return [(key, named) for named, key in once.items()]
