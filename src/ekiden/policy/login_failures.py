"""Who guesses passwords is slowed, then refused for a time: counted by client and by account, across all workers.

An account that strangers guess at stays open for the clients that have logged in to it on the same day: nobody can
lock others out.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal, reply
from ekiden.policy.client_limits import Deed

_DAY_S = 86_400.0
_LONGEST = 10  # times the sleep time


class FailureCounts(Protocol):
    """As policy.client_limits.ClientRates, and a look at a count."""

    def count(self, deed: Deed, client: str, unit_s: float) -> int: ...

    def present(self, deed: Deed, client: str, unit_s: float) -> int: ...


class LoginJudgement(Struct, frozen=True):
    """What follows from a login. ``refusal``: give it in place of the outcome, a right password's too."""

    wait_s: float = 0.0  # before the reply
    refusal: Refusal | None = None


_NOTHING = LoginJudgement()


class LoginFailures:
    """``network`` is what a client is counted by (ClientLimits.network_of), "" for one that the limits do not bind."""

    def __init__(self, parameters: Parameters, counts: FailureCounts) -> None:
        self._counts = counts
        self._hostname = parameters.myhostname
        self._client_limit = parameters.smtpd_auth_failure_limit
        self._account_limit = parameters.smtpd_auth_account_failure_limit
        self._unit_s = parameters.smtpd_auth_failure_time
        self._sleep_s = parameters.smtpd_auth_failure_sleep_time

    def before(self, client: Client, network: str) -> Refusal | None:
        """Before anything of a login is looked at: a refusal for a client that has guessed too often."""
        if not self._client_limit or not network:
            return None
        count = self._counts.present(Deed.LOGIN_FAILURE, f"client {network}", self._unit_s)
        if count < self._client_limit:
            return None
        text = f"{self._hostname} Error: too many failed logins from {client.address}"
        return Refusal(
            reply(421, "4.7.0", text, closes=True), "login-failures", f"{count} failed logins from {client}: refused"
        )

    def after(self, client: Client, network: str, account: str, *, accepted: bool) -> LoginJudgement:
        """Count a login that has been looked at; ``account`` is the name that was given, "" where none was.

        Only what can be guessed is counted: temporary failures and broken exchanges are not for here.
        """
        name = f"account {account.casefold()}"
        refusal = self._of_account(client, network, account, name)
        if accepted:
            if refusal is None and account:
                self._counts.count(Deed.LOGIN, f"{network or client.address} {name}", _DAY_S)
            return _NOTHING if refusal is None else LoginJudgement(0.0, refusal)
        if account:
            self._counts.count(Deed.LOGIN_FAILURE, name, self._unit_s)
        if not network:
            return LoginJudgement(0.0, refusal)
        failures = self._counts.count(Deed.LOGIN_FAILURE, f"client {network}", self._unit_s)
        return LoginJudgement(min(failures - 1, _LONGEST) * self._sleep_s, refusal)

    def _of_account(self, client: Client, network: str, account: str, name: str) -> Refusal | None:
        """For a right password as for a wrong one: the reply must not tell which it was."""
        if not self._account_limit or not account:
            return None
        count = self._counts.present(Deed.LOGIN_FAILURE, name, self._unit_s)
        if count < self._account_limit:
            return None
        if self._counts.present(Deed.LOGIN, f"{network or client.address} {name}", _DAY_S):
            return None
        detail = f"{count} failed logins to {account}: refused to {client}"
        return Refusal(reply(454, "4.7.0", "Temporary authentication failure"), "login-failures", detail)
