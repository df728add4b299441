"""The work of one SMTP delivery while it is under way."""

from __future__ import annotations

from msgspec import Struct

from ekiden.deliver.connection import Endpoint
from ekiden.message.content import OutgoingContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, failed
from ekiden.message.mime_downgrade import Survey
from ekiden.message.status import Status
from ekiden.protocol.smtp.client_transaction import wire_path


class Converted(Struct, frozen=True):
    """The content for a server that cannot take it as it is: converted already, or on its way out (by ``survey``)."""

    content: OutgoingContent
    size: int
    survey: Survey | None = None


class Job:
    """One delivery under way: ``results`` so far, ``open`` the recipients that another server may still take."""

    __slots__ = (
        "asked",
        "at_fallback",
        "broke_off",
        "connect_s",
        "content",
        "converted",
        "has_ascii_header",
        "is_ascii",
        "left",
        "notes",
        "open",
        "paths",
        "quotes",
        "request",
        "results",
        "sender",
        "sessions",
        "tried",
    )

    def __init__(self, request: DeliveryRequest, content: OutgoingContent, *, quotes: bool) -> None:
        """``quotes``: local parts that need quotes get them."""
        self.request = request
        self.quotes = quotes
        self.has_ascii_header: bool | None = None  # None: nobody has looked
        self.is_ascii: bool | None = None
        self.converted: dict[
            bool, Converted
        ] = {}  # for servers with 8BITMIME but no BINARYMIME; for those with neither
        self.notes: list[str] = []  # for the log
        self.content = content
        self.results: list[DeliveryResult | None] = [None] * len(request.recipients)
        self.open = list(range(len(request.recipients)))
        self.asked: list[int] = []  # the recipients of the transaction that runs, or ran last
        self.left: list[int] = []  # open ones that the server has no room for in this session (RFC 9422)
        self.sessions = 0
        self.connect_s = 0.0
        self.tried: Endpoint | None = None  # by a connection of the pool
        self.broke_off = False  # the last transaction ended with its connection
        self.at_fallback = False  # what follows goes to a fallback relay
        sender = wire_path(request.envelope.sender, quotes=quotes)
        # Empty where no command line can hold the address.
        self.paths = [wire_path(recipient.address, quotes=quotes) or b"" for recipient in request.recipients]
        self.sender = sender or b"<>"
        if sender is None:
            self.settle(failed(Status(5, 1, 7), "bad sender address syntax"))
        elif b"" in self.paths:
            for at, path in enumerate(self.paths):
                if not path:
                    self.results[at] = failed(Status(5, 1, 3), "bad recipient address syntax")
            self.open = [at for at, path in enumerate(self.paths) if path]

    def settle(self, result: DeliveryResult) -> None:
        """One final result for all that are open."""
        for at in self.open:
            self.results[at] = result
        self.open = []

    def remember(self, result: DeliveryResult) -> None:
        """A reason to wait, for the open ones; a server's own words about a recipient outweigh a failed connection."""
        for at in self.open:
            known = self.results[at]
            if known is None or result.relay != "none" or known.relay == "none":
                self.results[at] = result
