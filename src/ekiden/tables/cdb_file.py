"""The constant database format of D. J. Bernstein (https://cr.yp.to/cdb/cdb.txt): reading and writing.

Files of other programs are read, and those written here are read by them. A file has 256 pairs of numbers (where a
hash table begins and how many slots it has), the records (length of key, length of data, key, data), and the hash
tables (slots of hash and place of the record). Numbers are 32 bits, little endian; a slot with place 0 is empty.

Reading uses pread(2), not a mapping: a file that somebody cuts short under us is an error then, not a signal.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PAIR = struct.Struct("<II")
_HEADER_BYTES = 2048
_LIMIT_BYTES = 2**32 - 1


class CdbDamaged(Exception):
    """The file is not a constant database, or a part of it is missing."""


class CdbTooLarge(Exception):
    """The format cannot hold more than 4 GiB."""


def cdb_hash(key: bytes) -> int:
    value = 5381
    for byte in key:
        value = ((value << 5) + value & 0xFFFFFFFF) ^ byte
    return value


class CdbReader:
    """Looks keys up in an open file. Any file is read without other errors than CdbDamaged and OSError."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, CdbDamaged."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._size = os.fstat(self._fd).st_size
            header = self._read(0, _HEADER_BYTES)
        except BaseException:
            os.close(self._fd)
            raise
        self._tables = list(_PAIR.iter_unpack(header))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def get(self, key: bytes) -> bytes | None:
        """The first record of ``key``. Reads at most the slots of one hash table."""
        number = cdb_hash(key)
        begin, slots = self._tables[number & 255]
        if slots == 0:
            return None
        if begin + 8 * slots > self._size:
            raise CdbDamaged("a hash table is cut off")
        start = (number >> 8) % slots
        for step in range(slots):
            hashed, place = _PAIR.unpack(self._read(begin + 8 * ((start + step) % slots), 8))
            if place == 0:
                return None
            if hashed == number:
                key_length, length = self._lengths(place)
                if key_length == len(key) and self._read(place + 8, key_length) == key:
                    return self._read(place + 8 + key_length, length)
        return None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All records in the order in which they were written."""
        place = _HEADER_BYTES
        end = min((begin for begin, slots in self._tables if slots), default=place)
        while place + 8 <= end:
            key_length, length = self._lengths(place)
            yield self._read(place + 8, key_length), self._read(place + 8 + key_length, length)
            place += 8 + key_length + length

    def _lengths(self, place: int) -> tuple[int, int]:
        key_length, length = _PAIR.unpack(self._read(place, 8))
        if place + 8 + key_length + length > self._size:
            raise CdbDamaged("a record is cut off")
        return key_length, length

    def _read(self, place: int, length: int) -> bytes:
        data = os.pread(self._fd, length, place)
        if len(data) != length:
            raise CdbDamaged("the file is cut off, or is no constant database")
        return data


class CdbWriter:
    """Writes records to a file that is open for writing and empty; finish() makes it a database."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._place = _HEADER_BYTES
        self._slots: list[list[tuple[int, int]]] = [[] for _ in range(256)]
        file.write(bytes(_HEADER_BYTES))

    def add(self, key: bytes, data: bytes) -> None:
        """Raises CdbTooLarge, OSError."""
        size = 8 + len(key) + len(data)
        if self._place + size > _LIMIT_BYTES:
            raise CdbTooLarge
        number = cdb_hash(key)
        self._slots[number & 255].append((number, self._place))
        self._file.write(_PAIR.pack(len(key), len(data)) + key + data)
        self._place += size

    def finish(self) -> None:
        """Raises CdbTooLarge, OSError."""
        header = bytearray()
        place = self._place
        for entries in self._slots:
            count = 2 * len(entries)
            if place + 8 * count > _LIMIT_BYTES:
                raise CdbTooLarge
            table = [(0, 0)] * count
            for number, record in entries:
                at = (number >> 8) % count
                while table[at][1]:
                    at = (at + 1) % count
                table[at] = (number, record)
            self._file.write(b"".join(_PAIR.pack(*slot) for slot in table))
            header += _PAIR.pack(place, count)
            place += 8 * count
        self._file.seek(0)
        self._file.write(header)
