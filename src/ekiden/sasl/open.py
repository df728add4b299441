"""Opens the places of sasl_accounts by their names: ``kind:where``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.accounts import HashName
from ekiden.sasl.hash_pool import HashPool
from ekiden.sasl.last_used import NAME, LastUsed
from ekiden.sasl.place import Place
from ekiden.sasl.verify_cache import VerifyCache
from ekiden.tables.open import open_tables

# The module of ekiden.sasl that has each kind, imported when the first place of the kind is opened. It has a function
# ``open_place(where, opening)``, which raises ConfigError for what it cannot use.
_MODULES = {
    "file": "file_place",
    "ldap": "ldap_place",
    "pam": "pam_place",
    "passwd-file": "passwd_file_place",
    "saslauthd": "saslauthd_place",
    "table": "table_place",
}
_FORMS = (
    "file:/path, passwd-file:/path, ldap:/path, table:TYPE:NAME, pam:SERVICE or saslauthd:/path of its socket (mux)"
)


class Opening(Struct, frozen=True):
    """What a place may need of the world."""

    parameters: Parameters
    pool: HashPool
    clock: Clock
    last_used: LastUsed | None


def open_accounts(
    parameters: Parameters, clock: Clock, places: Sequence[str] | None = None, *, notes_use: bool = True
) -> AccountList:
    """The accounts of sasl_accounts, or in other ``places``. Without ``notes_use`` a login counts as no use.

    Raises ConfigError, whose text begins with the parameter to mend.
    """
    pool = HashPool(parameters.sasl_hash_threads, parameters.sasl_hash_queue_limit)
    opening = Opening(parameters, pool, clock, last_used_of(parameters, clock) if notes_use else None)
    try:
        words = parameters.sasl_accounts if places is None else places
        hashes: set[HashName] = {name for name in ("sha1", "sha256") if name in parameters.sasl_scram_hashes}
        return AccountList(
            [open_place(word, opening) for word in words],
            pool=pool,
            cache=VerifyCache(parameters.sasl_verify_cache_time, parameters.sasl_verify_cache_size, clock.monotonic),
            clock=clock,
            authorization=open_tables(parameters.sasl_authorization_maps, parameters=parameters),
            scram_hashes=frozenset(hashes),
            password_limit=parameters.sasl_password_length_limit,
            failure_delay_s=parameters.sasl_failure_delay,
        )
    except ConfigError:
        pool.close()
        raise


def last_used_of(parameters: Parameters, clock: Clock) -> LastUsed:
    return LastUsed(Path(parameters.queue_directory) / "run" / NAME, clock.time)


def open_place(word: str, opening: Opening) -> Place:
    """Raises ConfigError."""
    kind, colon, where = word.partition(":")
    if not colon or not where or kind not in _MODULES:
        raise ConfigError(f"sasl_accounts: {word!r} is no place for accounts: write {_FORMS}")
    module = importlib.import_module(f"ekiden.sasl.{_MODULES[kind]}")
    open_it: Callable[[str, Opening], Place] = module.open_place
    try:
        return open_it(where, opening)
    except ConfigError as error:
        text = error.text if error.text.startswith("sasl_") else f"sasl_accounts: {word}: {error.text}"
        raise ConfigError(text, file=error.file, line=error.line) from error


def full_path(where: str) -> Path:
    """Raises ConfigError for one that depends on who looks."""
    if not where.startswith("/") or "\0" in where:
        raise ConfigError("the file must be given with its full path")
    return Path(where)
