"""Look-ups for those who cannot wait."""

from __future__ import annotations

from ekiden.tables.table import Table, TableTrouble


def look_up_at_once(table: Table, key: str) -> str | None:
    """The answer of a table that never waits (``questions.waits``). Raises TableTrouble.

    Such a table answers without ever suspending, so one step runs its coroutine to the end.
    """
    asking = table.lookup(key)
    try:
        asking.send(None)
    except StopIteration as done:
        value: str | None = done.value
        return value
    finally:
        asking.close()
    raise TableTrouble(f"{table.name}: it cannot answer at once")
