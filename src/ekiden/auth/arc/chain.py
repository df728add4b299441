"""The ARC sets of a message: which fields belong together, and whether they can be a chain (RFC 8617 §4.2, §5.2).

In:   the header, taken apart.
Out:  a Chain: its sets in the order in which they were added, or what is wrong with it in plain words.
Never: raises for a hostile header; reads more than SETS_LIMIT fields of a kind.
"""

from __future__ import annotations

import re
from typing import TypeVar

from msgspec import Struct

from ekiden.auth.dkim.canonical import SignableField, SignableHeader
from ekiden.auth.dkim.signature import (
    Signature,
    algorithm_value,
    body_hash_value,
    canonicalizations,
    domain_value,
    header_names,
    make_signer,
    selector_value,
)
from ekiden.auth.tags import TagError, base64_value, number_value, parse_tags, required

_T = TypeVar("_T")

SETS_LIMIT = 50  # RFC 8617 §4.2.1
RESULTS, MESSAGE_SIGNATURE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
ARC_FIELDS = frozenset({RESULTS, MESSAGE_SIGNATURE, SEAL})  # names; a header without any of these has no chain

_INSTANCE = re.compile(r"[0-9]{1,2}")
# RFC 8617 §4.1.1   arc-authres-header = "ARC-Authentication-Results:" [CFWS] arc-info
#                   arc-info = instance [CFWS] ";" authres-payload       instance = [CFWS] "i" [CFWS] "=" [CFWS] ...
_RESULTS_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*;")


class Seal(Struct, frozen=True):
    """ARC-Seal (RFC 8617 §4.1.3). ``signature``: what it has in common with a signature of DKIM."""

    instance: int
    signature: Signature
    validation: str  # cv=: what the sealer found of the chain before: "none", "pass" or "fail"


class ArcSet(Struct, frozen=True):
    instance: int
    results: SignableField
    message_signature: SignableField
    signature: Signature  # what message_signature says
    seal_field: SignableField
    seal: Seal


class Chain(Struct, frozen=True):
    """``trouble`` is why it is no chain that could hold, "" where it may be one. Without sets and trouble: none."""

    sets: tuple[ArcSet, ...] = ()  # i=1 first; only as far as the chain is well formed
    highest: int = 0  # the greatest instance that any field names; SETS_LIMIT + 1 where there are too many to say
    failed: bool = False  # its newest seal says cv=fail: nobody goes on with it (RFC 8617 §5.1)
    trouble: str = ""


_NO_CHAIN = Chain()


class _Trouble(Exception):
    pass


def collect(header: SignableHeader) -> Chain:
    """RFC 8617 §5.2, steps 1 and 2."""
    if not header.has_any(ARC_FIELDS):
        return _NO_CHAIN
    if any(len(header.named(kind)) > SETS_LIMIT for kind in ARC_FIELDS):
        return Chain(highest=SETS_LIMIT + 1, trouble=f"it has more than {SETS_LIMIT} sets")
    fields = _Fields(header)
    try:
        return Chain(fields.sets(), fields.highest)
    except _Trouble as trouble:
        return Chain((), fields.highest, fields.failed, str(trouble))


