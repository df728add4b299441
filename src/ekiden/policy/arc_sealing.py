"""Which mail gets our ARC seal, and with which key: arc_seal, arc_seal_key.

In:   a header as it leaves, the hash of its body, what was found of the message when it came.
Out:  the fields for the top of that header, or why there are none, for the log.
Never: reads a file (the supervisor does), seals mail that did not come from a stranger: of it nothing was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec import Struct

from ekiden.auth.arc.recorded import is_sealed, recorded
from ekiden.auth.arc.seal import ArcSealing, prepared, unsealable
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dkim.keys import KeyTrouble
from ekiden.auth.verdict import ArcVerdict
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.policy.dkim_signing import KeyRing, NamedKey, named_key
from ekiden.tls.key_files import KeyFiles


class Sealed(Struct, frozen=True):
    """``fields``: with CRLF. ``note``: why there are none. ``trouble``: a warning for the log."""

    fields: bytes = b""
    note: str = ""
    trouble: str = ""


class ArcSealer:
    """What one service seals; false where that is nothing. Raises ConfigError for an arc_seal_key that is none."""

    def __init__(self, parameters: Parameters, *, key_files: Callable[[], KeyFiles]) -> None:
        self._mode = parameters.arc_seal
        self._named = sealing_key(parameters)
        self._authserv_id = parameters.authserv_id
        self._ring = KeyRing(key_files)

    def __bool__(self) -> bool:
        return self._mode != "no" and self._named is not None

    @property
    def seals_all(self) -> bool:
        """What is delivered here too, so that a message is sealed as it comes in."""
        return bool(self) and self._mode == "all"

    def prepare(self, hashes: BodyHashes) -> None:
        """Before the body is fed: have made of it what sealing needs."""
        prepared(hashes)

    def seal(self, header: bytes, hashes: BodyHashes, *, chain: ArcVerdict, results: str, now: float) -> Sealed:
        """A message of a stranger, whose ``chain`` was verified, and of which ``results`` were found (results_text).

        ``header`` is the one that leaves. After ``hashes.finish()``.
        """
        if self._named is None:
            return Sealed(note="there is no arc_seal_key")
        taken_apart = SignableHeader(header)
        why_not = unsealable(taken_apart, chain)
        if why_not:
            return Sealed(note=why_not)
        try:
            key = self._ring.key(self._named)
        except KeyTrouble as trouble:
            return Sealed(trouble=f"no ARC seal by {self._named.file}: {trouble}")
        sealing = ArcSealing(taken_apart, hashes, key, authserv_id=self._authserv_id, now=now)
        return Sealed(sealing.fields(chain, results))

    def seal_forwarded(self, header: bytes, hashes: BodyHashes, *, now: float) -> Sealed:
        """A message of a stranger that is passed on: what was found is in the field that it got then."""
        taken_apart = SignableHeader(header)
        found = recorded(taken_apart, self._authserv_id)
        if found is None:
            return Sealed(note="it has no Authentication-Results of ours that speak of ARC")
        if is_sealed(taken_apart, found):
            return Sealed(note="it was sealed as it came in")
        return self.seal(header, hashes, chain=found.chain, results=found.results, now=now)


def sealing_key(parameters: Parameters) -> NamedKey | None:
    """Raises ConfigError."""
    word = parameters.arc_seal_key.strip()
    if not word:
        return None
    if "%" in word:
        raise ConfigError("arc_seal_key: % stands for nothing here")
    try:
        return named_key(word, "", os.path.normpath(parameters.dkim_key_directory))
    except KeyTrouble as trouble:
        text = str(trouble).replace("an entry of dkim_signing_table", "it")
        raise ConfigError(f"arc_seal_key: {text}") from None
