"""The last step of every mechanism: who has shown that it is somebody may act as whom (RFC 4422 §3.4.1)."""

from __future__ import annotations

from ekiden.sasl.accounts import Accounts, AccountTrouble, Outcome, Verdict
from ekiden.sasl.exchange import Failure, Success

# In the client's eyes all of these are the same; the log tells them apart.
_REASONS = {Outcome.WRONG: "authentication failure", Outcome.DISABLED: "account disabled"}


async def admit(accounts: Accounts, account: str, wanted: str, *, final: bytes | None = None) -> Success | Failure:
    """``account`` has authenticated itself; ``wanted`` is the authorization identity that it asks for, or "".

    One that is not the account's own is given only where the place of accounts says so (CVE-2023-27582: a server that
    took the wish for the deed).
    """
    try:
        allowed = await accounts.authorize(account, wanted)
    except AccountTrouble as trouble:
        return Failure(str(trouble), temporary=True)
    if not allowed:
        return Failure(f"{account} may not act as {wanted or account}", account=account)
    own = not wanted or wanted.casefold() == account.casefold()
    return Success(account if own else wanted, final)


async def admit_password(accounts: Accounts, name: str, password: str, wanted: str) -> Success | Failure:
    """The step of the mechanisms that bring the password itself."""
    if not name or not password:
        # Some places (LDAP servers) let anybody in who brings no password.
        return Failure("empty name" if not name else "empty password", account=name)
    try:
        verdict = await accounts.verify(name, password)
    except AccountTrouble as trouble:
        return Failure(str(trouble), temporary=True, account=name)
    return await admit(accounts, verdict.account, wanted) if verdict.accepted else refused(verdict, name)


def refused(verdict: Verdict, name: str) -> Failure:
    """Why a verdict lets nobody in, for the log."""
    if verdict.outcome is Outcome.UNAVAILABLE:
        return Failure(verdict.detail or "the accounts cannot be asked", temporary=True, account=name)
    return Failure(verdict.detail or _REASONS[verdict.outcome], account=name)
