"""Tables with an index beside their text."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
import time
from pathlib import Path

import cdblib  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden.tables.build import IndexBuilder, Manner
from ekiden.tables.cdb_file import CdbDamaged, CdbReader, CdbWriter
from ekiden.tables.index import SUFFIXES, IndexTable
from ekiden.tables.open import open_table
from ekiden.tables.table import Table, TableTrouble

ENTRIES = {"a@x.example": "b", "key": "value", "": "empty", "ü": "ö\udcff"}


PLAIN = Manner()


class Times:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 4e9  # far from the times of fresh files, which would be left alone


class Now(Times):
    """The times of fresh files are now."""

    def wall(self) -> float:
        return time.time()


def build(kind: str, path: Path, entries: dict[str, str], manner: Manner = PLAIN) -> None:
    builder = IndexBuilder(kind, str(path), manner, pytest.fail)
    for key, value in entries.items():
        if key or kind != "lmdb":
            builder.add(key, value)
    builder.write()


def ask(table: Table, *keys: str) -> list[str | None]:
    return asyncio.run(table.lookup_many(keys))


@pytest.mark.parametrize("kind", sorted(SUFFIXES))
@pytest.mark.parametrize("null", [None, True, False])
def test_what_is_built_is_found(kind: str, null: bool | None, tmp_path: Path) -> None:
    build(kind, tmp_path / "map", ENTRIES, Manner(null=null))
    table = open_table(f"{kind}:{tmp_path}/map")
    assert ask(table, "A@X.example", "key", "ü", "none", "value") == ["b", "value", "ö\udcff", None, None]
    assert isinstance(table, IndexTable)
    assert dict(table.items()) == {key: value for key, value in ENTRIES.items() if key or kind != "lmdb"}
    asyncio.run(table.close())


@pytest.mark.parametrize("kind", sorted(SUFFIXES))
def test_without_an_index_the_text_is_read(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "map").write_text("a 1\nbad\n")
    times = Times()
    table = open_table(f"{kind}:{tmp_path}/map", monotonic=times.monotonic, wall=times.wall)
    assert ask(table, "A", "bad") == ["1", None]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/map, line 2: expected format: key whitespace value"
    ]
    build(kind, tmp_path / "map", {"a": "2"})
    times.now = 1.0
    assert ask(table, "a") == ["2"]  # the index holds from when it is there
    asyncio.run(table.close())
    with pytest.raises(TableTrouble, match="No such file"):
        ask(open_table(f"{kind}:/none"), "a")


def test_a_new_index_is_seen_and_an_old_one_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, times = tmp_path / "map", Times()
    source.write_text("a 1\n")
    build("hash", source, {"a": "1"})
    table = open_table(f"hash:{source}", monotonic=times.monotonic, wall=times.wall)
    assert ask(table, "a") == ["1"]
    build("hash", source, {"a": "2"})
    times.now = 1.0
    assert ask(table, "a") == ["2"]
    assert not caplog.records
    assert table.check() == []
    source.write_text("a 3\n")
    os.utime(source, (3e9, 3e9))
    times.now = 2.0
    assert ask(table, "a") == ["2"]
    [record] = caplog.records
    assert record.getMessage() == f"database {source}.db is older than source file {source}"
    [finding] = table.check()
    assert "older" in finding.text
    assert f"postmap hash:{source}" in finding.text


def test_a_fresh_index_counts_though_its_text_was_written_just_now(tmp_path: Path) -> None:
    """An editor may still be writing a text; an index comes by a rename, and is whole."""
    source, times = tmp_path / "map", Now()
    source.write_text("a 1\n")
    table = open_table(f"hash:{source}", monotonic=times.monotonic, wall=times.wall)
    assert ask(table, "a") == ["1"]
    source.write_text("a two\n")
    times.now = 1.0
    assert ask(table, "a") == ["1"]
    for value in ("2", "3"):
        source.write_text(f"a {value}\n")
        build("hash", source, {"a": value})
        times.now += 1.0
        assert ask(table, "a") == [value]
    source.write_text("a 4\n")
    times.now += 1.0
    assert ask(table, "a") == ["3"]


@pytest.mark.parametrize(("magic", "order"), [(0x00061561, "<I"), (0x00053162, "<I"), (0x00061561, ">I")])
def test_a_berkeley_db_gives_way_to_its_text(
    magic: int, order: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "map"
    source.write_text("a 1\n")
    index = tmp_path / "map.db"
    index.write_bytes(bytes(12) + struct.pack(order, magic) + bytes(4080))
    table = open_table(f"hash:{source}")
    assert ask(table, "a") == ["1"]
    assert "Berkeley DB" in caplog.text
    [finding] = table.check()
    assert "postmap hash:" in finding.text
    source.unlink()
    with pytest.raises(TableTrouble, match="Berkeley DB"):
        ask(open_table(f"hash:{source}"), "a")


@pytest.mark.parametrize("content", [b"", b"x", bytes(4096), b"\xff" * 5000])
def test_an_index_of_nobody_knows_what(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "map"
    for kind, suffix in (("hash", ".db"), ("cdb", ".cdb"), ("lmdb", ".lmdb")):
        (tmp_path / f"map{suffix}").write_bytes(content)
        table = open_table(f"{kind}:{source}")
        if (kind, content) == ("cdb", bytes(4096)):
            assert ask(table, "a") == [None]  # a constant database without entries
            continue
        with pytest.raises(TableTrouble):
            ask(table, "a")


def test_a_database_that_is_cut_short_under_us_is_trouble(tmp_path: Path) -> None:
    source = tmp_path / "map"
    build("hash", source, {f"key{number}": "x" * 100 for number in range(100)})
    table = open_table(f"hash:{source}")
    assert ask(table, "key1") == ["x" * 100]
    os.truncate(tmp_path / "map.db", 2100)
    with pytest.raises(TableTrouble, match="cut off"):
        ask(table, *(f"key{number}" for number in range(100)))


def test_a_failed_write_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "map"
    build("cdb", source, {"a": "1"})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TableTrouble, match="No space left"):
        build("cdb", source, {"a": "2"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.cdb"]
    assert ask(open_table(f"cdb:{source}"), "a") == ["1"]


def test_two_who_add_at_once_lose_nothing(tmp_path: Path) -> None:
    source = tmp_path / "map"
    build("hash", source, {"first": "0"})

    def add(name: str) -> None:
        for number in range(20):
            builder = IndexBuilder("hash", str(source), Manner(), pytest.fail)
            with builder.locked():
                builder.load()
                builder.add(f"{name}{number}", "1")
                builder.write()

    threads = [threading.Thread(target=add, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = open_table(f"hash:{source}")
    assert isinstance(table, IndexTable)
    assert len(list(table.items())) == 41
    asyncio.run(table.close())


PAIRS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=60)


@given(pairs=PAIRS)
def test_pure_cdb_reads_what_we_write_and_we_what_it_writes(
    pairs: list[tuple[bytes, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cdb")
    with open(folder / "ours", "w+b") as file:
        writer = CdbWriter(file)
        for key, value in pairs:
            writer.add(key, value)
        writer.finish()
    theirs = cdblib.Reader((folder / "ours").read_bytes())
    assert list(theirs.items()) == pairs
    with open(folder / "theirs", "wb") as made, cdblib.Writer(made) as other:
        for key, value in pairs:
            other.put(key, value)
    for name in ("ours", "theirs"):
        reader = CdbReader(folder / name)
        assert list(reader.items()) == pairs
        for key, _ in pairs:
            assert reader.get(key) == theirs.get(key)
        assert reader.get(b"not a key that was drawn, by its length") is None
        reader.close()


def test_a_hash_table_that_is_full_is_searched_once(tmp_path: Path) -> None:
    """A hostile file has no empty slot, where a search would end."""
    data = bytearray(2048 + 16 * 8)
    for number in range(256):
        data[number * 8 : number * 8 + 8] = struct.pack("<II", 2048, 16)
    data[2048:] = struct.pack("<II", 1, 2048) * 16
    path = tmp_path / "full"
    path.write_bytes(data)
    reader = CdbReader(path)
    assert reader.get(b"a") is None
    reader.close()
    data[0:2048] = struct.pack("<II", 2048, 2**31) * 256
    path.write_bytes(data)
    reader = CdbReader(path)
    with pytest.raises(CdbDamaged):
        reader.get(b"a")
    reader.close()
