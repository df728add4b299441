"""All places where accounts live, asked in order (sasl_accounts): the Accounts that a server uses.

The first place that has an account decides. A place that cannot say whether it has one (PAM, saslauthd) decides with
its yes alone. Where one cannot be asked and no other says yes, nobody knows: that is temporary.

What nobody may learn from the time that a refusal takes is kept here: each costs a hash, whatever it is for, and comes
no sooner than sasl_failure_delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import TypeAlias

from ekiden.message.clock import Clock
from ekiden.sasl.accounts import AccountTrouble, HashName, Outcome, ScramKeys, Verdict
from ekiden.sasl.hash_pool import HashingBusy, HashPool
from ekiden.sasl.place import Place, spend_a_hash
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.verify_cache import VerifyCache
from ekiden.tables.open import Maps
from ekiden.tables.table import TableTrouble

_Stamp: TypeAlias = tuple[Hashable | None, ...] | None

NAME_LIMIT = 512  # octets of a name as a client writes it


class AccountList:
    def __init__(
        self,
        places: Sequence[Place],
        *,
        pool: HashPool,
        cache: VerifyCache,
        clock: Clock,
        authorization: Maps | None = None,
        scram_hashes: frozenset[HashName] = frozenset(),
        password_limit: int = 1024,
        failure_delay_s: float = 0.0,
    ) -> None:
        self.places = tuple(places)
        self._pool, self._cache, self._clock = pool, cache, clock
        self._authorization = authorization or Maps()
        self._scram_hashes = scram_hashes
        self._password_limit, self._failure_delay_s = password_limit, failure_delay_s
        self._running: dict[tuple[bytes, _Stamp], asyncio.Task[Verdict]] = {}

    @property
    def scram_hashes(self) -> frozenset[HashName]:
        return self._scram_hashes

    async def verify(self, name: str, password: str) -> Verdict:
        begin = self._clock.monotonic()
        problem = self._impossible(name, password)
        verdict = Verdict(Outcome.WRONG, "", problem) if problem else await self._verify_once(name, password)
        if not verdict.accepted:
            remaining = begin + self._failure_delay_s - self._clock.monotonic()
            if remaining > 0:
                await self._clock.sleep(remaining)
        return verdict

    def _impossible(self, name: str, password: str) -> str:
        """Why no account can have this name and password; they are not even looked for then."""
        if not name or not password:  # RFC 4513 §5.1.2: an empty password must not reach a directory
            return "an empty name or password"
        if "\0" in name or "\0" in password:
            return "a NUL in name or password"
        if name != name.strip() or not name.isprintable():
            return "a name with blanks around it or with control characters"
        try:
            lengths = len(name.encode("utf-8")), len(password.encode("utf-8"))
        except UnicodeEncodeError:
            return "a name or password that is not UTF-8"
        if lengths[0] > NAME_LIMIT or lengths[1] > self._password_limit:
            return "a name or password that is too long"
        return ""

    async def _verify_once(self, name: str, password: str) -> Verdict:
        """Logins with the same name and password at the same time are one, as long as nothing changes."""
        digest = self._cache.digest(name, password)
        stamp = await self._stamp(name)
        if stamp is not None and (found := self._cache.get(digest, stamp)) is not None:
            return found
        task = self._running.get((digest, stamp))
        if task is None:
            task = asyncio.ensure_future(self._verify(digest, stamp, name, password))
            self._running[digest, stamp] = task
            task.add_done_callback(lambda _: self._running.pop((digest, stamp), None))
        return await asyncio.shield(task)

    async def _verify(self, digest: bytes, stamp: _Stamp, name: str, password: str) -> Verdict:
        try:
            verdict, decided = await self._ask_places(name, password)
        except HashingBusy as busy:
            return Verdict(Outcome.UNAVAILABLE, "", f"too many logins at once: {busy}")
        # The stamp is of before the check: what changed meanwhile has another.
        if stamp is not None and None not in stamp[: decided + 1]:
            self._cache.put(digest, stamp, verdict)
        return verdict

    async def _stamp(self, name: str) -> _Stamp:
        """What each place says of the name; None where one cannot be asked."""
        try:
            return tuple([await place.stamp(name) for place in self.places])
        except AccountTrouble:
            return None

    async def _ask_places(self, name: str, password: str) -> tuple[Verdict, int]:
        """The verdict, and which place gave it. Raises HashingBusy."""
        wrong = Verdict(Outcome.WRONG, name, "no such account")
        trouble: list[str] = []
        for index, place in enumerate(self.places):
            try:
                verdict = await place.verify(name, password)
            except AccountTrouble as error:
                trouble.append(f"{place.name}: {error}")
                continue
            if verdict.accepted or verdict.known:
                return verdict, index
            if verdict.outcome is Outcome.UNAVAILABLE:
                trouble.append(f"{place.name}: {verdict.detail}")
            else:
                wrong = verdict
        await self._pool.run(spend_a_hash)
        if trouble:
            return Verdict(Outcome.UNAVAILABLE, "", "; ".join(trouble)), len(self.places)
        return wrong, len(self.places)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        if hash_name not in self._scram_hashes or self._impossible(name, "x"):
            return None
        for place in self.places:
            keys = await place.scram_keys(name, hash_name)
            if keys is not None:  # the place has the account: no other is asked
                return keys if keys.pairs else None
        return None

    async def authorize(self, account: str, wanted: str) -> bool:
        """Nobody acts as a disabled account, or acts while disabled, whichever mechanism showed who it is."""
        if await self._is_disabled(account):
            return False
        if not wanted:
            return True
        if "\0" in wanted or len(wanted) > NAME_LIMIT:
            return False
        try:
            prepared = saslprep(wanted)
            own = saslprep(account)
        except ValueError:
            return False
        if prepared.casefold() == own.casefold():
            return True
        if not self._authorization or await self._is_disabled(wanted):
            return False
        try:
            others = await self._authorization.lookup(account)
        except TableTrouble as error:
            raise AccountTrouble(str(error)) from error
        return others is not None and prepared.casefold() in others.casefold().replace(",", " ").split()

    async def _is_disabled(self, name: str) -> bool:
        """Raises AccountTrouble."""
        for place in self.places:
            if (found := await place.is_disabled(name)) is not None:
                return found
        return False

    def check(self) -> list[str]:
        return [problem for place in self.places for problem in place.check()]

    async def aclose(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        for place in self.places:
            await place.aclose()
        for table in self._authorization.tables:
            await table.close()
        self._pool.close()
