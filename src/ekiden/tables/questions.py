"""Lookups that another process does: how code without an event loop asks tables that must wait for an answer.

A lookup in an AskedTable suspends with a Question. Whoever drives the coroutine has the question answered in its own
way and goes on with ``send(answer)``: see drive(). Tables that never wait are opened and asked where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.tables.composed import members
from ekiden.tables.table import Table, TableTrouble

# Types that wait for a server, or for a thread of their own.
WAITING = frozenset({"ldap", "memcache", "mysql", "pgsql", "redis", "socketmap", "sqlite", "tcp"})
# Types where nothing shows that the answer comes from whom it seems to come from (tcp_table(5), "SECURITY"): not for
# what decides whose rights are used and which files are written.
UNAUTHENTICATED = frozenset({"memcache", "socketmap", "tcp"})

# The parameters that decide that.
RIGHTS = frozenset(
    {"alias_maps", "mailbox_command_maps", "virtual_gid_maps", "virtual_mailbox_maps", "virtual_uid_maps"}
)

Reply: TypeAlias = str | TableTrouble | None
T = TypeVar("T")


class Question(Struct, frozen=True):
    """``table`` is the ``type:name`` of the table to ask; ``aliases`` as for open_table()."""

    table: str
    key: str
    aliases: bool = False

    def __await__(self) -> Generator[Question, Reply, str | None]:
        reply = yield self
        if isinstance(reply, TableTrouble):
            raise reply
        return reply


class AskedTable(Table):
    def __init__(self, word: str, *, aliases: bool = False) -> None:
        self.name = word
        self._aliases = aliases

    async def lookup(self, key: str) -> str | None:
        return await Question(self.name, key, self._aliases)


def leaf_types(word: str) -> frozenset[str]:
    """The types of the tables that answer for ``type:name``, which may be made of others. Raises ConfigError."""
    kind, _, text = word.partition(":")
    if kind == "proxy":
        return leaf_types(text.strip())
    if kind in ("pipemap", "unionmap"):
        return frozenset().union(*(leaf_types(member) for member in members(kind, text.strip(), "type:name")))
    return frozenset({kind})


def waits(word: str) -> bool:
    """Whether a lookup in the table ``type:name`` may have to wait. Raises ConfigError."""
    return bool(leaf_types(word) & WAITING)


def refuse_unauthenticated(word: str) -> None:
    """Raises ConfigError for a table that anybody could answer for."""
    for kind in sorted(leaf_types(word) & UNAUTHENTICATED):
        raise ConfigError(f"{word}: a {kind} table cannot give mailboxes, users or aliases: anybody may answer there")


def open_trusted(word: str, opener: Callable[[str], Table], *, aliases: bool = False) -> Table:
    """The table ``type:name`` for what gives rights: opened here by ``opener``, or an AskedTable when it waits.

    Raises ConfigError, also for a table that anybody could answer for.
    """
    refuse_unauthenticated(word)
    return AskedTable(word, aliases=aliases) if waits(word) else opener(word)


def drive(
    asking: Coroutine[Any, Any, T], reply: Reply, ask: Callable[[Question], None], done: Callable[[T], None]
) -> None:
    """Run a coroutine that asks tables until its next question, which is given to ``ask``, or its end, to ``done``.

    ``reply`` is the answer to the question before, None for the first time. Raises what the coroutine does.
    """
    try:
        question = asking.send(reply)
    except StopIteration as stop:
        done(stop.value)
        return
    if not isinstance(question, Question):  # a table that waits for something here is not in WAITING: a bug
        asking.close()
        raise TypeError(f"a table waits for {question!r}, which nobody here can give it")
    ask(question)
