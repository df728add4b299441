"""Finding the MTA-STS policy of a domain: record, cache, fetch (RFC 8461 §3, §5.1).

In:   a Resolver, the cache, a way to fetch, a clock; a domain.
Out:  the policy that holds for it now, or that there is none, and what went wrong on the way, for reports.
Never: raises for what a domain publishes or a network does, fetches the same policy twice at once, gives up a policy
       that still lives because DNS or HTTPS fails (RFC 8461 §5.1: that is what an attacker would make them do).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.clock import Clock
from ekiden.protocol.http import HttpResponse
from ekiden.tls.https import HttpsTrouble
from ekiden.tls.mta_sts import (
    POLICY_PATH,
    Mode,
    Policy,
    PolicyError,
    parse_policy,
    policy_host,
    policy_id,
    record_name,
)
from ekiden.tls.policy import Problem
from ekiden.tls.sts_cache import Kept, StsCache
from ekiden.tls.txt_fields import RecordError

V = TypeVar("V")

_FAILURES_LIMIT = 10_000  # domains whose last failure is remembered
_REFRESHES_A_LOOK = 200
_REFRESHES_AT_ONCE = 10
_SHORTEST_LIFE_S = 60  # a domain that says less would have its policy fetched for every message

Fetch = Callable[[str, str], Awaitable[HttpResponse]]  # host, path; raises HttpsTrouble


class Discovered(Struct, frozen=True):
    """``policy`` is None where the domain has none, or says mode none. ``problem``: why no newer one could be had."""

    policy: Policy | None = None
    problem: Problem | None = None
    detail: str = ""


class _Failure(Struct, frozen=True):
    id: str
    until: float  # the clock's monotonic time
    problem: Problem
    detail: str


class StsDiscovery:
    """``note`` hears of each fetch that failed, in a line for the log."""

    def __init__(
        self,
        parameters: Parameters,
        resolver: Resolver,
        cache: StsCache,
        fetch: Fetch,
        clock: Clock,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._resolver = resolver
        self._cache = cache
        self._fetch = fetch
        self._clock = clock
        self._note = note
        self._max_age_s = parameters.smtp_mta_sts_max_age_limit
        self._refresh_s = parameters.smtp_mta_sts_refresh_time
        self._retry_s = parameters.smtp_mta_sts_retry_time
        self._failures: dict[str, _Failure] = {}
        self._silent: dict[str, tuple[float, str]] = {}  # domains whose record could not be looked up, and until when
        self._fetches: dict[str, asyncio.Task[Discovered]] = {}

    async def policy_of(self, domain: str) -> Discovered:
        """``domain`` is in A-labels and lower case."""
        now = self._clock.time()
        kept = self._cache.get(domain, now)
        problem, detail = None, ""
        try:
            found_id = policy_id(await self._record(domain))
        except DnsTrouble as trouble:
            found_id, problem, detail = None, Problem.STS_POLICY_FETCH, str(trouble)
        except RecordError as error:
            found_id, problem, detail = None, Problem.STS_POLICY_INVALID, str(error)
        if found_id is None:
            if kept is None:
                # Without a record nobody fetches a policy; DNS trouble is no reason to hold mail (RFC 8461 §10.2).
                return Discovered(None, problem, detail)
            self._refresh_if_old(domain, kept, kept.id)
            return _of(kept, problem, detail)
        if kept is not None and kept.id != found_id:
            # Another worker may have fetched it meanwhile.
            kept = self._cache.renewed(domain, now)
        if kept is not None and kept.id == found_id:
            self._refresh_if_old(domain, kept, found_id)
            return _of(kept)
        return await self._fetched(domain, found_id)

    async def refresh(self) -> int:
        """Fetch anew what is old, whether it is used or not; gives the number of domains that were asked."""
        now = self._clock.time()
        domains = self._cache.due(now - self._refresh_s, now, _REFRESHES_A_LOOK)
        domains = [domain for domain in domains if not self._failed_lately(domain)]
        for start in range(0, len(domains), _REFRESHES_AT_ONCE):
            some = domains[start : start + _REFRESHES_AT_ONCE]
            await asyncio.gather(*(self._refreshed(domain, now) for domain in some))
        return len(domains)

    async def _refreshed(self, domain: str, now: float) -> None:
        """RFC 8461 §10.2. The record may be gone, or have another id, and the policy is what counts."""
        kept = self._cache.renewed(domain, now)
        if kept is None or now - kept.fetched < self._refresh_s:
            return
        try:
            found_id = policy_id(await self._record(domain)) or kept.id
        except (DnsTrouble, RecordError):
            found_id = kept.id
        await self._fetched(domain, found_id)

    async def _record(self, domain: str) -> tuple[bytes, ...]:
        """The TXT records. Raises DnsTrouble, for a while without asking again.

        There are name servers that say nothing to a name with an underscore: mail must not wait for that each time.
        """
        now = self._clock.monotonic()
        until, why = self._silent.get(domain, (0.0, ""))
        if now < until:
            raise DnsTrouble(why)
        try:
            return (await self._resolver.txt(record_name(domain))).records
        except DnsTrouble as trouble:
            _put(self._silent, domain, (now + self._retry_s, str(trouble)))
            raise

    async def close(self) -> None:
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._cache.close()

    # -- fetching --

    def _refresh_if_old(self, domain: str, kept: Kept, found_id: str) -> None:
        now = self._clock.time()
        if now - kept.fetched < self._refresh_s or self._failed_lately(domain):
            return
        # Another worker may have fetched it meanwhile.
        renewed = self._cache.renewed(domain, now)
        if renewed is None or now - renewed.fetched >= self._refresh_s:
            self._start(domain, found_id)

    def _failed_lately(self, domain: str) -> bool:
        failure = self._failures.get(domain)
        return failure is not None and failure.until > self._clock.monotonic()

    async def _fetched(self, domain: str, found_id: str) -> Discovered:
        failure = self._failures.get(domain)
        if failure is not None and failure.id == found_id and failure.until > self._clock.monotonic():
            return _of(self._cache.get(domain, self._clock.time()), failure.problem, failure.detail)
        # Whoever waits may go away; the fetch goes on for the others.
        return await asyncio.shield(self._start(domain, found_id))

    def _start(self, domain: str, found_id: str) -> asyncio.Task[Discovered]:
        task = self._fetches.get(domain)
        if task is None:
            task = self._fetches[domain] = asyncio.create_task(self._fetch_policy(domain, found_id))
            task.add_done_callback(lambda done: self._ended(domain))
        return task

    def _ended(self, domain: str) -> None:
        self._fetches.pop(domain, None)

    async def _fetch_policy(self, domain: str, found_id: str) -> Discovered:
        try:
            response = await self._fetch(policy_host(domain), POLICY_PATH)
            policy = _policy_in(response)
        except HttpsTrouble as trouble:
            problem = Problem.STS_WEBPKI_INVALID if trouble.by_certificate else Problem.STS_POLICY_FETCH
            return self._failed(domain, found_id, problem, str(trouble))
        except _NoPolicy as error:
            return self._failed(domain, found_id, Problem.STS_POLICY_FETCH, f"{policy_host(domain)}: {error}")
        except PolicyError as error:
            return self._failed(domain, found_id, Problem.STS_POLICY_INVALID, str(error))
        now = self._clock.time()
        life_s = min(max(policy.max_age_s, _SHORTEST_LIFE_S), self._max_age_s)
        kept = Kept(found_id, policy, now, now + life_s)
        self._failures.pop(domain, None)
        self._cache.put(domain, kept)
        return _of(kept)

    def _failed(self, domain: str, found_id: str, problem: Problem, detail: str) -> Discovered:
        self._note(f"MTA-STS policy of {domain} cannot be had: {detail}")
        _put(self._failures, domain, _Failure(found_id, self._clock.monotonic() + self._retry_s, problem, detail))
        return _of(self._cache.get(domain, self._clock.time()), problem, detail)


class _NoPolicy(ValueError):
    """The policy host's answer holds no policy."""


def _policy_in(response: HttpResponse) -> Policy:
    """RFC 8461 §3.3: 200 and nothing else, redirects neither; §3.2: plain text. Raises _NoPolicy, PolicyError."""
    if response.status != 200:
        raise _NoPolicy(f"status {response.status} in place of a policy")
    if response.media_type != "text/plain":
        raise _NoPolicy(f"media type {response.media_type[:40]!r} in place of text/plain")
    return parse_policy(response.body)


def _of(kept: Kept | None, problem: Problem | None = None, detail: str = "") -> Discovered:
    policy = kept.policy if kept is not None and kept.policy.mode is not Mode.NONE else None
    return Discovered(policy, problem, detail)


def _put(kept: dict[str, V], domain: str, value: V) -> None:
    """What came first leaves first."""
    kept.pop(domain, None)
    while len(kept) >= _FAILURES_LIMIT:
        del kept[next(iter(kept))]
    kept[domain] = value
