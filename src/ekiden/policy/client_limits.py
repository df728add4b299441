"""How many connections one client may have at a time and how much it may do in a time, across all workers of a host.

A client is a network here: an address, or as much of it as smtpd_client_ipv4_prefix_length and its twin say.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable
from typing import Protocol

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal, reply


class ClientCounts(Protocol):
    async def connect(self, address: str) -> int:
        """Count a connection of ``address`` in; the number that it has now, this one included."""

    def disconnect(self, address: str) -> None: ...


class LocalCounts:
    """Counts of one process: enough where there is one worker, the fallback where the common counter is away."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    async def connect(self, address: str) -> int:
        count = self._counts[address] = self._counts.get(address, 0) + 1
        return count

    def disconnect(self, address: str) -> None:
        count = self._counts.get(address, 0) - 1
        if count > 0:
            self._counts[address] = count
        else:
            self._counts.pop(address, None)


class Deed(enum.Enum):
    """What is counted by time."""

    CONNECTION = "connection"
    MESSAGE = "message"
    RECIPIENT = "recipient"
    TLS = "tls"  # a TLS session that is not one of before
    AUTH = "auth"  # an AUTH command, whatever becomes of it
    LOGIN = "login"
    LOGIN_FAILURE = "login failure"


class ClientRates(Protocol):
    def count(self, deed: Deed, client: str, unit_s: float) -> int:
        """Count one in; how many there were in the present unit of time, this one included."""


class LocalRates:
    """Rates of one process. ``monotonic`` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._windows: dict[float, tuple[int, dict[tuple[Deed, str], int]]] = {}  # by unit of time

    def count(self, deed: Deed, client: str, unit_s: float) -> int:
        counts = self._counts(unit_s)
        count = counts[deed, client] = counts.get((deed, client), 0) + 1
        return count

    def present(self, deed: Deed, client: str, unit_s: float) -> int:
        """As count, without counting one in."""
        return self._counts(unit_s).get((deed, client), 0)

    def _counts(self, unit_s: float) -> dict[tuple[Deed, str], int]:
        window = int(self._monotonic() / unit_s)
        found = self._windows.get(unit_s)
        if found is None or found[0] != window:
            found = self._windows[unit_s] = (window, {})
        return found[1]


class ClientLimits:
    """The limits of one service (smtpd_client_..._limit); ``service`` is its name, which the log gives.

    ``unit_s`` is anvil_rate_time_unit: that of the whole server, whose services count in the same table.
    """

    def __init__(self, parameters: Parameters, rates: ClientRates, *, service: str, unit_s: float) -> None:
        self.connections = parameters.smtpd_client_connection_count_limit
        self._rates = rates
        self._service = service
        self._unit_s = unit_s
        self._hostname = parameters.myhostname
        self._ipv4_length = parameters.smtpd_client_ipv4_prefix_length
        self._ipv6_length = parameters.smtpd_client_ipv6_prefix_length
        self._limits = {
            Deed.CONNECTION: parameters.smtpd_client_connection_rate_limit,
            Deed.MESSAGE: parameters.smtpd_client_message_rate_limit,
            Deed.RECIPIENT: parameters.smtpd_client_recipient_rate_limit,
            Deed.TLS: parameters.smtpd_client_new_tls_session_rate_limit,
            Deed.AUTH: parameters.smtpd_client_auth_rate_limit,
        }
        # policy.login_failures counts by the same network.
        self._has_logins = parameters.smtpd_sasl_auth_enable
        self.has_rates = any(self._limits.values())

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self.connections) or self.has_rates or self._has_logins

    def network_of(self, address: str) -> str:
        """What clients are counted by: the address, or the network of its first bits."""
        length, whole = (self._ipv6_length, 128) if ":" in address else (self._ipv4_length, 32)
        if length == whole:
            return address
        try:
            return str(ipaddress.ip_network(f"{address.partition('%')[0]}/{length}", strict=False))
        except ValueError:  # no IP address: nothing to cut
            return address

    def check_rate(self, deed: Deed, client: Client, network: str) -> Refusal | None:
        """Count a deed of a client in; a refusal when it has done too many of them."""
        limit = self._limits[deed]
        if not limit:
            return None
        count = self._rates.count(deed, f"{self._service} {network}", self._unit_s)
        if count <= limit:
            return None
        what, code, status, text = _WORDS[deed]
        detail = f"{what} rate limit exceeded: {count} from {client} for service {self._service}"
        if code == 421:
            text = f"{self._hostname} {text}"
        return Refusal(reply(code, status, f"{text} from {client.address}", closes=code == 421), "rate-limit", detail)


# As Postfix says it: what is limited, and the reply.
_WORDS = {
    Deed.CONNECTION: ("Connection", 421, "4.7.0", "Error: too many connections"),
    Deed.MESSAGE: ("Message delivery request", 450, "4.7.1", "Error: too much mail"),
    Deed.RECIPIENT: ("Recipient address", 450, "4.7.1", "Error: too many recipients"),
    Deed.TLS: ("New TLS session", 421, "4.7.0", "Error: too many new TLS sessions"),
    Deed.AUTH: ("AUTH command", 450, "4.7.1", "Error: too many AUTH commands"),
}
