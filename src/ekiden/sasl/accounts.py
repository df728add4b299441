"""The one interface of all places where accounts live: who may log in with which name and password."""

from __future__ import annotations

import enum
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

HashName: TypeAlias = Literal["sha1", "sha256"]


class AccountTrouble(Exception):
    """The place could not be asked. Always a temporary error for the client, never "wrong password"."""


class Outcome(enum.Enum):
    OK = "ok"
    WRONG = "wrong"  # no such account, or not its password: a client is never told which
    DISABLED = "disabled"  # the password may be right; to clients the same as WRONG
    UNAVAILABLE = "unavailable"  # nobody can say now: temporary


class Verdict(Struct, frozen=True):
    """What became of a name and a password. ``detail`` is for the log only and holds no secret."""

    outcome: Outcome
    account: str = ""  # the canonical name; "" where none is known
    detail: str = ""
    app_password: str = ""  # the name of the app password that fitted; "" for the account's own password
    known: bool = False  # the place has such an account: no other place is asked

    @property
    def accepted(self) -> bool:
        return self.outcome is Outcome.OK


class ScramPair(Struct, frozen=True):
    """StoredKey and ServerKey of one password (RFC 5802 §3). Nothing in it is the password."""

    stored_key: bytes
    server_key: bytes
    app_password: str = ""  # the name of the app password that it is of; "" for the account's own

    def __repr__(self) -> str:
        return "ScramPair(***)"


class ScramKeys(Struct, frozen=True):
    """What a SCRAM server needs of an account (RFC 5802 §3).

    All passwords of an account (its own, app passwords) have one salt and one count: the client's proof must fit one
    of ``pairs``, and that pair's server key signs.
    """

    account: str  # the canonical name
    salt: bytes
    iterations: int
    pairs: tuple[ScramPair, ...]


class Accounts(Protocol):
    """Names come as the client wrote them, in UTF-8; whoever implements this prepares and checks them itself."""

    @property
    def scram_hashes(self) -> frozenset[HashName]:
        """The hashes that some account here may have SCRAM keys for: those mechanisms are worth offering."""

    async def verify(self, name: str, password: str) -> Verdict:
        """Whether the password is that of the account. It takes as long for a name that does not exist."""

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        """The keys of an account that may log in so; None where there are none. Raises AccountTrouble."""

    async def authorize(self, account: str, wanted: str) -> bool:
        """Whether ``account``, which has logged in, may act as ``wanted`` (the authorization identity).

        An empty ``wanted`` is the account itself (RFC 4422 §3.4.1). Raises AccountTrouble.
        """

    async def aclose(self) -> None: ...
