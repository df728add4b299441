"""Our own mail, signed while it comes in: the header is known when it is complete, the body is hashed as it passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.message.clock import Clock
from ekiden.message.envelope import Client
from ekiden.policy.conclusion import Conclusion
from ekiden.policy.dkim_signing import DkimSigner
from ekiden.policy.dmarc_decision import Decision


class MessageSigner:
    """What one service signs: mail of the clients that ``includes`` knows (dkim_signing_clients)."""

    def __init__(self, signer: DkimSigner, includes: Callable[[Client], Awaitable[bool]], clock: Clock) -> None:
        self.signer = signer
        self.clock = clock
        self._includes = includes

    async def of_client(self, client: Client) -> Signing | None:
        """For a message of a client; None when it is not ours to sign. Raises TableTrouble."""
        return Signing(self) if await self._includes(client) else None

    def of_host(self) -> Signing:
        """For a message that was made on this host."""
        return Signing(self)


class Signing:
    """One message: what its header says when it is complete, and what it leaves as, decides about the keys."""

    def __init__(self, message_signer: MessageSigner) -> None:
        self._signer, self._clock = message_signer.signer, message_signer.clock
        self._hashes = BodyHashes()
        self._signer.prepare(self._hashes)
        self._header = b""

    def take_header(self, received: bytes, stored: bytes) -> bytes:
        """``stored`` is what leaves; ``received``, what it was before, is of no account here."""
        del received
        self._header = stored
        return stored

    def feed(self, body: bytes) -> None:
        self._hashes.feed(body)

    def cancel(self) -> None:
        """There is nothing under way."""

    async def conclude(self) -> Conclusion:
        self._hashes.finish()
        signed = await self._signer.sign(self._header, self._hashes, now=self._clock.time())
        return Conclusion(
            decision=Decision(refusal=signed.refusal),
            head=signed.fields,
            warnings=signed.troubles,
        )