class _Fields:
    """All is read before it is judged, so that ``highest`` and ``failed`` are known of broken chains too."""

    def __init__(self, header: SignableHeader) -> None:
        self.highest = 0
        self._troubles: list[str] = []
        self._results: dict[int, SignableField] = {}
        self._signatures: dict[int, tuple[SignableField, Signature]] = {}
        self._seals: dict[int, tuple[SignableField, Seal]] = {}
        for field in header.named(RESULTS):
            self._add(self._results, results_instance(field.value), field, "ARC-Authentication-Results")
        for field in header.named(MESSAGE_SIGNATURE):
            try:
                instance, signature = parse_message_signature(field.value)
            except TagError as error:
                self._troubles.append(f"an ARC-Message-Signature is broken: {error}")
                continue
            self._add(self._signatures, instance, (field, signature), "ARC-Message-Signature")
        for field in header.named(SEAL):
            try:
                seal = parse_seal(field.value)
            except TagError as error:
                self._troubles.append(f"an ARC-Seal is broken: {error}")
                continue
            self._add(self._seals, seal.instance, (field, seal), "ARC-Seal")

    def _add(self, known: dict[int, _T], instance: int, found: _T, kind: str) -> None:
        self.highest = max(self.highest, instance)
        if not instance:
            self._troubles.append(f"an {kind} does not say which set it is of")
        elif known.setdefault(instance, found) is not found:
            self._troubles.append(f"there is more than one {kind} i={instance}")

    @property
    def failed(self) -> bool:
        newest = self._seals.get(self.highest)
        return newest is not None and newest[1].validation == "fail"

    def sets(self) -> tuple[ArcSet, ...]:
        """Raises _Trouble."""
        if self.failed:
            sealer = self._seals[self.highest][1].signature.signer.domain
            raise _Trouble(f"{sealer}, which sealed it last (i={self.highest}), found that it had failed")
        if self._troubles:
            raise _Trouble(self._troubles[0])
        return tuple(self._set(instance) for instance in range(1, self.highest + 1))

    def _set(self, instance: int) -> ArcSet:
        results = self._results.get(instance)
        signature = self._signatures.get(instance)
        seal = self._seals.get(instance)
        if results is None or signature is None or seal is None:
            lacks = "ARC-Authentication-Results" if results is None else "ARC-Message-Signature"
            raise _Trouble(f"there is no {'ARC-Seal' if results and signature else lacks} i={instance}")
        expected = "none" if instance == 1 else "pass"
        if seal[1].validation != expected:
            raise _Trouble(f"the seal i={instance} says cv={seal[1].validation}, where only {expected} can be")
        return ArcSet(instance, results, *signature, *seal)


def results_instance(value: bytes) -> int:
    """i= of ARC-Authentication-Results, which comes first; 0 where it is not there."""
    found = _RESULTS_INSTANCE.match(value)
    instance = int(found[1]) if found is not None else 0
    return instance if instance <= SETS_LIMIT else 0


def results_value(value: bytes) -> bytes:
    """What comes behind i= of ARC-Authentication-Results: as the value of Authentication-Results."""
    found = _RESULTS_INSTANCE.match(value)
    return value[found.end() :] if found is not None else value


def parse_message_signature(value: bytes) -> tuple[int, Signature]:
    """The instance and the rest, which is as in DKIM (RFC 8617 §4.1.2: no v=, no AUID). Raises TagError."""
    tags = parse_tags(value)
    instance = _instance(tags)
    algorithm, domain, names = algorithm_value(tags), domain_value(tags), header_names(tags)
    lowered = {name.lower() for name in names}
    if "arc-seal" in lowered:
        # RFC 8617 §4.1.2: ARC-Seal fields MUST NOT be included.
        raise TagError("it covers ARC-Seal fields")
    forms = canonicalizations(tags)
    signature, body_hash = base64_value(tags, "b"), body_hash_value(tags, algorithm)
    return instance, Signature(
        make_signer(algorithm, domain, selector_value(tags), names, forms),
        signature,
        body_hash,
        number_value(tags, "l"),
        number_value(tags, "t"),
        number_value(tags, "x"),
    )


def parse_seal(value: bytes) -> Seal:
    """Raises TagError."""
    tags = parse_tags(value)
    instance = _instance(tags)
    if "h" in tags:
        # RFC 8617 §4.1.3: a seal with h= makes the chain fail.
        raise TagError("it has h=")
    validation = required(tags, "cv")
    if validation not in ("none", "pass", "fail"):
        raise TagError("cv= is neither none nor pass nor fail")
    domain, algorithm = domain_value(tags), algorithm_value(tags)
    octets = base64_value(tags, "b")
    signer = make_signer(algorithm, domain, selector_value(tags))
    return Seal(instance, Signature(signer, octets, signed_at=number_value(tags, "t")), validation)


def _instance(tags: dict[str, str]) -> int:
    """RFC 8617 §4.2.1: 1 to 50. Raises TagError."""
    text = required(tags, "i")
    if _INSTANCE.fullmatch(text) is None or not 1 <= int(text) <= SETS_LIMIT:
        raise TagError(f"i= is not a number from 1 to {SETS_LIMIT}")
    return int(text)
