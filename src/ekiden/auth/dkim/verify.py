"""Verifies the DKIM signatures of a message (RFC 6376 §6.1).

In:   the header as received; the hashes of the body, which others feed; a Resolver; the time of arrival.
Out:  one DkimVerdict for each signature, from the top down, up to a limit. It says in plain words what was found.
Never: raises for what senders or their domains wrote; calls a signature failed, or good, because DNS did not answer.
"""

from __future__ import annotations

import binascii
import hashlib

from msgspec import Struct, structs

from ekiden.auth.dkim.body_hash import BodyHash, BodyHashes
from ekiden.auth.dkim.canonical import SignableField, SignableHeader
from ekiden.auth.dkim.key_lookup import KeyLookups, Keys
from ekiden.auth.dkim.key_record import KeyRecord
from ekiden.auth.dkim.signature import Signature, SignatureError, parse_signature
from ekiden.auth.verdict import DkimVerdict, Result
from ekiden.dns.resolver import Resolver

_FIELD = b"dkim-signature"
_NAMES_SHOWN = 160  # characters of h= in a reason
_B_OCTETS = 6  # what the first eight characters of b= encode, which are shown (RFC 8601 §2.7.1: header.b)


class DkimLimits(Struct, frozen=True):
    signatures: int = 10  # of one message; what lies below them is left out
    records: int = 16  # of one name that are read
    keys: int = 4  # of one name that are tried: RFC 6376 §3.6.2.2 leaves open what several mean
    key_bits_minimum: int = 1024  # RFC 8301 §3.2
    key_bits_maximum: int = 4096  # as far as every verifier must go (RFC 8301 §3.2)
    time_s: float = 20.0  # for the look-up of one key
    clock_skew_s: int = 300  # how far the signer's clock may differ, for t= and x=


DEFAULT_LIMITS = DkimLimits()


