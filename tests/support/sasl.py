"""Accounts of a test, and a client's side of SCRAM: for tests of mechanisms that need no place of accounts."""

from __future__ import annotations

import hmac

from ekiden.sasl import scram
from ekiden.sasl.accounts import AccountTrouble, HashName, Outcome, ScramKeys, ScramPair, Verdict
from ekiden.sasl.scram import ClientFirst, ScramHash

ITERATIONS = 4096
SALT = b"0123456789abcdef"


class KnownAccounts:
    """``passwords`` by name; ``may_act_as`` has the identities that an account may take besides its own."""

    def __init__(
        self,
        passwords: dict[str, str] | None = None,
        *,
        may_act_as: dict[str, set[str]] | None = None,
        disabled: frozenset[str] = frozenset(),
    ) -> None:
        self.passwords = {"bob": "secret"} if passwords is None else passwords
        self.may_act_as = may_act_as or {}
        self.disabled = disabled
        self.trouble = ""  # what is wrong with the place of the accounts
        self.asked: list[tuple[str, str]] = []
        self._keys: dict[tuple[str, str], ScramPair] = {}

    @property
    def scram_hashes(self) -> frozenset[HashName]:
        return frozenset({"sha1", "sha256"})

    async def verify(self, name: str, password: str) -> Verdict:
        self._check()
        self.asked.append((name, password))
        expected = self.passwords.get(name)
        if expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
            return Verdict(Outcome.WRONG)
        if name in self.disabled:
            return Verdict(Outcome.DISABLED, name)
        return Verdict(Outcome.OK, name)

    async def scram_keys(self, name: str, hash_name: HashName) -> ScramKeys | None:
        self._check()
        password = self.passwords.get(name)
        if password is None or name in self.disabled:
            return None
        pair = self._keys.get((name, hash_name))
        if pair is None:
            algorithm = ScramHash(hash_name)
            salted = scram.salted_password(algorithm, password, SALT, ITERATIONS)
            pair = ScramPair(scram.stored_key(algorithm, salted), scram.server_key(algorithm, salted))
            self._keys[name, hash_name] = pair
        return ScramKeys(name, SALT, ITERATIONS, (pair,))

    async def authorize(self, account: str, wanted: str) -> bool:
        self._check()
        if account not in self.passwords or account in self.disabled:
            return False
        return not wanted or wanted == account or wanted in self.may_act_as.get(account, set())

    async def aclose(self) -> None:
        """Nothing is open."""

    def _check(self) -> None:
        if self.trouble:
            raise AccountTrouble(self.trouble)


class ScramTalk:
    """A client that knows a password. ``bound`` is the channel's data, with a ``binding`` of that kind."""

    def __init__(
        self,
        algorithm: ScramHash,
        name: str,
        password: str,
        *,
        flag: str = "n",
        binding: str = "",
        bound: bytes = b"",
        authzid: str = "",
    ) -> None:
        self.algorithm = algorithm
        self.password = password
        self.bound = bound
        self.first: ClientFirst = scram.client_first(name, "clientNonce", flag=flag, binding=binding, authzid=authzid)
        self.expected = b""  # the server's last word, if it knows the account

    @property
    def begin(self) -> bytes:
        return self.first.text.encode()

    def answer(self, challenge: bytes) -> bytes:
        told = scram.parse_server_first(challenge)
        assert told.nonce.startswith(self.first.nonce)
        assert len(told.nonce) > len(self.first.nonce)
        salted = scram.salted_password(self.algorithm, self.password, told.salt, told.iterations)
        without = scram.without_proof(self.first, told.nonce, self.bound)
        signed = scram.auth_message(self.first, told, without)
        key = scram.server_key(self.algorithm, salted)
        self.expected = scram.server_final(scram.server_signature(self.algorithm, key, signed)).encode()
        proof = scram.client_proof(self.algorithm, scram.client_key(self.algorithm, salted), signed)
        return scram.client_final(without, proof).encode()
