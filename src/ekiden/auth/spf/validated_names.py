"""The client's names that lead back to its address: the ptr mechanism and the macro p (RFC 7208 §5.5, §7.3)."""

from __future__ import annotations

from ekiden.auth.spf.client import Client
from ekiden.auth.spf.lookups import Lookups, Stop
from ekiden.auth.spf.names import query_name
from ekiden.auth.verdict import Result


class ValidatedNames:
    """Asks for the names once a check, and for the addresses of those names only that matter."""

    def __init__(self, lookups: Lookups, client: Client) -> None:
        self._lookups = lookups
        self._client = client
        self._names: tuple[str, ...] | None = None
        self._valid: dict[str, bool] = {}

    async def any_below(self, domain: str) -> bool:
        """A validated name is ``domain`` (in lower case) or ends in it."""
        for name in await self._of_client():
            if _is_below(name, domain) and await self._is_valid(name):
                return True
        return False

    async def best(self, domain: str) -> str:
        """``domain`` itself if it is one, else one below it, else any; "unknown" without one (RFC 7208 §7.3)."""
        domain = domain.lower()
        names = await self._of_client()
        for name in sorted(names, key=lambda name: 0 if name == domain else 1 if _is_below(name, domain) else 2):
            if await self._is_valid(name):
                return name
        return "unknown"

    async def _of_client(self) -> tuple[str, ...]:
        """The first ten only (RFC 7208 §4.6.4); none where DNS does not say (§5.5)."""
        if self._names is None:
            try:
                records = (await self._lookups.ptr(self._client.text)).records
            except Stop as stop:
                if stop.result is not Result.TEMPERROR:
                    raise
                records = ()
            names = (query_name(name) for name in records[: self._lookups.limits.names])
            self._names = tuple(dict.fromkeys(name for name in names if name is not None))
        return self._names

    async def _is_valid(self, name: str) -> bool:
        known = self._valid.get(name)
        if known is None:
            try:
                known = self._client.bits in await self._lookups.addresses(name, self._client.family)
            except Stop as stop:
                # RFC 7208 §5.5: a name whose addresses cannot be found out is skipped.
                if stop.result is not Result.TEMPERROR:
                    raise
                known = False
            self._valid[name] = known
        return known


def _is_below(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)
