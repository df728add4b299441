"""Any bytes, in any pieces, given to `sendmail -bs` get whole replies and leave no half of a message behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.receive.maildrop import read_envelope
from ekiden.receive.standalone import StandaloneSession

SEEDS = [
    b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
    b"HELO x\nMAIL FROM:<>\nRCPT TO:<c>\nRCPT TO:<d@e.example>\nDATA\nx\n.\nRSET\nVRFY x\nNOOP\nHELP\n",
    b"MAIL FROM:<a@b> SIZE=99999999999\r\nDATA\r\nRCPT TO:<\r\nGET / HTTP/1.0\r\n",
]


def one_input(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "maildrop").mkdir()
        said: list[bytes] = []
        parameters = Parameters({"queue_directory": directory, "message_size_limit": "1000"})
        size = 1 + len(data) % 17
        pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
        StandaloneSession(parameters, said.append).run(lambda: next(pieces, b""))
        replies = b"".join(said)
        assert replies.endswith(b"\r\n")
        assert all(line[:3].isdigit() and line[3:4] in (b" ", b"-") for line in replies.split(b"\r\n")[:-1])
        drops = list((Path(directory) / "maildrop").iterdir())
        assert len(drops) == replies.count(b"queued as")
        for path in drops:
            with path.open("rb") as file:
                assert read_envelope(file).recipients
                assert len(file.read()) <= 1000
