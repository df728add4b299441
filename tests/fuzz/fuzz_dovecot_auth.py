"""Any bytes, in any pieces, are the same answers of Dovecot or a ValueError; a value survives its escaping."""

from __future__ import annotations

from ekiden.protocol.dovecot_auth import Accepted, DovecotAuthClient, Event, escaped, unescaped

_GREETING = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tab\nDONE\n"
SEEDS = [
    _GREETING,
    _GREETING + b"OK\t1\tuser=anna\nFAIL\t2\tuser=bert\ttemp\treason=x\x01ty\nCONT\t3\tYWJj\n",
    _GREETING + b"OK\t1\tuser=a\x01n\x010\tresp=dj0=\nFAIL\t4294967295\tcode=temp_fail\tauthz\n",
    b"VERSION\t1\t1\n" + b"MECH\tX\n" * 200 + b"DONE\nOK\t1\tuser=" + b"x" * 300 + b"\n",
]


def _events(data: bytes, size: int) -> tuple[list[Event], str]:
    client = DovecotAuthClient(1)
    found: list[Event] = []
    try:
        for at in range(0, len(data), size):
            found += client.receive(data[at : at + size])
    except ValueError as error:
        return found, type(error).__name__
    return found, ""


def one_input(data: bytes) -> None:
    client, found = DovecotAuthClient(1), _events(data, 1)
    for event in found[0]:
        if isinstance(event, Accepted):
            assert event.user
    # Whole, an error may hide what came before it in the same piece; it is never another one.
    for size in (3, len(data) or 1):
        events, problem = _events(data, size)
        assert problem == found[1]
        assert events == found[0][: len(events)]
        assert problem or events == found[0]
    text = data.decode("utf-8", "surrogateescape")
    assert unescaped(escaped(text)) == text
    client.take_output()
    try:
        client.auth(1, "PLAIN", {"local_name": text}, data)
    except ValueError:
        assert client.take_output() == b""
        return
    line = client.take_output()
    assert line.count(b"\n") == 1
    assert line.split(b"\t")[-1].startswith(b"resp=")
    assert len(line.split(b"\t")) == 5
