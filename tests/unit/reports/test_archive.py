"""What is packed in a report, and what only pretends to be a report."""

from __future__ import annotations

import gzip
import io
import struct
import time
import zipfile
import zlib
from typing import Any

import pytest

from ekiden.reports.archive import ArchiveLimits, documents
from ekiden.tls.tlsrpt import ReportError

LIMITS = ArchiveLimits(packed_bytes=1_000_000, unpacked_bytes=4_000_000, members=5)
TEXT = b"<feedback>" + b"".join(b"<n>%d</n>" % number for number in range(20_000)) + b"</feedback>"


def unpack(octets: bytes, limits: ArchiveLimits = LIMITS) -> list[bytes]:
    return [b"".join(pieces) for pieces in documents(octets, limits)]


# The names of tests are made of these archives: all processes that collect the tests must make the same ones.
_WRITTEN = (2026, 1, 1, 0, 0, 0)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name, _WRITTEN), data, compress_type=method)
    return out.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)) + packer.flush()


@pytest.mark.parametrize(
    "octets",
    [
        TEXT,
        gzipped(TEXT),
        gzipped(TEXT) + b"\0\0\0",
        gzipped(TEXT[:7]) + gzipped(TEXT[7:]),
        zipped(("a.xml", TEXT)),
        zipped(("a.xml", TEXT), method=zipfile.ZIP_STORED),
        zipped(("folder/", b""), ("../../etc/passwd", TEXT), ("__MACOSX/._a.xml", b"x")),
    ],
)
def test_a_document_is_the_same_however_it_is_packed(octets: bytes) -> None:
    assert unpack(octets) == [TEXT]
    assert all(len(piece) <= 65536 for pieces in documents(octets, LIMITS) for piece in pieces)


def test_an_archive_may_have_several_documents_and_a_stream_may_write_it() -> None:
    class Stream(io.RawIOBase):
        """Cannot go back, so that sizes stand behind the data."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    out = Stream()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", TEXT)
        archive.writestr("b.xml", b"<b/>")
    assert unpack(bytes(out.data)) == [TEXT, b"<b/>"]


def overlapping() -> bytes:
    """Two entries of the directory that lead to the same file."""
    one = zipped(("a.xml", TEXT))
    at = one.rindex(b"PK\x01\x02")
    end = one.rindex(b"PK\x05\x06")
    entry = one[at:end]
    return one[:end] + entry + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), at, 0)


def encrypted() -> bytes:
    octets = bytearray(zipped(("a.xml", TEXT)))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        octets[octets.rindex(mark) + at] |= 1
    return bytes(octets)


def understated() -> bytes:
    octets = bytearray(zipped(("a.xml", TEXT)))
    at = octets.rindex(b"PK\x01\x02")
    octets[at + 24 : at + 28] = struct.pack("<I", 100)
    return bytes(octets)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (bytes(1_000_001), "longer than 1000000 bytes"),
        (bomb(30_000_000), "longer than 4000000 bytes when unpacked"),
        (bomb(3_000_000), "more densely"),
        (zipped(("a.xml", bytes(3_000_000))), "more densely"),
        (zipped(*((f"{number}.xml", TEXT) for number in range(6))), "6 files"),
        (gzipped(b"<") * 6, "too many parts"),
        (gzipped(gzipped(TEXT)), "archive within"),
        (zipped(("a.zip", zipped(("a.xml", TEXT)))), "archive within"),
        (gzipped(zipped(("a.xml", TEXT))), "archive within"),
        (zipped(("a.xml", TEXT), method=zipfile.ZIP_BZIP2), "method"),
        (zipped(), "empty"),
        (overlapping(), "overlap"),
        (encrypted(), "encrypted"),
        (understated(), "longer than its directory says"),
        (gzipped(TEXT)[:-9], "ends early"),
        (gzipped(TEXT)[:-1], "ends early"),
        (zipped(("a.xml", TEXT))[:-30], "ends early"),
        (zipped(("a.xml", TEXT)).replace(TEXT[-5:], b"")[:100], "ends early"),
        (b"\x1f\x8b" + b"junk" * 10, "cannot be unpacked"),
        (b"PK\x03\x04", "ends early"),
        (zipped(("a.xml", TEXT))[:-6] + b"\xff\xff\xff\xff\0\0", "directory"),
    ],
)
def test_what_is_no_archive_of_a_report_is_refused_with_its_reason(octets: bytes, why: str) -> None:
    with pytest.raises(ReportError, match=why):
        unpack(octets)


def test_a_broken_checksum_is_found() -> None:
    octets = bytearray(zipped(("a.xml", TEXT), method=zipfile.ZIP_STORED))
    octets[100] ^= 1
    with pytest.raises(ReportError, match="broken"):
        unpack(bytes(octets))


def test_a_bomb_costs_what_the_limit_costs() -> None:
    octets = bomb(150_000_000)
    begin = time.process_time()
    with pytest.raises(ReportError):
        unpack(octets, ArchiveLimits())
    assert time.process_time() - begin < 1.0
