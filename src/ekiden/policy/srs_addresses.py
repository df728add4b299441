"""The addresses of SRS at this host: what the parameters say of them, and the secret that they are signed with.

In:   an address; the time; the files of keys as they are now.
Out:  the address that it stands for, or that stands for it; or a refusal that says what is wrong with it.
Never: raises for what a stranger wrote; logs a secret.
"""

from __future__ import annotations

from collections.abc import Callable

from ekiden.auth.srs import Srs, SrsError, SrsFlaw, is_srs
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.dns.name import dns_name
from ekiden.message.address import Address
from ekiden.message.reply import Refusal, reply
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import KeyFiles

_DAY_S = 86400


class SrsAddresses:
    """False where srs_domain is empty: then no address is one of SRS. ``time``: seconds since the epoch."""

    def __init__(self, parameters: Parameters, key_files: Callable[[], KeyFiles], time: Callable[[], float]) -> None:
        """Raises ConfigError."""
        # Whether a local part may be one of SRS, by its looks: nearly none is.
        self.looks_like = is_srs
        self._parameters = parameters
        self._key_files, self._time = key_files, time
        self.domain = dns_name(parameters.srs_domain) or ""
        if parameters.srs_domain and not self.domain:
            raise ConfigError(f"srs_domain = {parameters.srs_domain}: not a domain")
        self._path = parameters.srs_secret_file
        self._read: bytes | None = None
        self._srs: Srs | None = None
        try:
            self._with([b"any"])
        except ValueError as error:
            raise ConfigError(f"srs_hash_length, srs_hash_minimum, srs_max_age: {error}") from error

    def __bool__(self) -> bool:
        return bool(self.domain)

    @property
    def trouble(self) -> str:
        """Why forwarded mail keeps its sender though it should not; empty if all is well, or nothing was read yet."""
        files = self._key_files()
        if not self or self._now() is not None or not (self._path in files.contents or self._path in files.troubles):
            return ""
        return f"srs_secret_file = {self._path}: {files.troubles.get(self._path, 'there is no secret in it')}"

    def is_ours(self, address: Address) -> bool:
        """Whether an address would be one of ours, by its looks."""
        return is_srs(address.local) is not None and bool(self.domain) and dns_name(address.domain) == self.domain

    def sender_for(self, sender: Address) -> Address:
        """The sender of forwarded mail. Raises SrsError, and TableTrouble where there is no secret."""
        return self._required().forward(sender, self._time())

    def reversed(self, address: Address) -> Address | None:
        """Whom an address of ours stands for; None for all others, also when that cannot be told now."""
        srs = self._now() if self.is_ours(address) else None
        try:
            return None if srs is None else srs.reverse(address, self._time())
        except SrsError:
            return None

    def check(self, address: Address) -> Refusal | None:
        """Of an address that is_ours: what is wrong with it. Raises TableTrouble where there is no secret."""
        try:
            self._required().reverse(address, self._time())
        except SrsError as error:
            # Whoever sends to it is told no more than that: a mail server whose queue is old, or who guesses.
            text = f"<{address}>: Recipient address rejected: {error}"
            return Refusal(reply(550, "5.1.1", text), _REASONS[error.flaw], str(error))
        return None

    def _required(self) -> Srs:
        srs = self._now()
        if srs is None:
            raise TableTrouble(self.trouble or f"srs_secret_file = {self._path}: not read")
        return srs

    def _now(self) -> Srs | None:
        """By the secrets that the file holds now."""
        held = self._key_files().contents.get(self._path)
        if held is not self._read:
            secrets = [] if held is None else [line for line in held.splitlines() if line]
            self._srs = self._with(secrets) if secrets else None
            self._read = held
        return self._srs

    def _with(self, secrets: list[bytes]) -> Srs:
        parameters = self._parameters
        return Srs(
            secrets,
            self.domain,
            max_age_days=int(parameters.srs_max_age // _DAY_S),
            hash_length=parameters.srs_hash_length,
            hash_minimum=parameters.srs_hash_minimum,
            separator=parameters.srs_separator,
            local_limit=parameters.srs_local_part_limit,
        )


_REASONS = {flaw: f"srs-{flaw.name.lower().replace('_', '-')}" for flaw in SrsFlaw}
