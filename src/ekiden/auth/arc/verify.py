"""Verifies the chain of ARC sets of a message (RFC 8617 §5.2).

In:   the header as received; the hashes of the body, which others feed; a Resolver; the time of arrival.
Out:  one ArcVerdict, which says in plain words what was found.
Never: raises for what senders or their domains wrote; looks at a chain of a thousand sets for longer than at one.

One thing differs from the RFC: §5.2 has a chain fail where DNS does not answer. Here that is a temporary error, as it
is everywhere else: with it a message is neither trusted nor sealed as failed, which would be for ever.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from ekiden.auth.arc.chain import SETS_LIMIT, ArcSet, collect
from ekiden.auth.dkim.body_hash import BodyHash, BodyHashes
from ekiden.auth.dkim.canonical import RELAXED, SignableHeader, own_input
from ekiden.auth.dkim.key_lookup import KeyLookups
from ekiden.auth.dkim.key_record import KeyRecord
from ekiden.auth.dkim.signature import Signature, Signer
from ekiden.auth.verdict import ArcVerdict, Result
from ekiden.dns.resolver import Resolver


class ArcLimits(Struct, frozen=True):
    names: int = 30  # different keys that are asked for
    message_signatures: int = 10  # the newest, that are verified; whether older ones hold changes nothing
    records: int = 16  # of one name that are read
    keys: int = 4  # of one name that are tried
    key_bits_minimum: int = 1024  # RFC 8301 §3.2
    key_bits_maximum: int = 4096
    time_s: float = 20.0  # for the look-up of one key
    clock_skew_s: int = 300  # how far the sealer's clock may differ, for x=


DEFAULT_LIMITS = ArcLimits()


class ArcVerification:
    """``start`` asks for the keys while the body comes in; ``verdict`` is for when it has ended.

    ``header`` is the block of fields with CRLF, without the empty line; one that was taken apart already serves as
    well. ``now`` is in seconds since 1970.
    """

    def __init__(
        self,
        header: bytes | SignableHeader,
        hashes: BodyHashes,
        *,
        resolver: Resolver,
        limits: ArcLimits = DEFAULT_LIMITS,
        now: float,
    ) -> None:
        self._header = header if isinstance(header, SignableHeader) else SignableHeader(header)
        self._limits = limits
        self._now = now
        self._lookups = KeyLookups(resolver, records=limits.records, keys=limits.keys, time_s=limits.time_s)
        chain = collect(self._header)
        self._sets = chain.sets
        self._highest = chain.highest
        self._trouble = chain.trouble or (self._unacceptable() if chain.sets else "")
        self._bodies: dict[int, BodyHash] = {}
        if self._sets and not self._trouble:
            for one in self._sets[-limits.message_signatures :]:
                signer = one.signature.signer
                self._bodies[one.instance] = hashes.want(
                    signer.body_canonicalization, signer.hash_name, one.signature.body_length
                )

    def start(self) -> None:
        """Begins the look-ups, one for each name. Needs a running event loop."""
        if self._sets and not self._trouble:
            for signer in self._signers():
                self._lookups.begin(signer)

    def cancel(self) -> None:
        """Nobody waits for the verdict any more."""
        self._lookups.cancel()

    async def verdict(self) -> ArcVerdict:
        """The body must have ended (``hashes.finish()``)."""
        if self._trouble:
            return self._verdict(Result.FAIL, self._trouble)
        if not self._sets:
            return NO_CHAIN
        self.start()
        newest = self._sets[-1]
        found = await self._message_signature(newest)
        unknown = "" if found.result is not Result.TEMPERROR else found.reason
        if found.result is Result.FAIL:
            return self._verdict(Result.FAIL, found.reason)
        for one, digest in reversed(list(zip(self._sets, self._seal_digests(), strict=True))):
            found = await self._seal(one, digest)
            if found.result is Result.FAIL:
                return self._verdict(Result.FAIL, found.reason)
            if found.result is Result.TEMPERROR:
                unknown = unknown or found.reason
        if unknown:
            return self._verdict(Result.TEMPERROR, unknown)
        oldest = await self._oldest_pass()
        return self._verdict(Result.PASS, f"all {len(self._sets)} seals hold", oldest)

    def _verdict(self, result: Result, reason: str, oldest_pass: int = 0) -> ArcVerdict:
        sealers = tuple(one.seal.signature.signer.domain for one in self._sets)
        return ArcVerdict(result, min(self._highest, SETS_LIMIT), sealers, oldest_pass, reason)

    def _unacceptable(self) -> str:
        """What is wrong with well-formed sets before any key is known."""
        for one in self._sets:
            for signature, field in ((one.signature, "ARC-Message-Signature"), (one.seal.signature, "ARC-Seal")):
                signer = signature.signer
                if signer.hash_name != "sha256":
                    # RFC 8301 §3.1: rsa-sha1 MUST NOT be used.
                    return f"{field} i={one.instance} is by {signer.algorithm}, which proves nothing any more"
                if not signer.key_name:
                    return f"s= and d= of {field} i={one.instance} are too long for a name in DNS"
        expires = self._sets[-1].signature.expires_at
        if expires is not None and expires + self._limits.clock_skew_s < self._now:
            return f"its newest message signature has expired (x={expires})"
        if len({signer.key_name for signer in self._signers()}) > self._limits.names:
            return f"it names more than {self._limits.names} keys"
        return ""

    def _signers(self) -> list[Signer]:
        newest = self._sets[-self._limits.message_signatures :]
        return [*(one.seal.signature.signer for one in self._sets), *(one.signature.signer for one in newest)]

    async def _message_signature(self, one: ArcSet) -> _Found:
        what = f"the message signature i={one.instance} of {one.signature.signer.domain}"
        body, signature, signer = self._bodies[one.instance], one.signature, one.signature.signer
        if not body.digest:
            raise RuntimeError("a verdict is asked for before the body has ended")
        # RFC 6376 §3.5: l= MUST NOT be larger than the canonical body.
        if body.digest != signature.body_hash or (signature.body_length or 0) > body.octets:
            return _Found(Result.FAIL, f"{what} does not hold: the body differs from what was signed")
        if len(self._header.named(b"from")) > signer.authors:
            # RFC 6376 §8.15: what was added above is what people see.
            return _Found(Result.FAIL, f"{what} leaves a From field out, which was added")
        signed = self._header.hash_input(signer.picks, signer.header_canonicalization, one.message_signature)
        return await self._by_key(signature, hashlib.sha256(signed).digest(), what)

    async def _seal(self, one: ArcSet, digest: bytes) -> _Found:
        signature = one.seal.signature
        return await self._by_key(signature, digest, f"the seal i={one.instance} of {signature.signer.domain}")

    async def _by_key(self, signature: Signature, digest: bytes, what: str) -> _Found:
        keys = await self._lookups.keys(signature.signer)
        if keys.result is not Result.NONE:
            result = Result.TEMPERROR if keys.result is Result.TEMPERROR else Result.FAIL
            return _Found(result, f"{what} has no key: {keys.trouble}")
        found = _Found(Result.FAIL, "")
        for record in keys.records:
            reason = self._against(record, signature, digest)
            found = _Found(Result.FAIL, f"{what} {reason}") if reason else _Found(Result.PASS)
            if found.result is Result.PASS:
                break
        return found

    def _against(self, record: KeyRecord, signature: Signature, digest: bytes) -> str:
        limits = self._limits
        if record.key_type == "rsa" and not limits.key_bits_minimum <= record.bits <= limits.key_bits_maximum:
            # RFC 8301 §3.2: keys of less than 1024 bits MUST NOT be accepted.
            return f"is by a key of {record.bits} bits, which is not accepted"
        if not record.holds(signature.signature, digest):
            return "does not hold: the fields differ from what was signed, or another key signed"
        return ""

    def _seal_digests(self) -> list[bytes]:
        """What each seal signs: all sets to its own, each as results, message signature, seal (RFC 8617 §5.1.1)."""
        digests: list[bytes] = []
        so_far = hashlib.sha256()
        for one in self._sets:
            so_far.update(self._header.canonical([one.results, one.message_signature], RELAXED))
            own = so_far.copy()
            own.update(own_input(one.seal_field.raw, RELAXED))
            digests.append(own.digest())
            so_far.update(self._header.canonical([one.seal_field], RELAXED))
        return digests

    async def _oldest_pass(self) -> int:
        """RFC 8617 §5.2, step 4: the oldest message signature down to which all hold; 0 where all of all do."""
        oldest = len(self._sets)
        for one in reversed(self._sets[:-1]):
            if one.instance not in self._bodies or (await self._message_signature(one)).result is not Result.PASS:
                return oldest
            oldest = one.instance
        return 0


# Of a message without ARC fields.
NO_CHAIN = ArcVerdict(Result.NONE, reason="there are no ARC fields")


class _Found(Struct, frozen=True):
    result: Result  # PASS, FAIL or TEMPERROR
    reason: str = ""