class DkimVerification:
    """``start`` asks for the keys while the body comes in; ``verdicts`` is for when it has ended.

    ``header`` is the block of fields with CRLF, without the empty line; one that was taken apart already
    serves as well. ``now`` is in seconds since 1970.
    """

    def __init__(
        self,
        header: bytes | SignableHeader,
        hashes: BodyHashes,
        *,
        resolver: Resolver,
        limits: DkimLimits = DEFAULT_LIMITS,
        now: float,
    ) -> None:
        self._header = header if isinstance(header, SignableHeader) else SignableHeader(header)
        self._lookups = KeyLookups(resolver, records=limits.records, keys=limits.keys, time_s=limits.time_s)
        self._limits = limits
        self._now = now
        found = self._header.named(_FIELD)
        self.left_out = max(0, len(found) - limits.signatures)  # signatures that are not looked at
        self._started = False
        self._checks = [self._check(field, hashes) for field in found[: limits.signatures]]

    def start(self) -> None:
        """Begins the look-ups, one for each name. Needs a running event loop."""
        self._started = True
        for check in self._checks:
            if isinstance(check, _Check):
                self._lookups.begin(check.signature.signer)

    def cancel(self) -> None:
        """Nobody waits for the verdicts any more."""
        self._lookups.cancel()

    async def verdicts(self) -> tuple[DkimVerdict, ...]:
        """From the topmost signature down. The body must have ended (``hashes.finish()``)."""
        if not self._started:
            self.start()
        verdicts: list[DkimVerdict] = []
        for check in self._checks:
            if isinstance(check, _Check):
                verdicts.append(self._judge(check, await self._lookups.keys(check.signature.signer)))
            else:
                verdicts.append(check)
        if self.left_out and verdicts:
            last = verdicts[-1]
            more = f"{self.left_out} more signatures were left out, the limit is {self._limits.signatures}"
            verdicts[-1] = structs.replace(last, reason=f"{last.reason}; {more}")
        return tuple(verdicts)

    def _check(self, field: SignableField, hashes: BodyHashes) -> _Check | DkimVerdict:
        """What is to be found out about one signature, or its verdict where the field itself says enough."""
        try:
            signature = parse_signature(field.value)
        except SignatureError as error:
            return DkimVerdict(
                Result.PERMERROR, error.domain, error.selector, reason=f"the signature field is broken: {error}"
            )
        signer = signature.signer
        if signer.algorithm == "rsa-sha1":
            # RFC 8301 §3.1: it MUST NOT be used; §3.2: such signatures have permanently failed.
            return _verdict(signature, Result.PERMERROR, "rsa-sha1 proves nothing any more")
        if not signer.key_name:
            return _verdict(signature, Result.PERMERROR, "s= and d= are too long for a name in DNS")
        skew = self._limits.clock_skew_s
        if signature.expires_at is not None and signature.expires_at + skew < self._now:
            return _verdict(signature, Result.FAIL, f"the signature has expired (x={signature.expires_at})")
        if signature.signed_at is not None and signature.signed_at - skew > self._now:
            return _verdict(signature, Result.POLICY, f"the signature is from the future (t={signature.signed_at})")
        wanted = hashes.want(signer.body_canonicalization, signer.hash_name, signature.body_length)
        return _Check(field, signature, wanted)

    def _judge(self, check: _Check, keys: Keys) -> DkimVerdict:
        verdict = None
        for record in keys.records:
            verdict = self._against(check, record)
            if verdict.result is Result.PASS:
                break
        return verdict or _verdict(check.signature, keys.result, keys.trouble)

    def _against(self, check: _Check, record: KeyRecord) -> DkimVerdict:
        """The signature and the body against one key that is for it."""
        signature, signer, limits = check.signature, check.signature.signer, self._limits
        if record.key_type == "rsa" and record.bits > limits.key_bits_maximum:
            reason = f"a key of {record.bits} bits is more than is looked at"
            return _verdict(signature, Result.POLICY, reason, record)
        if not check.body.digest:
            raise RuntimeError("a verdict is asked for before the body has ended")
        signed = self._header.hash_input(signer.picks, signer.header_canonicalization, check.field)
        trouble = []
        # RFC 6376 §3.5: l= MUST NOT be larger than the canonical body.
        if check.body.digest != signature.body_hash or (signature.body_length or 0) > check.body.octets:
            trouble.append(_body_differs(check))
        if not record.holds(signature.signature, hashlib.sha256(signed).digest()):
            trouble.append(_header_differs(check, record))
        if trouble:
            return _verdict(signature, Result.FAIL, "; ".join(trouble), record)
        # RFC 6376 §8.15: a field that was added above the signed one is what people see.
        if len(self._header.named(b"from")) > signer.authors:
            reason = "the signature holds, but a From field was added that it leaves out"
            return _verdict(signature, Result.POLICY, reason, record)
        if record.key_type == "rsa" and record.bits < limits.key_bits_minimum:
            reason = f"the signature holds, but its key has only {record.bits} bits"
            return _verdict(signature, Result.POLICY, reason, record)
        said = f"{len(signer.signed_headers)} names of header fields and {_extent(check)} are signed"
        return _verdict(signature, Result.PASS, f"{said} by a key of {record.bits} bits", record)


class _Check(Struct, frozen=True):
    field: SignableField
    signature: Signature
    body: BodyHash


def _verdict(signature: Signature, result: Result, reason: str, record: KeyRecord | None = None) -> DkimVerdict:
    signer = signature.signer
    return DkimVerdict(
        result,
        signer.domain,
        signer.selector,
        signer.identity,
        signer.algorithm,
        binascii.b2a_base64(signature.signature[:_B_OCTETS], newline=False).decode(),
        record is not None and record.testing,
        record.bits if record is not None else 0,
        signer.signed_headers,
        signature.body_length,
        reason,
    )


def _extent(check: _Check) -> str:
    length, octets = check.signature.body_length, check.body.octets
    if length is None or length == octets:
        return f"the body of {octets} octets"
    return f"only the first {length} of {octets} octets of the body (l=)"


def _body_differs(check: _Check) -> str:
    length, octets, form = check.signature.body_length, check.body.octets, check.signature.signer.body_canonicalization
    if length is None:
        return f"the body differs from what was signed ({form}, canonical length {octets})"
    if length > octets:
        return f"the body is shorter than what was signed ({form}, canonical length {octets}, l={length})"
    return f"the first {length} octets of the body differ from what was signed ({form}, canonical length {octets}, l=)"


def _header_differs(check: _Check, record: KeyRecord) -> str:
    names = ":".join(check.signature.signer.signed_headers)
    if len(names) > _NAMES_SHOWN:
        names = names[:_NAMES_SHOWN] + "..."
    made = record.made(check.signature.signature)
    if made is None:
        return f"header fields differ from what was signed, or another key signed (h={names})"
    if not made:
        return f"the signature was not made with the key {check.signature.signer.key_name}, or it is damaged"
    return f"header fields differ from what was signed (h={names})"
