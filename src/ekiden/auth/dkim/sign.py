"""DKIM signatures of a message that leaves (RFC 6376 §5): one field for each key.

In:   the header as it leaves, the hash of the body as it streamed by, the keys, the time.
Out:  whole DKIM-Signature fields, to be put at the top of that header.
Never: covers a part of the body only (l=): what others append would seem to be signed (RFC 6376 §8.2).

Which fields a signature covers, the canonical forms and the body hash do not depend on the version of signatures. A
later version (DKIM2, being made) is another function in the place of _field_of_version_1, of the same arguments.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import RELAXED, SignableField, SignableHeader, relaxed_field
from ekiden.auth.dkim.folded import FoldedTags
from ekiden.auth.dkim.keys import SigningKey

# RFC 6376 §5.4.1, and what decides how a body is shown; RFC 8058 §4 asks for the two List-Unsubscribe fields.
SIGNED = (
    *("From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-ID", "Content-Description"),
    *("In-Reply-To", "References"),
    *("Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID"),
    *("List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post"),
    *("List-Owner", "List-Archive"),
)
# RFC 6376 §8.15: an attacker who adds one of these shows the reader something else than was signed.
OVERSIGNED = (
    *("From", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
)
# RFC 5321 §6.4: servers on the way may add these where they are missing, so their absence is not signed.
_ADDED_ON_THE_WAY = frozenset({"date", "message-id"})
# Of more fields of one name than this, the lowest are signed, so that h= does not grow with what a client sends (and
# whoever sends that many has let others add more of them).
FIELDS_OF_A_NAME_LIMIT = 50


class SigningOptions(Struct, frozen=True):
    """``signed`` and ``oversigned`` are names of fields; From is always signed (RFC 6376 §5.4).

    ``lifetime_s`` 0: no x=. ``identity``: i=, ``local@domain`` or ``@domain`` at or below the keys' domain; "": none.
    """

    header_canonicalization: str = RELAXED
    body_canonicalization: str = RELAXED
    signed: tuple[str, ...] = SIGNED
    oversigned: tuple[str, ...] = OVERSIGNED
    lifetime_s: int = 0
    identity: str = ""


DEFAULT_OPTIONS = SigningOptions()


class DkimSigning:
    """Made before the body is fed to ``hashes``, or after somebody has asked them for the same canonicalization."""

    __slots__ = ("_body", "_header", "_keys", "_now", "_options")

    def __init__(
        self,
        header: bytes | SignableHeader,
        hashes: BodyHashes,
        keys: Sequence[SigningKey],
        *,
        now: float,
        options: SigningOptions = DEFAULT_OPTIONS,
    ) -> None:
        """``header``: fields with CRLF, without the empty line. ``now``: seconds since 1970.

        Raises ValueError where i= does not lie at or below the domain of every key (RFC 6376 §3.5).
        """
        domain = options.identity.rpartition("@")[2].lower()
        if options.identity and not all(f".{domain}".endswith(f".{key.domain}") for key in keys):
            raise ValueError(f"i={options.identity} is not of the domain that signs")
        self._header = header
        self._keys = keys
        self._now = int(now)
        self._options = options
        self._body = hashes.want(options.body_canonicalization, "sha256", None)

    def fields(self) -> bytes:
        """DKIM-Signature fields with CRLF, in the order of the keys. After ``hashes.finish()``."""
        if not self._keys:
            return b""
        options = self._options
        header = SignableHeader(self._header) if isinstance(self._header, bytes) else self._header
        names, fields = covered(header, options.signed, options.oversigned)
        # What all signatures have in common is hashed once; each goes on with its own field.
        form = options.header_canonicalization
        begun = hashlib.sha256(header.canonical(fields, form))
        body = base64.b64encode(self._body.digest).decode()
        return b"".join(
            _field_of_version_1(key, names, body, begun.copy(), now=self._now, options=options) for key in self._keys
        )


def covered(
    header: SignableHeader, signed: Sequence[str], oversigned: Sequence[str]
) -> tuple[tuple[str, ...], list[SignableField]]:
    """What h= lists, and the fields that it stands for in their order, those of a name from the bottom up (§5.4.2).

    Each name is there as often as the field is, and once more where it is oversigned.
    """
    names: list[str] = []
    fields: list[SignableField] = []
    for name, key, once_more, absence in _plan(tuple(signed), tuple(oversigned)):
        there = header.named(key)
        if there:
            fields += there[: -FIELDS_OF_A_NAME_LIMIT - 1 : -1]  # the lowest first
            names += [name] * min(len(there) + once_more, FIELDS_OF_A_NAME_LIMIT)
        elif absence:
            names.append(name)
    return tuple(names), fields


@lru_cache(maxsize=64)
def _plan(signed: tuple[str, ...], oversigned: tuple[str, ...]) -> tuple[tuple[str, bytes, bool, bool], ...]:
    """Each name once, From first: as written, in lower case, whether it is oversigned, also where there is none."""
    names: dict[str, str] = {}
    for name in ("From", *signed, *oversigned):
        names.setdefault(name.lower(), name)
    once_more = {name.lower() for name in oversigned}
    return tuple(
        (name, key.encode(), key in once_more, key in once_more and key not in _ADDED_ON_THE_WAY)
        for key, name in names.items()
    )


def _field_of_version_1(
    key: SigningKey, names: tuple[str, ...], body: str, begun: hashlib._Hash, *, now: int, options: SigningOptions
) -> bytes:
    """A DKIM-Signature field (RFC 6376 §3.5). ``begun``: the hash of the header fields that it covers (§3.7)."""
    text = _begun_field(key.algorithm, key.domain, key.selector, names, options).copy()
    text.add(f"t={now};")
    if options.lifetime_s:
        text.add(f"x={now + options.lifetime_s};")
    text.add(f"bh={body};")
    text.begin_line("b=")
    own = text.octets() + b"\r\n"
    begun.update((relaxed_field(own) if options.header_canonicalization == RELAXED else own)[:-2])
    text.add_base64(base64.b64encode(key.sign_digest(begun.digest())).decode())
    return text.octets() + b"\r\n"


@lru_cache(maxsize=1024)
def _begun_field(
    algorithm: str, domain: str, selector: str, names: tuple[str, ...], options: SigningOptions
) -> FoldedTags:
    """The tags that are the same for most messages of a domain."""
    text = FoldedTags("DKIM-Signature: v=1;")
    text.add(f"a={algorithm};")
    text.add(f"c={options.header_canonicalization}/{options.body_canonicalization};")
    text.add(f"d={domain};")
    text.add(f"s={selector};")
    if options.identity:
        text.add(f"i={_quoted_printable(options.identity)};")
    text.add_names("h=", names)
    return text


def _quoted_printable(text: str) -> str:
    """dkim-quoted-printable (RFC 6376 §2.11)."""
    return "".join(
        chr(octet) if 0x21 <= octet <= 0x7E and octet not in b";=" else f"={octet:02X}" for octet in text.encode()
    )
