"""How long a server may take for content: some progress in time, or so many bytes a second."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.connection import Connection
from ekiden.deliver.smtp_settings import lmtp_settings, smtp_settings
from ekiden.message.host import Host
from ekiden.net.outbox import Outbox
from ekiden.protocol.smtp.client import SmtpClient
from support.honours import honours
from support.smtp_delivery import run

SETTINGS = {"smtp": smtp_settings, "lmtp": lmtp_settings}


class Deaf(asyncio.Transport):
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        pass


@honours("smtp_per_request_deadline", "smtp_min_data_rate", "lmtp_per_request_deadline", "lmtp_min_data_rate")
@pytest.mark.parametrize("protocol", SETTINGS)
@pytest.mark.parametrize(
    ("deadline", "rate", "in_time"), [("yes", "100000", False), ("yes", "1000", True), ("no", "100000", True)]
)
def test_a_server_that_takes_content_slowly(protocol: str, deadline: str, rate: str, in_time: bool) -> None:
    """100 bytes each 50 ms: it never stands still for the 500 ms it has, but is slow for twice as long."""
    parameters = Parameters({f"{protocol}_per_request_deadline": deadline, f"{protocol}_min_data_rate": rate})
    settings = SETTINGS[protocol](parameters)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        times = tuple(0.5 for _ in settings.timeouts)
        host = Host("x.example", "127.0.0.1", 25)
        connection = Connection(
            SmtpClient(settings.rules), host, times, loop, outbox=Outbox(), content_rate=settings.content_rate
        )
        connection.connection_made(Deaf())
        taken = True
        for _ in range(20):
            connection.pause_writing()
            loop.call_later(0.05, connection.resume_writing)
            taken = await connection.drain(100)
            if not taken:
                break
        assert taken is in_time
        connection.connection_lost(None)

    run(work())
