"""Any file is read as a constant database: records, or CdbDamaged; never another error, nor more than its own size."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from ekiden.tables.cdb_file import CdbDamaged, CdbReader, CdbWriter


def _database(*records: tuple[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    writer = CdbWriter(file)
    for key, value in records:
        writer.add(key, value)
    writer.finish()
    return file.getvalue()


SEEDS = [
    _database(),
    _database((b"a", b"1")),
    _database((b"a", b"1"), (b"a", b"2"), (b"", b""), (b"key\0", b"value\0")),
    _database(*((b"%d" % number, b"x" * number) for number in range(20))),
]


def one_input(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cdb"
        path.write_bytes(data)
        try:
            reader = CdbReader(path)
        except CdbDamaged:
            return
        try:
            for key in (b"a", b"", b"key\0", b"7", b"none"):
                try:
                    value = reader.get(key)
                except CdbDamaged:
                    continue
                assert value is None or len(value) <= len(data)
            try:
                size = sum(8 + len(key) + len(value) for key, value in reader.items())
            except CdbDamaged:
                return
            assert size <= len(data)
        finally:
            reader.close()
