"""What a DKIM-Signature field says (RFC 6376 §3.5, RFC 8463 §3, RFC 8616 §5).

In:   the value of the field, folded or not.
Out:  a Signature whose tags are there, well formed and agree with each other; whether it holds is another question.
Never: raises anything but SignatureError, which says in plain words what is wrong; judges the tags of a signer again
       that are the same in all of its mail.
"""

from __future__ import annotations

import functools
import re

from msgspec import Struct

from ekiden.auth.dkim.canonical import RELAXED, SIMPLE, Pick, picks
from ekiden.auth.tags import TagError, base64_value, list_value, number_value, parse_tags, required
from ekiden.dns.name import dns_name

# rsa-sha1 is known so that it can be named where it is refused (RFC 8301 §3.1).
DIGEST_OCTETS = {"rsa-sha256": 32, "ed25519-sha256": 32, "rsa-sha1": 20}

# RFC 6376 §3.5 has letters, digits and hyphens; selectors in use have "_" too.
_NAME = re.compile(r"[0-9a-z_.-]+")
_HEADER_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 §2.2
_QUOTED_BYTES = re.compile(rb"=([0-9A-F]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FWS = re.compile(r"[ \t]+")


class SignatureError(ValueError):
    """A field that is no signature. ``domain`` and ``selector`` are what could be read of it, else ""."""

    def __init__(self, reason: str, domain: str = "", selector: str = "") -> None:
        super().__init__(reason)
        self.domain = domain
        self.selector = selector


class Signer(Struct, frozen=True):
    """Who signs what, and how: what is the same in many signatures. Names of domains are in A-labels and lower case."""

    algorithm: str  # a=
    domain: str  # d=
    selector: str  # s=
    signed_headers: tuple[str, ...] = ()  # h=, as written
    header_canonicalization: str = SIMPLE  # c=
    body_canonicalization: str = SIMPLE
    identity: str = ""  # i=, decoded
    identity_domain: str = ""
    # What follows from them:
    key_type: str = ""  # as k= of a key record has it
    hash_name: str = ""  # as h= of a key record has it
    key_name: str = ""  # where the key record is, in the form in which DNS is asked for it; "": no such name can exist
    picks: tuple[Pick, ...] = ()  # what h= stands for
    authors: int = 0  # how many From fields h= names


class Signature(Struct, frozen=True):
    signer: Signer
    signature: bytes  # b=
    body_hash: bytes = b""  # bh=
    body_length: int | None = None  # l=, octets of the canonical body
    signed_at: int | None = None  # t=, seconds since 1970
    expires_at: int | None = None  # x=


def key_name(domain: str, selector: str) -> str:
    """RFC 6376 §3.6.2.1."""
    return f"{selector}._domainkey.{domain}"


def parse_signature(value: bytes) -> Signature:
    """Raises SignatureError."""
    try:
        tags = parse_tags(value)
    except TagError as error:
        raise SignatureError(str(error)) from None
    signer_of = _known_signer if len(value) <= _KNOWN_OCTETS else _signer
    signer = signer_of(*map(tags.get, _SIGNER_TAGS))
    try:
        signature = base64_value(tags, "b")
        body_hash = body_hash_value(tags, signer.algorithm)
        # Most signatures have one of these at most.
        signed_at = number_value(tags, "t") if "t" in tags else None
        expires_at = number_value(tags, "x") if "x" in tags else None
        body_length = number_value(tags, "l") if "l" in tags else None
        if signed_at is not None and expires_at is not None and expires_at <= signed_at:
            raise TagError("it expires (x=) before it was made (t=)")
    except TagError as error:
        raise SignatureError(str(error), signer.domain, signer.selector) from None
    return Signature(signer, signature, body_hash, body_length, signed_at, expires_at)


_SIGNER_TAGS = ("v", "a", "c", "d", "h", "i", "q", "s")


def _signer(*values: str | None) -> Signer:
    """``values`` are those of _SIGNER_TAGS. Raises SignatureError."""
    tags = {name: value for name, value in zip(_SIGNER_TAGS, values, strict=True) if value is not None}
    domain = selector = ""
    try:
        # RFC 6376 §3.5: v= must be "1", which is compared as a string.
        if required(tags, "v") != "1":
            raise TagError(f"version {tags['v'][:20]!r} is not known")
        domain = domain_value(tags)
        selector = selector_value(tags)
        algorithm = algorithm_value(tags)
        names = header_names(tags)
        if "from" not in map(str.lower, names):
            # RFC 6376 §5.4, §6.1.1
            raise TagError("From is not among the signed fields (h=)")
        forms = canonicalizations(tags)
        # RFC 6376 §3.5: methods that are not known are passed over.
        if "dns/txt" not in list_value(tags.get("q", "dns/txt")):
            raise TagError("q= names no way to ask for the key that is known")
        return make_signer(algorithm, domain, selector, names, forms, _identity(tags, domain))
    except TagError as error:
        raise SignatureError(str(error), domain, selector) from None


# Who signs mail signs all of it alike. Longer fields than this are not in use, and must not fill the memory.
_known_signer = functools.lru_cache(maxsize=256)(_signer)
_KNOWN_OCTETS = 1400


def make_signer(
    algorithm: str,
    domain: str,
    selector: str,
    names: tuple[str, ...] = (),
    forms: tuple[str, str] = (SIMPLE, SIMPLE),
    identity: tuple[str, str] | None = None,
) -> Signer:
    """Of values that are good; ``identity`` is the domain's where there is none (i=)."""
    key_type, _, hash_name = algorithm.partition("-")
    chosen = picks(names)
    return Signer(
        algorithm,
        domain,
        selector,
        names,
        *forms,
        *(identity or (f"@{domain}", domain)),
        key_type,
        hash_name,
        dns_name(key_name(domain, selector)) or "",
        chosen,
        sum(name == b"from" for name, _ in chosen),
    )


def algorithm_value(tags: dict[str, str]) -> str:
    """a=, one of DIGEST_OCTETS. Raises TagError."""
    algorithm = required(tags, "a")
    if algorithm not in DIGEST_OCTETS:
        raise TagError(f"algorithm {algorithm[:40]!r} is not known")
    return algorithm


def body_hash_value(tags: dict[str, str], algorithm: str) -> bytes:
    """bh=. Raises TagError."""
    digest = base64_value(tags, "bh")
    if len(digest) != DIGEST_OCTETS[algorithm]:
        raise TagError(f"bh= is not a hash of {algorithm}")
    return digest


def domain_value(tags: dict[str, str]) -> str:
    """d= in A-labels. Raises TagError."""
    # RFC 6376 §3.5   domain-name = sub-domain 1*("." sub-domain)
    name = _labels(required(tags, "d"))
    if name is None or "." not in name:
        raise TagError("d= is not the name of a domain")
    return name


def selector_value(tags: dict[str, str]) -> str:
    """s= in A-labels. Raises TagError."""
    name = _labels(required(tags, "s"))
    if name is None:
        raise TagError("s= is not a selector")
    return name


def header_names(tags: dict[str, str]) -> tuple[str, ...]:
    """h=, as written. Raises TagError."""
    names = list_value(required(tags, "h"))
    for name in names:
        if _HEADER_NAME.fullmatch(name) is None:
            raise TagError("h= is not a list of header fields")
    return names


def canonicalizations(tags: dict[str, str]) -> tuple[str, str]:
    """c=: of the header and of the body, ``simple`` where it says nothing (RFC 6376 §3.5). Raises TagError."""
    header_form, slash, body_form = tags.get("c", SIMPLE).partition("/")
    known = (SIMPLE, RELAXED)
    if header_form not in known or (slash and body_form not in known):
        raise TagError("c= names a canonicalization that is not known")
    return header_form, body_form or SIMPLE


def _identity(tags: dict[str, str], domain: str) -> tuple[str, str] | None:
    """i= and its domain, which is d= or below it (RFC 6376 §3.5). Raises TagError."""
    text = tags.get("i")
    if text is None:
        return None
    # RFC 6376 §2.11: white space within does not count. Octets of UTF-8 may be written either way.
    octets = _FWS.sub("", text).encode()
    try:
        identity = _QUOTED_BYTES.sub(lambda found: bytes((int(found[1], 16),)), octets).decode("utf-8")
    except UnicodeDecodeError:
        raise TagError("i= is not UTF-8") from None
    # RFC 5321 §4.1.2: a mailbox holds none; encoded ones would reach headers and logs.
    if _CONTROL.search(identity) is not None:
        raise TagError("i= holds control characters")
    _, at, written = identity.rpartition("@")
    name = _labels(written)
    if not at or name is None:
        raise TagError("i= is not the address of a user or agent")
    if name != domain and not name.endswith(f".{domain}"):
        raise TagError("the domain of i= is neither d= nor below it")
    return identity, name


def _labels(text: str) -> str | None:
    """A name in A-labels, or None. U-labels may stand for them (RFC 8616 §5)."""
    if text.endswith("."):
        return None
    name = dns_name(text)
    return name if name and _NAME.fullmatch(name) is not None else None
