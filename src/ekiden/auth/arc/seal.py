"""Seals a message that is passed on: one more set of ARC fields (RFC 8617 §5.1).

In:   the header as it leaves, the hash of its body, a key, what was found of the chain so far, our results.
Out:  ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results, for the top of that header.
Never: seals a chain that somebody found failed before, or that DNS did not let us judge.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from ekiden.auth.arc.chain import SETS_LIMIT, Chain, collect
from ekiden.auth.dkim.body_hash import BodyHash, BodyHashes
from ekiden.auth.dkim.canonical import RELAXED, SignableHeader, own_input, picks, relaxed_field
from ekiden.auth.dkim.folded import FoldedTags
from ekiden.auth.dkim.keys import SigningKey
from ekiden.auth.dkim.sign import FIELDS_OF_A_NAME_LIMIT, SIGNED
from ekiden.auth.results.write import folded
from ekiden.auth.verdict import ArcVerdict, Result

# RFC 8617 §4.1.2: signatures of DKIM SHOULD be covered. Authentication-Results MUST NOT be, since others remove them;
# nor are the ARC fields, which the seal covers.
COVERED = (*SIGNED, "DKIM-Signature")

_VALIDATION = {Result.NONE: "none", Result.PASS: "pass", Result.FAIL: "fail"}


class ArcSealing:
    """Made before the body is fed to ``hashes``, or after somebody has asked them for relaxed and sha256.

    ``header``: fields with CRLF, without the empty line. ``now``: seconds since 1970. ``covered``: names of fields.
    """

    __slots__ = ("_authserv_id", "_body", "_covered", "_header", "_key", "_now")

    def __init__(
        self,
        header: bytes | SignableHeader,
        hashes: BodyHashes,
        key: SigningKey,
        *,
        authserv_id: str,
        now: float,
        covered: Sequence[str] = COVERED,
    ) -> None:
        self._header = header
        self._key = key
        self._authserv_id = authserv_id
        self._now = int(now)
        self._covered = covered
        self._body = prepared(hashes)

    def fields(self, chain: ArcVerdict, results: str) -> bytes:
        """The set, with CRLF; b"" where none is to be added (``unsealable`` says why). After ``hashes.finish()``.

        ``results`` is what results_text() gave: what we found of this message as it came in.
        """
        header = SignableHeader(self._header) if isinstance(self._header, bytes) else self._header
        before = collect(header)
        if _unsealable(before, chain):
            return b""
        validation = _VALIDATION[chain.result]
        instance = before.highest + 1
        own_results = folded(f"ARC-Authentication-Results: i={instance};", self._authserv_id, results)
        signature = self._message_signature(header, instance)
        # RFC 8617 §5.1.2: where the chain has failed, the seal covers the new set as if it were the only one.
        sealed = _covered_sets(header, before) if validation == "pass" else b""
        sealed += relaxed_field(own_results) + relaxed_field(signature)
        return self._seal(instance, validation, sealed) + signature + own_results

    def _message_signature(self, header: SignableHeader, instance: int) -> bytes:
        names = _covered_names(header, self._covered)
        before = FoldedTags("ARC-Message-Signature:")
        before.add(f"a={self._key.algorithm};")
        behind = FoldedTags("")
        behind.begin_line(f"bh={base64.b64encode(self._body.digest).decode()};")
        behind.add(f"c={RELAXED}/{RELAXED};")
        behind.add(f"d={self._key.domain};")
        behind.add_names("h=", names)
        behind.add(f"i={instance};")
        behind.add(f"s={self._key.selector};")
        behind.add(f"t={self._now}")
        return self._signed(before, behind, header.canonical(header.pick(picks(names)), RELAXED))

    def _seal(self, instance: int, validation: str, sealed: bytes) -> bytes:
        """RFC 8617 §5.1.1."""
        before = FoldedTags("ARC-Seal:")
        before.add(f"a={self._key.algorithm};")
        behind = FoldedTags("")
        behind.begin_line(f"cv={validation};")
        behind.add(f"d={self._key.domain};")
        behind.add(f"i={instance};")
        behind.add(f"s={self._key.selector};")
        behind.add(f"t={self._now}")
        return self._signed(before, behind, sealed)

    def _signed(self, before: FoldedTags, behind: FoldedTags, covered: bytes) -> bytes:
        """The field with b= between the tags ``before`` and ``behind`` it, which is where their alphabet has it."""
        before.begin_line("b=")
        tail = b";" + behind.octets() + b"\r\n"
        digest = hashlib.sha256(covered + own_input(before.octets() + tail, RELAXED)).digest()
        before.add_base64(base64.b64encode(self._key.sign_digest(digest)).decode())
        return before.octets() + tail


def prepared(hashes: BodyHashes) -> BodyHash:
    """Before the body is fed: have made of it what a seal needs."""
    return hashes.want(RELAXED, "sha256", None)


def unsealable(header: bytes | SignableHeader, chain: ArcVerdict) -> str:
    """Why no set is to be added to this message, in plain words; "" where one is."""
    return _unsealable(collect(SignableHeader(header) if isinstance(header, bytes) else header), chain)


def _unsealable(before: Chain, chain: ArcVerdict) -> str:
    if before.failed:
        # RFC 8617 §5.1, step 2
        return "somebody sealed before that the chain has failed"
    if before.highest >= SETS_LIMIT:
        # RFC 8617 §4.2.1
        return f"the chain has {SETS_LIMIT} sets or more"
    if chain.result not in _VALIDATION:
        return f"it is not known whether the chain holds: {chain.reason}"
    if (chain.result is Result.NONE) is not (before == Chain()) or (chain.result is Result.PASS and before.trouble):
        return "the chain is not the one that was verified"
    return ""


def _covered_names(header: SignableHeader, covered: Sequence[str]) -> list[str]:
    """h=: each name as often as the field is there; From in any case (RFC 6376 §5.4)."""
    names: list[str] = []
    for name in covered:
        names += [name] * min(len(header.named(name.lower().encode())), FIELDS_OF_A_NAME_LIMIT)
    return names if any(name.lower() == "from" for name in names) else ["From", *names]


def _covered_sets(header: SignableHeader, chain: Chain) -> bytes:
    """RFC 8617 §5.1.1: the sets in their order, each as results, message signature, seal."""
    fields = [field for one in chain.sets for field in (one.results, one.message_signature, one.seal_field)]
    return header.canonical(fields, RELAXED)
