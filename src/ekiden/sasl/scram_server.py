"""The server's side of SCRAM, with channel binding and without (RFC 5802, RFC 7677, RFC 5929, RFC 9266).

Never: tells whether an account exists. Who has no keys here gets a salt that is always the same for that name, and an
exchange that goes on to its end.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from msgspec import Struct

from ekiden.sasl import scram
from ekiden.sasl.accounts import Accounts, AccountTrouble, ScramKeys, ScramPair
from ekiden.sasl.admission import admit
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismTraits, Step
from ekiden.sasl.scram import ClientFirst, ScramHash, ScramSyntax, ServerFirst

PLUS = "-PLUS"


def traits(algorithm: ScramHash, *, plus: bool) -> MechanismTraits:
    """Who hears an exchange can try passwords on it, slowly."""
    return MechanismTraits(algorithm.mechanism + (PLUS if plus else ""), dictionary=True, mutual=True)


class MadeUp(Struct, frozen=True):
    """How the salts and keys of accounts that do not exist are made.

    ``secret`` must be that of all workers and live as long as the accounts: a salt that changes tells as much as none.
    ``salt_bytes`` and ``iterations`` are those of real accounts; ``canonical`` is how the accounts compare names.
    """

    secret: Callable[[], bytes]
    salt_bytes: int = 16
    iterations: int = scram.ITERATIONS_FLOOR
    canonical: Callable[[str], str] = str.casefold

    def keys(self, algorithm: ScramHash, name: str) -> ScramKeys:
        salt = self._derived("salt", algorithm, name)[: self.salt_bytes]
        size = algorithm.size
        pair = ScramPair(
            self._derived("stored", algorithm, name)[:size], self._derived("server", algorithm, name)[:size]
        )
        return ScramKeys("", salt, self.iterations, (pair,))

    def _derived(self, what: str, algorithm: ScramHash, name: str) -> bytes:
        text = f"{what}\0{algorithm.value}\0{self.canonical(name)}"
        return hmac.digest(self.secret(), text.encode("utf-8", "surrogatepass"), "sha512")


class ScramServer:
    """``nonce`` gives a new one each time: printable, without commas, of 128 bits at least."""

    def __init__(self, accounts: Accounts, made_up: MadeUp, nonce: Callable[[], str]) -> None:
        self._accounts = accounts
        self._made_up = made_up
        self._nonce = nonce
        self._hash = ScramHash.SHA256
        self._plus = False
        self._facts = Facts()
        self._first: ClientFirst | None = None
        self._answer: ServerFirst | None = None
        self._keys: ScramKeys | None = None

    async def start(self, mechanism: str, initial: bytes | None, facts: Facts) -> Step:
        algorithm = scram.hash_of(mechanism)
        assert algorithm is not None  # who chose this class knew the mechanism
        self._hash, self._plus, self._facts = algorithm, mechanism.endswith(PLUS), facts
        return Challenge() if initial is None else await self.respond(initial)

    async def respond(self, data: bytes) -> Step:
        try:
            return await (self._begin(data) if self._first is None else self._end(data))
        except ScramSyntax as problem:
            return Failure(f"{problem}", malformed=True, account=self._first.name if self._first else "")
        except AccountTrouble as trouble:
            return Failure(str(trouble), temporary=True, account=self._first.name if self._first else "")

    async def _begin(self, data: bytes) -> Step:
        first = scram.parse_client_first(data)
        self._first = first
        problem = self._binding_problem(first)
        if problem:
            return Failure(problem, account=first.name)
        made_up = self._made_up.keys(self._hash, first.name)  # made in any case: time must not tell either
        found = await self._accounts.scram_keys(first.name, self._hash.value)
        self._keys = made_up if found is None or not found.pairs else found
        self._answer = scram.server_first(first.nonce + self._nonce(), self._keys.salt, self._keys.iterations)
        return Challenge(self._answer.text.encode())

    def _binding_problem(self, first: ClientFirst) -> str:
        """What is wrong with the client's wish for a channel binding (RFC 5802 §6); "" when nothing is."""
        if first.flag == "p":
            if not self._plus:
                return "channel binding with a mechanism that has none"
            if first.binding not in self._facts.channel_bindings:
                return f"unsupported channel binding {first.binding}"
        elif self._plus:
            return "no channel binding with a mechanism that wants one"
        elif first.flag == "y" and f"{self._hash.mechanism}{PLUS}" in self._facts.offered:
            # The client did not see what we offered: somebody between us has taken it out.
            return "channel binding was offered, but the client was told that it was not"
        return ""

    async def _end(self, data: bytes) -> Step:
        first, answer, keys = self._first, self._answer, self._keys
        if first is None or answer is None or keys is None:
            return Failure("a response after the end", malformed=True)
        final = scram.parse_client_final(data)
        self._keys = None
        bound = self._facts.channel_bindings[first.binding] if first.flag == "p" else b""
        if not hmac.compare_digest(final.channel, first.header.encode() + bound):
            return Failure("channel bindings do not match", account=first.name)
        if not hmac.compare_digest(final.nonce.encode(), answer.nonce.encode()):
            return Failure("the nonce is not ours", account=first.name)
        signed = scram.auth_message(first, answer, final.without_proof)
        fitting = [pair for pair in keys.pairs if scram.is_proof(self._hash, pair.stored_key, final.proof, signed)]
        if not keys.account or not fitting:
            return Failure("authentication failure", account=first.name)
        signature = scram.server_signature(self._hash, fitting[0].server_key, signed)
        return await admit(self._accounts, keys.account, first.authzid, final=scram.server_final(signature).encode())

    def abandon(self) -> None:
        self._keys = None
