"""The one interface of whoever judges OAuth 2.0 access tokens."""

from __future__ import annotations

from typing import Protocol

from ekiden.sasl.accounts import Verdict


class Tokens(Protocol):
    async def verify_token(self, token: str, name: str) -> Verdict:
        """Whose token it is: ``account`` of the verdict. ``name`` is who the client says it is, or ""."""

    @property
    def scope(self) -> str:
        """The scopes that a token must have, separated by spaces; "" where none is needed."""

    @property
    def discovery(self) -> str:
        """Where clients find out how to get a token (RFC 8414); "" where that is not said."""
