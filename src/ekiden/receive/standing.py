"""What a client of one service may do by its address and its verified name alone, whatever it says later."""

from __future__ import annotations

from msgspec import Struct

from ekiden.message.envelope import Client
from ekiden.policy.client_limits import ClientLimits
from ekiden.protocol.smtp.data import BareNewline
from ekiden.tables.match import ClientList

# Clients that are remembered; when there are more, all are forgotten at once.
_REMEMBERED = 10_000


class Standing(Struct, frozen=True):
    trusted: bool  # one of mynetworks
    may_xclient: bool
    may_xforward: bool
    network: str  # what it is counted by; "" when nothing limits it
    newline: BareNewline  # what becomes of its lines that end in LF


NOBODY = Standing(trusted=False, may_xclient=False, may_xforward=False, network="", newline=BareNewline.REJECT)


class Standings:
    """Asks the lists of a service; what they say is remembered as long as no table is among them, which may change."""

    def __init__(
        self,
        *,
        trusted: ClientList,
        xclient_hosts: ClientList,
        xforward_hosts: ClientList,
        unlimited: ClientList,
        limits: ClientLimits,
        bare_newline: BareNewline,
        newline_exclusions: ClientList,
    ) -> None:
        self.trusted, self._xclient_hosts, self._xforward_hosts = trusted, xclient_hosts, xforward_hosts
        self._unlimited, self._limits = unlimited, limits
        self._bare_newline, self._newline_exclusions = bare_newline, newline_exclusions
        self._lasts = all(
            hosts.is_fixed for hosts in (trusted, xclient_hosts, xforward_hosts, unlimited, newline_exclusions)
        )
        self._known: dict[tuple[str, str], Standing] = {}
        # The answer, by address and name, where no list need be asked.
        self.known = self._known.get

    async def of(self, client: Client) -> Standing:
        """Raises TableTrouble."""
        who = client.address, client.name
        if (known := self.known(who)) is not None:
            return known
        may_xclient = await self._xclient_hosts.matches(*who)
        is_limited = bool(self._limits) and not may_xclient and not await self._unlimited.matches(*who)
        newline = self._bare_newline
        if newline is BareNewline.REJECT and await self._newline_exclusions.matches(*who):
            newline = BareNewline.NORMALIZE
        standing = Standing(
            trusted=await self.trusted.matches(*who),
            may_xclient=may_xclient,
            may_xforward=await self._xforward_hosts.matches(*who),
            network=self._limits.network_of(client.address) if is_limited else "",
            newline=newline,
        )
        if self._lasts:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[who] = standing
        return standing
