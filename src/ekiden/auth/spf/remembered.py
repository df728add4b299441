"""SPF on both identities of a client, remembered: most mail of a busy server is from clients that it has just judged.

In:   a client, the sender that it names; once for all a Resolver and what a service always tells check_host().
Out:  what check_host() finds of HELO and MAIL FROM, and the Received-SPF field that says so.
Never: outlives an answer of the DNS that it rests on; is given to another address, HELO name or domain; remembers
       trouble, or what a record made of the local part or of the time.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from ekiden.auth.spf.check import check_host, checked_mailbox, mail_from_identity
from ekiden.auth.spf.lookups import SpfLimits
from ekiden.auth.spf.names import splits
from ekiden.auth.spf.received_spf import received_spf
from ekiden.auth.spf.record import CACHED_RECORD_BYTES
from ekiden.auth.verdict import SpfVerdict
from ekiden.dns.derived import Basis, Derived
from ekiden.dns.resolver import Resolver
from ekiden.message.address import Address
from ekiden.message.envelope import Client

REMEMBERED = 2000  # with CACHED_RECORD_BYTES of each record it bounds the memory

# RFC 7208 §7.2: the sender, its local part and the time are of one message. All other macros say what the key says.
_OF_ONE_MESSAGE = frozenset("slt")


class SpfFindings(Struct, frozen=True):
    sender: Address
    mail_from: SpfVerdict
    helo: SpfVerdict | None  # None: it is not asked about
    field: bytes  # Received-SPF; b"" where none is wanted


class SpfChecks:
    """Those of one service: its name, its limits and which identities it asks about do not change."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        receiver: str,
        limits: SpfLimits,
        checks_helo: bool,
        writes_field: bool,
        time: Callable[[], float],
    ) -> None:
        """``time`` gives seconds since 1970."""
        self._resolver = resolver
        self._receiver = receiver
        self._limits = limits
        self._checks_helo = checks_helo
        self._writes_field = writes_field
        self._time = time
        self._findings: Derived[tuple[str, str, str], SpfFindings] = Derived(resolver, limit=REMEMBERED)

    def known(self, client: Client, sender: Address) -> SpfFindings | None:
        """Without asking anybody; None where check() must find it out."""
        found = self._findings.known((client.address, client.helo, sender.domain))
        if found is None or found.sender == sender:
            return found
        # Of the same domain, so that only the local part differs; without one, <> and <postmaster> are worlds apart.
        return self._of_sender(found, client, sender) if sender.domain else None

    async def check(self, client: Client, sender: Address) -> SpfFindings:
        basis, expanded = Basis(self._resolver), set[str]()

        async def verdict_on(identity: str, domain: str, mailbox: str) -> SpfVerdict:
            return await check_host(
                basis,
                client_address=client.address,
                domain=domain,
                sender=mailbox,
                helo=client.helo,
                identity=identity,
                receiver=self._receiver,
                limits=self._limits,
                now=self._time(),
                expanded=expanded,
            )

        helo = None
        if self._checks_helo and not sender.is_null:  # for the null sender the HELO name stands anyway
            helo = await verdict_on("helo", *mail_from_identity("", client.helo))
        mail_from = await verdict_on("mailfrom", *mail_from_identity(str(sender), client.helo))
        found = SpfFindings(sender, mail_from, helo, self._field(mail_from, client, sender))
        is_small = all(len(verdict.record) <= CACHED_RECORD_BYTES for verdict in (helo, mail_from) if verdict)
        if is_small and expanded.isdisjoint(_OF_ONE_MESSAGE):
            self._findings.keep((client.address, client.helo, sender.domain), found, basis)
        return found

    def _of_sender(self, found: SpfFindings, client: Client, sender: Address) -> SpfFindings:
        mailbox = checked_mailbox(splits(str(sender))[0], found.mail_from.domain)
        mail_from = replace(found.mail_from, sender=mailbox)
        return SpfFindings(sender, mail_from, found.helo, self._field(mail_from, client, sender))

    def _field(self, verdict: SpfVerdict, client: Client, sender: Address) -> bytes:
        if not self._writes_field:
            return b""
        return received_spf(
            verdict,
            client_address=client.address,
            helo=client.helo,
            receiver=self._receiver,
            envelope_from=str(sender),
        )
