"""The end of a message, and no other: the sequences of the SMTP smuggling tools, and bodies that must stay as they are.

Each is sent to every treatment of bare newlines, straight to a next hop and through a content filter that gives mail
back by SMTP; at the next hop there must be one message for each that was accepted, with clean lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.filter_proxy import filter_proxy
from support.recording_sink import Received, RecordingSink, recording_sink
from support.requirements import require_conformance
from support.running import free_port, running_server
from support.smtp_socket import SmtpSocket

MODES = ("reject", "normalize", "note", "no")
SMUGGLED = (
    b"MAIL FROM:<smuggler@b.example>\r\nRCPT TO:<victim@here.test>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n"
)


def sequences() -> list[bytes]:
    """Those that a server may wrongly take for an end, and those that a client may wrongly pass on."""
    found = json.loads(require_conformance("smtp", "smuggling-eod-sequences.json").read_text("utf-8"))
    inbound, outbound = found["inbound_eod_sequences"], found["outbound_eod_sequences"]
    assert (len(inbound), len(outbound)) == (7, 9)
    return [text.encode("ascii") for text in dict.fromkeys([*inbound, *outbound])]


class World:
    """Listeners by how they treat bare newlines, and whether mail goes through a content filter."""

    def __init__(self, sink: RecordingSink, ports: dict[tuple[str, bool], int]) -> None:
        self.sink, self.ports = sink, ports


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    back = free_port()
    ports = {(mode, filtered): free_port() for mode in MODES for filtered in (False, True)}
    with recording_sink() as sink, filter_proxy(back) as proxy:
        lines = [
            f"127.0.0.1:{port} inet n - n - - smtpd -o smtpd_forbid_bare_newline={mode} "
            f"-o smtpd_hard_error_limit=1000 -o content_filter={f'smtp:[127.0.0.1]:{proxy.port}' if filtered else ''}"
            for (mode, filtered), port in ports.items()
        ]
        lines.append(f"127.0.0.1:{back} inet n - n - - smtpd -o content_filter=")
        settings = {"relayhost": sink.next_hop, "mynetworks": "127.0.0.0/8", "smtpd_peername_lookup": "no"}
        with running_server(main_cf={**settings, "smtpd_soft_error_limit": "1000"}, master_cf=lines) as server:
            yield World(sink, ports)
            assert "Traceback" not in server.output + server.log


def submit(port: int, content: bytes, verb: str = "DATA") -> str:
    """What is answered to the content; the server must have nothing else to say."""
    with SmtpSocket(port) as client:
        client.hear()
        client.say("EHLO client.example")
        client.say("MAIL FROM:<a@b.example>")
        client.say("RCPT TO:<c@d.example>")
        if verb == "DATA":
            assert client.say("DATA").startswith("354 ")
            client.send(content)
        else:
            client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        answer = client.hear()
        assert client.say("QUIT").startswith("221 "), "the content had more than one end"
    return answer


def is_clean(message: Received) -> bool:
    rest = message.content.replace(b"\r\n", b"")
    return b"\r" not in rest and b"\n" not in rest


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
@pytest.mark.parametrize("filtered", [False, True], ids=["straight", "through a filter"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_but_the_right_end_is_one(world: World, mode: str, filtered: bool, verb: str) -> None:
    accepted = []
    for at, sequence in enumerate(sequences()):
        answer = submit(world.ports[mode, filtered], f"Subject: {at}\r\n\r\nfirst".encode() + sequence + SMUGGLED, verb)
        bare = sequence.replace(b"\r\n", b"")
        is_bare = b"\r" in bare or b"\n" in bare
        assert answer.startswith("550 5.5.2 " if mode == "reject" and is_bare else "250 2.0.0 "), (sequence, answer)
        if answer.startswith("250"):
            accepted.append(str(at))
    assert len(accepted) == (1 if mode == "reject" else len(sequences()))
    messages = world.sink.take(len(accepted))
    assert sorted(message.field("Subject") or "" for message in messages) == sorted(accepted)
    for message in messages:
        assert message.sender == "a@b.example"
        assert message.recipients == ("c@d.example",)
        assert is_clean(message)
        # In a chunk the end of DATA is part of the content, and must be passed on as that.
        end = b".\r\n" if verb == "BDAT" else b""
        assert message.body.endswith(b"\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n" + end)


SPECIMENS = ("base64-root-part.txt", "varied-fold-lengths-preserve-data.txt")


def test_every_specimen_is_tried() -> None:
    assert sorted(path.name for path in require_conformance("smtp", "haraka-mail-specimen").iterdir()) == list(
        SPECIMENS
    )


@pytest.mark.parametrize("filtered", [False, True], ids=["straight", "through a filter"])
@pytest.mark.parametrize("name", SPECIMENS)
def test_a_message_passes_as_it_is(world: World, name: str, filtered: bool) -> None:
    text = specimen(require_conformance("smtp", "haraka-mail-specimen", name))
    assert submit(world.ports["reject", filtered], text.replace(b"\r\n.", b"\r\n..") + b".\r\n").startswith("250 ")
    (message,) = world.sink.take()
    header, _, body = text.partition(b"\r\n\r\n")
    assert message.body == body
    assert header in message.content.partition(b"\r\n\r\n")[0]


def specimen(path: Path) -> bytes:
    """With the line ends of the wire, the last one too."""
    text = path.read_bytes().replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n"
    return text.replace(b"\n", b"\r\n")
