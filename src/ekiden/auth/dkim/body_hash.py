"""Hashes of the canonical body, made as the body streams in: one pass for all signatures of a message (RFC 6376 §3.7).

In:   the bytes behind the empty line, lines ended by CRLF, in any chunking.
Out:  for each request (canonicalization, hash, l=) the digest and how many octets the canonical body has.
Never: holds more of the body than one chunk, however many blanks or empty lines end it; works line by line.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from ekiden.auth.dkim.canonical import RELAXED, SIMPLE, relaxed_lines

_PIECE = 1 << 17  # larger chunks are worked on in pieces of this size, which the processor's cache holds
_LINE_ENDS = b"\r\n" * (1 << 14)
_HALVES = (b"\r", b"\n")  # of a line end
_UNDECIDED = (b"\r", b" ", b"\t")  # at the end of a piece: what follows says what these are


class BodyHash(Struct, eq=False):
    """One request. ``digest`` is empty until the body has ended; ``octets`` counts the whole canonical body."""

    canonicalization: str
    length: int | None  # l=: no octet behind it counts
    octets: int = 0
    digest: bytes = b""


class BodyHashes:
    """``want`` what is needed, ``feed`` the body, ``finish``: then every BodyHash has its digest."""

    __slots__ = ("_begun", "_bodies", "_finished")

    def __init__(self) -> None:
        self._begun = False
        self._bodies: dict[str, _Canonical] = {}
        self._finished = False

    def want(self, canonicalization: str, algorithm: str, length: int | None) -> BodyHash:
        """The same request gives the same object. Before the first byte of the body only.

        Raises ValueError for a canonicalization or hash that is not known.
        """
        if algorithm != "sha256":
            raise ValueError(f"no body hash is made with {algorithm}")
        if canonicalization not in _CANONICAL:
            raise ValueError(f"no body hash is made with the canonicalization {canonicalization}")
        if canonicalization not in self._bodies:
            self._bodies[canonicalization] = _CANONICAL[canonicalization]()
        body = self._bodies[canonicalization]
        known = body.whole if length is None else body.cut_at(length)
        if known is None:
            if self._begun:
                raise ValueError("the body has begun, another hash of it is wanted too late")
            known = body.want(length)
        return known

    def feed(self, data: bytes | memoryview) -> None:
        self._begun = True
        if not self._bodies:
            return
        for at in range(0, len(data), _PIECE):
            piece = bytes(data[at : at + _PIECE])
            for body in self._bodies.values():
                body.feed(piece)

    def finish(self) -> None:
        """The body has ended; doing so twice changes nothing."""
        if self._finished:
            return
        self._begun = self._finished = True
        for body in self._bodies.values():
            body.finish()


class _Canonical:
    """Line ends that may be the last of the body are counted, not kept, until something follows them.

    However many lengths are asked for, the body is hashed once: the digest is taken where each of them ends.
    """

    __slots__ = ("_begun", "_cut", "_hash", "_held", "_line_ends", "_octets", "_taken", "whole")

    canonicalization: str

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._octets = 0  # of the canonical body, as far as it is known
        self.whole: BodyHash | None = None
        self._cut: list[BodyHash] = []  # those with a length that is not reached yet, the shortest last
        self._taken: list[tuple[BodyHash, bytes]] = []  # those whose length is reached, and their digest
        self._line_ends = 0
        self._held = b""  # what is behind the line ends that are counted, and whose meaning depends on what follows
        self._begun = False  # something has been hashed, so that the body is not empty

    def cut_at(self, length: int) -> BodyHash | None:
        """What was wanted of this length."""
        requests = [*self._cut, *(wanted for wanted, _ in self._taken)]
        return next((wanted for wanted in requests if wanted.length == length), None)

    def want(self, length: int | None) -> BodyHash:
        made = BodyHash(self.canonicalization, length)
        if length is None:
            self.whole = made
        else:
            self._cut.append(made)
            self._cut.sort(key=_length, reverse=True)
        return made

    def feed(self, data: bytes) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        # White space that ends the last line goes with relaxed; a bare carriage return is none.
        if b"\r" in self._held:
            self._flush_line_ends()
            self._update(self._held)
            self._begun = True
        # RFC 6376 §3.4.3: an empty body is one CRLF; §3.4.4: it stays empty.
        if self._begun or self.canonicalization == SIMPLE:
            self._update(b"\r\n")
        digest = self._hash.digest()
        if self.whole is not None:
            self.whole.octets, self.whole.digest = self._octets, digest
        for wanted in self._cut:
            wanted.octets, wanted.digest = self._octets, digest
        for wanted, digest_there in self._taken:
            wanted.octets, wanted.digest = self._octets, digest_there

    def _update(self, data: bytes) -> None:
        octets = self._octets + len(data)
        at = 0
        while self._cut and _length(self._cut[-1]) <= octets:
            wanted = self._cut.pop()
            end = _length(wanted) - self._octets
            self._hash.update(memoryview(data)[at:end])
            self._taken.append((wanted, self._hash.digest()))
            at = end
        if self.whole is not None or self._cut:
            self._hash.update(memoryview(data)[at:] if at else data)
        self._octets = octets

    def _take(self, data: bytes) -> None:
        """Bytes of the canonical body, but for the line ends at its end; what is held is to come behind them."""
        ends = _octets_of_line_ends(data)
        content = data[:-ends] if ends else data
        if content:
            if self._line_ends:
                self._flush_line_ends()
            self._update(content)
            self._begun = True
        self._line_ends += ends // 2

    def _flush_line_ends(self) -> None:
        left = self._line_ends * 2
        self._line_ends = 0
        while left:
            part = _LINE_ENDS[:left]
            self._update(part)
            left -= len(part)


class _Simple(_Canonical):
    """RFC 6376 §3.4.3: the empty lines at the end become one CRLF."""

    __slots__ = ()
    canonicalization = SIMPLE

    def feed(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        # Perhaps half of a line end.
        self._held = b"\r" if data.endswith(b"\r") else b""
        self._take(data[:-1] if self._held else data)


class _Relaxed(_Canonical):
    """RFC 6376 §3.4.4: also no white space at the end of lines, and one blank for each run of it within."""

    __slots__ = ()
    canonicalization = RELAXED

    def feed(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        self._held = b""
        if data[-1:] in _UNDECIDED:
            data = self._hold_end(data)
        self._take(relaxed_lines(data))

    def _hold_end(self, data: bytes) -> bytes:
        """Holds a blank, a carriage return or both; what is before them."""
        content = data.removesuffix(b"\r")
        held = b"\r" if len(content) < len(data) else b""
        if content.endswith((b" ", b"\t")):
            content = content.rstrip(b" \t")
            held = b" " + held
        self._held = held
        return content


_CANONICAL: dict[str, type[_Canonical]] = {SIMPLE: _Simple, RELAXED: _Relaxed}


def _length(wanted: BodyHash) -> int:
    return wanted.length or 0


def _octets_of_line_ends(data: bytes) -> int:
    """How long the run of CRLF is that ends ``data``."""
    if data[-2:] != b"\r\n":
        return 0
    if data[-3:-2] not in _HALVES:  # as where a line ends the piece
        return 2
    # The run lies within the carriage returns and line feeds at the end, behind any two equal ones in a row.
    begin = len(data.rstrip(b"\r\n"))
    twice = max(data.rfind(b"\r\r", begin), data.rfind(b"\n\n", begin))
    if twice >= 0:
        begin = twice + 1
    return len(data) - (begin + 1 if data.startswith(b"\n", begin) else begin)
