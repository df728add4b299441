"""What is known of a message when its content is whole: what was found, what is done, what its header is to say."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ekiden.auth.verdict import Verdicts
from ekiden.policy.dmarc_decision import NOTHING, Decision


class Conclusion(Struct, frozen=True):
    """``warnings``: for the log, a line each."""

    verdicts: Verdicts = Verdicts()
    decision: Decision = NOTHING
    head: bytes = b""  # fields for the top of the message, with their line ends
    results: str = ""  # what Authentication-Results says, on one line
    warnings: tuple[str, ...] = ()


NOTHING_FOUND = Conclusion()


class ContentReader(Protocol):
    """Who looks at the content while it comes in: an Examination, or a Signing."""

    def take_header(self, received: bytes, stored: bytes) -> bytes:
        """``received`` is the header as it came, ``stored`` what cleanup made of it; returns what to keep."""

    def feed(self, body: bytes) -> None: ...
    def cancel(self) -> None: ...
    async def conclude(self) -> Conclusion:
        """The content is whole. Raises TableTrouble."""
