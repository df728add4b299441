"""What is packed in the attachment of a report: gzip, zip, or the document as it is (RFC 9990 §3.5.2, RFC 8460 §5.3).

In:   the bytes of an attachment.
Out:  its documents, each in pieces of at most 64 KiB, never the whole at once.
Never: raises anything but ReportError, unpacks more than the limits allow, unpacks an archive within an archive, writes
       a file (the names in an archive are read by nobody), does more than linear work.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator

from msgspec import Struct

from ekiden.tls.tlsrpt import ReportError

_PIECE_BYTES = 64 * 1024
_SLICE_BYTES = 16 * 1024  # what zlib has not taken yet is copied at each step: it is given little at a time
_RATIO_FROM_BYTES = 1024 * 1024  # a short document may be as regular as it likes
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_STORED, _DEFLATED = 0, 8

# APPNOTE.TXT of PKWARE: end of central directory (§4.3.16), central directory header (§4.3.12), local header (§4.3.7).
_END = struct.Struct("<4sHHHHIIH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_COMMENT_LIMIT_BYTES = 0xFFFF
_ENCRYPTED = 0x2041  # flags: encrypted, strong encryption, encrypted directory


class ArchiveLimits(Struct, frozen=True):
    packed_bytes: int = 10 * 1024 * 1024
    unpacked_bytes: int = 50 * 1024 * 1024  # of all documents together
    ratio: int = 200  # unpacked to packed; reports of real receivers stay below 50
    members: int = 20


class _Member(Struct, frozen=True):
    offset: int  # of the local header
    packed: int
    unpacked: int
    method: int
    crc: int


class _Meter:
    """Counts what was unpacked. Raises ReportError where it is too much."""

    def __init__(self, packed: int, limits: ArchiveLimits) -> None:
        self._limit = limits.unpacked_bytes
        self._ratio_limit = max(_RATIO_FROM_BYTES, packed * limits.ratio)
        self._given = 0

    def pass_on(self, piece: bytes) -> bytes:
        self._given += len(piece)
        if self._given > self._limit:
            raise ReportError(f"the report is longer than {self._limit} bytes when unpacked")
        if self._given > self._ratio_limit:
            raise ReportError("the report is packed more densely than any report is")
        return piece


def documents(octets: bytes, limits: ArchiveLimits) -> Iterator[Iterator[bytes]]:
    """Each document in turn; one must be read to its end before the next is asked for. Raises ReportError."""
    if len(octets) > limits.packed_bytes:
        raise ReportError(f"the report is longer than {limits.packed_bytes} bytes")
    meter = _Meter(len(octets), limits)
    if octets.startswith(_GZIP):
        yield _no_archive(_gunzipped(octets, meter, limits.members))
    elif octets.startswith(_ZIP):
        for member in _directory(octets, limits.members):
            yield _no_archive(_unzipped(octets, member, meter))
    else:
        yield (meter.pass_on(octets[at : at + _PIECE_BYTES]) for at in range(0, len(octets), _PIECE_BYTES))


def _no_archive(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = True
    for piece in pieces:
        if first and piece.startswith((_GZIP, *_ZIP)):
            raise ReportError("the report is an archive within an archive")
        first = first and not piece
        yield piece


# -- gzip (RFC 1952)


def _gunzipped(octets: bytes, meter: _Meter, members: int) -> Iterator[bytes]:
    """Several members are one document (RFC 1952 §2.2). What follows them, and is none, is passed over."""
    at = 0
    for _ in range(members):
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        at = yield from _inflated(octets, at, len(octets), unpacker, meter)
        if not unpacker.eof:
            raise ReportError("the report ends early")
        if octets[at : at + 2] != _GZIP:
            return
    raise ReportError("the report is packed in too many parts")


def _inflated(
    octets: bytes, at: int, end: int, unpacker: zlib._Decompress, meter: _Meter
) -> Generator[bytes, None, int]:
    """Gives where the packed data ended."""
    while at < end and not unpacker.eof:
        data = octets[at : min(at + _SLICE_BYTES, end)]
        at += len(data)
        while data and not unpacker.eof:
            try:
                piece = unpacker.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise ReportError("the report cannot be unpacked") from None
            data = unpacker.unconsumed_tail
            if piece:
                yield meter.pass_on(piece)
        at -= len(unpacker.unused_data)
    return at


# -- zip


def _directory(octets: bytes, members: int) -> Iterator[_Member]:
    """The files of an archive, in the order of its directory. Raises ReportError."""
    at = octets.rfind(b"PK\x05\x06", max(0, len(octets) - _END.size - _COMMENT_LIMIT_BYTES))
    if at < 0 or at + _END.size > len(octets):
        raise ReportError("the archive ends early")
    _, disk, first_disk, here, total, size, start, _ = _END.unpack_from(octets, at)
    if disk or first_disk or here != total:
        raise ReportError("the archive has several disks")
    if total > members:
        raise ReportError(f"the archive has {total} files")
    found: list[_Member] = []
    at, end = start, start + size
    if end > len(octets):
        raise ReportError("the directory of the archive is broken")
    for _ in range(total):
        if at + _ENTRY.size > end:
            raise ReportError("the directory of the archive is broken")
        entry = _ENTRY.unpack_from(octets, at)
        mark, flags, method, crc, packed, unpacked = entry[0], entry[3], entry[4], *entry[7:10]
        name_size, extra_size, comment_size, offset = *entry[10:13], entry[16]
        if mark != b"PK\x01\x02":
            raise ReportError("the directory of the archive is broken")
        if flags & _ENCRYPTED:
            raise ReportError("the archive is encrypted")
        name = octets[at + _ENTRY.size : at + _ENTRY.size + name_size]
        at += _ENTRY.size + name_size + extra_size + comment_size
        if name.endswith(b"/") or name.startswith(b"__MACOSX/"):
            continue  # a folder, and what one system adds to every archive
        if method not in (_STORED, _DEFLATED):
            raise ReportError("the archive is packed by a method that reports do not use")
        found.append(_Member(offset, packed, unpacked, method, crc))
    if not found:
        raise ReportError("the archive is empty")
    # Files that share bytes are how a short archive unpacks to a long one.
    ends = 0
    for member in sorted(found, key=lambda each: each.offset):
        if member.offset < ends:
            raise ReportError("the files of the archive overlap")
        ends = member.offset + _LOCAL.size + member.packed
    return iter(found)


def _unzipped(octets: bytes, member: _Member, meter: _Meter) -> Iterator[bytes]:
    if member.offset + _LOCAL.size > len(octets):
        raise ReportError("the archive ends early")
    local = _LOCAL.unpack_from(octets, member.offset)
    at = member.offset + _LOCAL.size + local[9] + local[10]
    end = at + member.packed
    if local[0] != b"PK\x03\x04" or end > len(octets):
        raise ReportError("a file of the archive is broken")
    crc, size = 0, 0
    pieces: Iterator[bytes]
    if member.method == _STORED:
        pieces = (meter.pass_on(octets[each : min(each + _PIECE_BYTES, end)]) for each in range(at, end, _PIECE_BYTES))
    else:
        pieces = _inflated(octets, at, end, zlib.decompressobj(-zlib.MAX_WBITS), meter)
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
        size += len(piece)
        if size > member.unpacked:
            raise ReportError("a file of the archive is longer than its directory says")
        yield piece
    if crc != member.crc or size != member.unpacked:
        raise ReportError("a file of the archive is broken")
