"""POP before SMTP: an address from which somebody has just fetched mail may send, for a short time.

It is for programs that cannot log in by SMTP, and it is off unless both pop_before_smtp_time and the restriction
permit_pop_before_smtp say otherwise: an address is no person, and behind one may be many.
"""

from __future__ import annotations

from typing import Protocol


class MailboxLogins(Protocol):
    """Who has logged in to its mailbox of late, by address, across the processes of a host."""

    def note(self, address: str) -> None:
        """A client at ``address`` has logged in now."""

    def age_s(self, address: str) -> float | None:
        """How long ago the last login from there was; None when none is known."""


class PopBeforeSmtp:
    def __init__(self, logins: MailboxLogins, time_s: float) -> None:
        self._logins, self._time_s = logins, time_s

    def allows(self, address: str) -> bool:
        if not self._time_s:
            return False
        age_s = self._logins.age_s(address)
        return age_s is not None and 0 <= age_s < self._time_s
