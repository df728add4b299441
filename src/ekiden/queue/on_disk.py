"""The queue as it lies on disk, for commands: read through connections of its own, with or without a server. Blocks.

Errors: StoreTrouble, whose text says what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from ekiden.queue.listing import read_entries, read_entry
from ekiden.queue.schema import content_directory, database, open_reader, shard_directory, trouble_of
from ekiden.queue.store import QueueEntry, StoreTrouble


def shard_numbers(queue_directory: Path) -> list[int]:
    """The shards that exist on disk, in order. Raises StoreTrouble."""
    try:
        names = [entry.name for entry in (queue_directory / "shards").iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreTrouble(f"{queue_directory / 'shards'}: {error.strerror}") from error
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def read_shards(queue_directory: Path, *, on_trouble: Callable[[StoreTrouble], None] | None = None) -> list[QueueEntry]:
    """Every message of every shard, oldest first, read from disk whether a server runs or not. Blocks.

    A shard that cannot be read raises StoreTrouble, or, given ``on_trouble``, is told to it and skipped.
    """
    found: list[QueueEntry] = []
    for number in shard_numbers(queue_directory):
        directory = shard_directory(queue_directory, number)
        if not database(directory).exists():
            continue
        try:
            found += _read_shard(directory, number)
        except StoreTrouble as trouble:
            if on_trouble is None:
                raise
            on_trouble(trouble)
    found.sort(key=lambda entry: (entry.message.arrived, entry.message.queue_id))
    return found


def find_entry(queue_directory: Path, queue_id: str) -> QueueEntry | None:
    """One message with its content, read from disk whether a server runs or not. Blocks. Raises StoreTrouble."""
    for number in shard_numbers(queue_directory):
        directory = shard_directory(queue_directory, number)
        if not database(directory).exists():
            continue
        connection = open_reader(database(directory))
        try:
            entry = read_entry(connection, content_directory(directory), str(number), queue_id=queue_id)
        except sqlite3.Error as error:
            raise trouble_of(error, database(directory)) from error
        finally:
            connection.close()
        if entry is not None:
            return entry
    return None


def check_structure(queue_directory: Path) -> list[str]:
    """What the databases of the shards say is wrong with them (PRAGMA quick_check). Blocks. Raises StoreTrouble."""
    troubles: list[str] = []
    for number in shard_numbers(queue_directory):
        path = database(shard_directory(queue_directory, number))
        if not path.exists():
            continue
        connection = open_reader(path)
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
        except sqlite3.Error as error:
            raise trouble_of(error, path) from error
        finally:
            connection.close()
        troubles += [f"{path}: {text}" for text in found if text != "ok"]
    return troubles


def _read_shard(directory: Path, number: int) -> list[QueueEntry]:
    connection = open_reader(database(directory))
    try:
        return read_entries(connection, content_directory(directory), str(number))
    except sqlite3.Error as error:
        raise trouble_of(error, database(directory)) from error
    finally:
        connection.close()
