"""saslauthd's protocol, what a configuration of Cyrus SASL says, and a server that a script plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.protocol.saslauthd import parse_reply, request
from ekiden.sasl.accounts import AccountTrouble, Outcome, Verdict
from ekiden.sasl.cyrus_configuration import CyrusConfiguration, parse_cyrus_configuration, read_cyrus_configuration
from ekiden.sasl.login_source import open_login_source
from ekiden.sasl.saslauthd_place import SaslauthdPlace
from support.accounts import account_list, add_account, cheap_hashing
from support.fake_clock import FakeClock
from support.honours import honours


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


def test_a_request_is_four_counted_strings() -> None:
    assert request("anna", "pä", "smtp", "example.com") == b"\0\x04anna\0\x03p\xc3\xa4\0\x04smtp\0\x0bexample.com"
    assert request("a", "", "smtp") == b"\0\x01a\0\0\0\x04smtp\0\0"
    for text in ("x" * 257, "a\0b"):
        with pytest.raises(ValueError, match=r"longer|NUL"):
            request("anna", text, "smtp")


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"\0\x02OK", ((True, ""), 4)),
        (b"\0\x02NO", ((False, ""), 4)),
        (b"\0\x08NO wrong", ((False, "wrong"), 10)),
        (b"\0\x03OK\0", ((True, ""), 5)),
        (b"\0\x02OKmore", ((True, ""), 4)),
        (b"", None),
        (b"\0", None),
        (b"\0\x05OK", None),
    ],
)
def test_a_reply_is_one_counted_string(data: bytes, reply: object) -> None:
    assert parse_reply(data) == reply


@pytest.mark.parametrize("data", [b"\0\0", b"\0\x01O", b"\0\x05OKAY!", b"\0\x02ok", b"\0\x03YES"])
def test_what_is_neither_yes_nor_no_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_reply(data)


async def served(path: Path, answer: Callable[[bytes], bytes], scene: Callable[[], Awaitable[None]]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(65536)
        writer.write(answer(asked))
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        await scene()
    finally:
        server.close()


def test_the_realm_is_what_follows_the_at(tmp_path: Path) -> None:
    place = SaslauthdPlace(str(tmp_path / "mux"), 5)
    asked: list[bytes] = []

    def answer(question: bytes) -> bytes:
        asked.append(question)
        return b"\0\x02OK" if b"secret" in question else b"\0\x08NO wrong"

    async def scene() -> None:
        assert await place.verify("anna@example.com", "secret") == Verdict(Outcome.OK, "anna@example.com")
        verdict = await place.verify("anna", "x")
        assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, "saslauthd: wrong")
        assert (await place.verify("anna", "x" * 2000)).outcome is Outcome.WRONG
        assert asked == [b"\0\x04anna\0\x06secret\0\x04smtp\0\x0bexample.com", b"\0\x04anna\0\x01x\0\x04smtp\0\0"]

    asyncio.run(served(tmp_path / "mux", answer, scene))


@pytest.mark.parametrize("reply", [b"", b"\0", b"\0\x05OKAY!", b"\xff\xff" + b"O" * 70_000])
def test_a_server_that_fails_is_trouble(tmp_path: Path, reply: bytes) -> None:
    async def scene() -> None:
        with pytest.raises(AccountTrouble, match=r"\Asaslauthd: "):
            await SaslauthdPlace(str(tmp_path / "mux"), 5).verify("anna", "x")

    asyncio.run(served(tmp_path / "mux", lambda _: reply, scene))


@honours("smtpd_sasl_path")
def test_one_that_is_not_there_is_a_temporary_error(tmp_path: Path) -> None:
    accounts = account_list(tmp_path, sasl_accounts=f"saslauthd:{tmp_path}/mux")
    assert asyncio.run(accounts.verify("anna", "x")).outcome is Outcome.UNAVAILABLE


# --- smtpd.conf


@honours("cyrus_sasl_config_path", "smtpd_sasl_path", "smtpd_sasl_type")
def test_the_file_of_cyrus_sasl_says_which_socket_and_which_mechanisms(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    second.mkdir()
    (second / "submit.conf").write_text(
        "# of Debian\n\npwcheck_method: saslauthd\nmech_list:  plain LOGIN\n"
        f"saslauthd_path: {tmp_path}/mux\nlog_level: 3\n"
    )
    settings = {
        "smtpd_sasl_type": "cyrus", "smtpd_sasl_path": "submit", "cyrus_sasl_config_path": f"{first}:{second}",
        "config_directory": str(tmp_path),
    }  # fmt: skip
    source = open_login_source(Parameters(settings), FakeClock())
    assert source.accounts is not None
    assert [place.name for place in source.accounts.places] == [f"saslauthd:{tmp_path}/mux"]
    assert source.mechanisms == {"PLAIN", "LOGIN"}
    # Without such a file they are our own accounts.
    source = open_login_source(Parameters(settings | {"smtpd_sasl_path": "smtpd"}), FakeClock())
    assert source.accounts is not None
    assert [place.name for place in source.accounts.places] == [f"file:{tmp_path}/accounts"]
    source = open_login_source(Parameters(settings | {"smtpd_sasl_type": "ekiden"}), FakeClock())
    assert source.accounts is not None
    assert [place.name for place in source.accounts.places] == [f"file:{tmp_path}/accounts"]


def test_defaults() -> None:
    found = parse_cyrus_configuration("pwcheck_method: saslauthd auxprop\n", "smtpd.conf")
    assert found == CyrusConfiguration("smtpd.conf", "/var/run/saslauthd/mux")
    assert read_cyrus_configuration("smtpd", ["/nonexistent"]) is None


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 0, "pwcheck_method: auxprop (sasldb2) is not supported"),
        ("\npwcheck_method: auxprop\nauxprop_plugin: sasldb\n", 2, "auxprop (sasldb2) is not supported"),
        ("pwcheck_method: alwaystrue", 1, "alwaystrue is not supported"),
        ("pwcheck_method saslauthd", 1, "name: value"),
        ("pwcheck_method: saslauthd\nsaslauthd_path: mux", 2, "full path"),
    ],
)
def test_what_is_not_supported_is_told_with_its_line(text: str, line: int, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cyrus_configuration(text, "smtpd.conf")
    assert told in caught.value.text
    assert (caught.value.file, caught.value.line) == ("smtpd.conf", line)


@pytest.mark.parametrize("name", ["", "../x", "/etc/sasl2/smtpd", ".hidden"])
def test_a_name_of_a_file_is_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="smtpd_sasl_path"):
        read_cyrus_configuration(name)


def test_an_account_in_the_file_before_saslauthd_needs_no_saslauthd(tmp_path: Path) -> None:
    add_account(tmp_path / "accounts", "anna", "secret-1")
    accounts = account_list(
        tmp_path, sasl_accounts=f"file:{tmp_path}/accounts saslauthd:{tmp_path}/mux", sasl_server_timeout="1s"
    )
    assert asyncio.run(accounts.verify("anna", "secret-1")).accepted
    assert asyncio.run(accounts.verify("anna", "x")).outcome is Outcome.WRONG
    assert asyncio.run(accounts.verify("bert", "x")).outcome is Outcome.UNAVAILABLE
