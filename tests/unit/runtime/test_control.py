"""Messages between the supervisor and its children."""

import os
import socket

import pytest

from ekiden.runtime import control
from ekiden.runtime.control import (
    AddListeners,
    AddPeer,
    ControlTrouble,
    Failed,
    ListenerKey,
    Ready,
    Reload,
    RemoveListeners,
    Stop,
)


@pytest.mark.parametrize(
    "message",
    [
        Reload(),
        Stop(2.5),
        Ready(),
        Failed("no"),
        AddPeer("worker-1"),
        RemoveListeners((ListenerKey("smtp/inet", "::1", 25),)),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: control.AnyMessage) -> None:
    here, there = control.pair()
    with here, there:
        control.send(here, message)
        assert control.receive(there) == (message, [])


def test_descriptors_travel_beside_a_message() -> None:
    here, there = control.pair()
    reader, writer = os.pipe()
    with here, there:
        message = AddListeners((ListenerKey("smtp/inet", "127.0.0.1", 25), ListenerKey("smtp/inet", "::1", 25)))
        control.send(here, message, [reader, writer])
        os.close(reader)
        os.close(writer)
        received = control.receive(there)
        assert received is not None
        assert received[0] == message
        reader, writer = received[1]
        assert not os.get_inheritable(reader)
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
        control.close_all(received[1])


def test_a_closed_peer_is_none_and_refuses_messages() -> None:
    here, there = control.pair()
    with here:
        there.close()
        assert control.receive(here) is None
        with pytest.raises(OSError, match="Broken pipe"):
            control.send(here, Ready())


def test_the_last_words_of_a_peer_that_did_not_read_all_are_heard() -> None:
    here, there = control.pair()
    with here:
        control.send(here, Reload())
        control.send(there, Failed("a bug"))
        there.close()
        assert control.receive(here) == (Failed("a bug"), [])
        assert control.receive(here) is None


def test_a_peer_that_does_not_read_never_blocks_the_sender() -> None:
    here, there = control.pair()

    def flood() -> None:
        for _ in range(100_000):
            control.send(here, Ready())

    with here, there, pytest.raises(BlockingIOError):
        flood()


@pytest.mark.parametrize("packet", [b"\xff", b"\x80", b"\x81\xa4type\xa3who"])
def test_what_is_not_a_message_is_trouble(packet: bytes) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        here.send(packet)
        with pytest.raises(ControlTrouble):
            control.receive(there)


def test_a_listener_key_shows_its_address() -> None:
    assert str(ListenerKey("smtp/inet", "::1", 25)) == "[::1]:25"
    assert str(ListenerKey("smtp/inet", "127.0.0.1", 2525)) == "127.0.0.1:2525"
    assert str(ListenerKey("x/unix", "/run/x")) == "/run/x"
