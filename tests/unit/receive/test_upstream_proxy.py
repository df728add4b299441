"""A listener behind a proxy: the client of the PROXY header is the one that everything is decided for."""

from __future__ import annotations

import contextlib

import pytest

from ekiden.observe.events import Connected, Note, Rejected
from support.honours import honours
from support.smtp_session import Talk, World, play

BEHIND = {"smtpd_upstream_proxy_protocol": "haproxy", "smtpd_upstream_proxy_clients": "127.0.0.0/8"}
TRUSTED = b"PROXY TCP4 192.0.2.7 198.51.100.25 56324 25\r\n"  # one of mynetworks
STRANGER = b"PROXY TCP4 203.0.113.9 198.51.100.25 56324 25\r\n"
V2_STRANGER = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\xc6\x33\x64\x19\xdc\x04\x00\x19"
V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


def warnings(world: World) -> list[str]:
    return [event.text for event in world.events if isinstance(event, Note) and event.level == "warning"]


@honours("smtpd_upstream_proxy_protocol")
@pytest.mark.parametrize(
    ("header", "client", "answer"),
    [
        (TRUSTED, "unknown[192.0.2.7]", "250 2.1.5 Ok"),
        (STRANGER, "unknown[203.0.113.9]", "554 5.7.1 <u@elsewhere.example>: Relay access denied"),
        (V2_STRANGER, "unknown[203.0.113.9]", "554 5.7.1 <u@elsewhere.example>: Relay access denied"),
        (V2_LOCAL, "unknown[127.0.0.1]", "554 5.7.1 <u@elsewhere.example>: Relay access denied"),
        (b"PROXY UNKNOWN\r\n", "unknown[127.0.0.1]", "554 5.7.1 <u@elsewhere.example>: Relay access denied"),
    ],
)
def test_the_client_of_the_header_is_who_may_relay_and_who_is_logged(header: bytes, client: str, answer: str) -> None:
    async def talk(client: Talk) -> None:
        client.writer.write(header)
        assert (await client.reply()).startswith("220 ")
        await client.say("EHLO client.example")
        assert await client.envelope("u@elsewhere.example") == [answer]

    world = play(World(**BEHIND), talk)
    assert [str(event.client) for event in world.events if isinstance(event, Connected)] == [client]
    assert all(str(event.client) == client for event in world.events if isinstance(event, Rejected))
    assert not warnings(world)


@honours("smtpd_client_connection_rate_limit")
def test_limits_count_the_client_and_not_the_proxy() -> None:
    world = World(**BEHIND, smtpd_client_connection_rate_limit="1", smtpd_client_event_limit_exceptions="")
    banners = []
    for header in (STRANGER, STRANGER, b"PROXY TCP4 203.0.113.10 198.51.100.25 1 25\r\n"):

        async def talk(client: Talk, header: bytes = header) -> None:
            client.writer.write(header)
            banners.append((await client.reply())[:3])

        play(world, talk)
    assert banners == ["220", "421", "220"]


def test_what_comes_in_one_packet_with_the_header_is_the_client_s() -> None:
    async def talk(client: Talk) -> None:
        client.writer.write(STRANGER + b"QUIT\r\n")
        assert (await client.reply()).startswith("220 ")
        assert (await client.reply()).startswith("221 ")

    play(World(**BEHIND, smtpd_forbid_unauth_pipelining="no"), talk)


def test_a_header_may_come_byte_by_byte() -> None:
    async def talk(client: Talk) -> None:
        for byte in STRANGER:
            client.writer.write(bytes((byte,)))
            await client.writer.drain()
        assert (await client.reply()).startswith("220 ")

    world = play(World(**BEHIND), talk)
    assert [str(event.client) for event in world.events if isinstance(event, Connected)] == ["unknown[203.0.113.9]"]


@pytest.mark.parametrize(
    ("bytes_", "why"),
    [
        (b"EHLO client.example\r\n", "no PROXY header"),
        (b"\x16\x03\x01\x02\x00", "no PROXY header"),
        (b"PROXY TCP4 192.0.2.7 1.2.3 1 2\r\n", "the PROXY header is malformed"),
        (b"PROXY TCP4 " + b"1" * 1_000_000, "the PROXY header is too long"),  # nodemailer/smtp-server#262
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + b"x" * 100_000, "the PROXY header is too long"),
        (
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + bytes(216),
            "the PROXY header is for a protocol that is not TCP over IP",
        ),
    ],
)
def test_a_connection_without_a_good_header_is_dropped_and_logged(bytes_: bytes, why: str) -> None:
    async def talk(client: Talk) -> None:
        client.writer.write(bytes_)
        with contextlib.suppress(ConnectionResetError):  # the rest of what was sent met a closed socket
            assert await client.reader.read() == b""

    world = play(World(**BEHIND), talk)
    assert [text.partition(": ")[2] for text in warnings(world)] == [why]
    assert not any(isinstance(event, Connected) for event in world.events)
    assert world.service.sessions == 0


@honours("smtpd_upstream_proxy_timeout")
def test_a_silent_proxy_is_dropped_in_time() -> None:
    async def talk(client: Talk) -> None:
        client.writer.write(STRANGER[:20])
        assert await client.reader.read() == b""

    world = play(World(**BEHIND, smtpd_upstream_proxy_timeout="1s"), talk, watch_interval_s=0.05)
    assert "no PROXY header within smtpd_upstream_proxy_timeout" in warnings(world)[0]


@honours("smtpd_upstream_proxy_clients")
def test_a_header_of_somebody_else_is_not_believed() -> None:
    async def talk(client: Talk) -> None:
        client.writer.write(TRUSTED)
        with contextlib.suppress(ConnectionResetError):
            assert await client.reader.read() == b""

    # By default only mynetworks are proxies: to forge an address one would have to be trusted already.
    world = play(World(smtpd_upstream_proxy_protocol="haproxy"), talk)
    assert "not one of smtpd_upstream_proxy_clients" in warnings(world)[0]


@honours("smtpd_upstream_proxy_header_limit")
@pytest.mark.parametrize(("limit", "fits"), [("216", False), ("1000", True)])
def test_how_much_a_header_of_version_2_may_hold(limit: str, fits: bool) -> None:
    async def talk(client: Talk) -> None:
        client.writer.write(V2_STRANGER[:14] + b"\x01\x00" + V2_STRANGER[16:] + bytes(256 - 12))
        try:
            assert bool(await client.reader.read(3)) is fits
        except ConnectionResetError:
            assert not fits

    play(World(**BEHIND, smtpd_upstream_proxy_header_limit=limit), talk)


def test_a_header_on_an_ordinary_listener_is_no_command() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        client.writer.write(TRUSTED)
        assert await client.reply() == "500 5.5.2 Error: command not recognized"
        client.writer.write(b"EHLO x\r\n")
        await client.reply()
        assert (await client.envelope("u@elsewhere.example"))[0].startswith("554 ")

    play(World(), talk)
