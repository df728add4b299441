"""``ekiden auth explain FILE``: every check tells what it found and why, and how we know."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ekiden.cli import auth_command
from ekiden.cli.main import main
from support.signed_message import HEADER, key_of, sealed, signed
from support.spf_zone import SpfZone

_TOP = (
    b"Return-Path: <bounce@mail.a.test>\r\n"
    b"Received: from h.a.test (h.a.test [192.0.2.1]) by mx.test (Postfix) with ESMTPS id x; date\r\n"
)

Run = Callable[..., dict[str, dict[str, Any]]]


class Zone(SpfZone):
    """In the place of the resolver that asks name servers."""

    async def close(self) -> None:
        pass


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    zone = Zone(
        {
            "mail.a.test": [{"TXT": "v=spf1 include:spf.a.test -all"}],
            "spf.a.test": [{"TXT": "v=spf1 ip4:192.0.2.0/28"}],
            "h.a.test": [{"TXT": "v=spf1 a -all"}, {"A": "192.0.2.1"}],
            "1.2.0.192.in-addr.arpa": [{"PTR": "h.a.test"}],
            "_dmarc.a.test": [{"TXT": "v=DMARC1; p=reject"}],
            "one._domainkey.a.test": [{"TXT": key_of("a.test").record}],
            "a.test": [],
        }
    )
    monkeypatch.setattr(auth_command, "CaresResolver", lambda parameters: zone)
    return zone


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: Zone) -> Run:
    def run(content: bytes, *options: str, settings: str = "") -> dict[str, dict[str, Any]]:
        main_cf = f"queue_directory = {tmp_path}/queue\nmyhostname = mx.test\n"
        (tmp_path / "main.cf").write_text(main_cf + settings)
        (tmp_path / "message").write_bytes(content)
        code = main(["auth", "explain", str(tmp_path / "message"), "--json", *options, "-c", str(tmp_path)])
        assert code == 0, capsys.readouterr().err
        return {step["check"]: step for step in map(json.loads, capsys.readouterr().out.splitlines())}

    return run


def results(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {check: step["result"] for check, step in found.items() if check not in ("message", "server")}


def test_mail_that_is_what_it_says(run: Run) -> None:
    found = run(_TOP + signed(now=1.0))
    assert results(found) == {"iprev": "pass", "spf": "pass", "dkim": "pass", "arc": "none", "dmarc": "pass"}
    assert found["message"]["details"] == {
        "client": "192.0.2.1 (HELO h.a.test), from Received: field 1 from the top",
        "sender": "<bounce@mail.a.test>, from Return-Path:",
    }
    assert found["spf"]["text"] == (
        "the record of spf.a.test has the term ip4:192.0.2.0/28, which matches 192.0.2.1; "
        "the record of mail.a.test includes it"
    )
    assert found["spf"]["details"] == {
        "identity": "MAIL FROM bounce@mail.a.test",
        "record": "v=spf1 include:spf.a.test -all (of mail.a.test)",
        "term": "ip4:192.0.2.0/28 (in the record of spf.a.test)",
        "look-ups": "1 term asks DNS (10 may), 0 of them for what is not there",
    }
    assert found["dkim"]["details"]["key"] == "one._domainkey.a.test: ed25519-sha256, 256 bits"
    assert found["dmarc"]["details"] == {
        "author": "a.test",
        "record": "v=DMARC1; p=reject (of a.test)",
        "SPF": "aligned: it passed for mail.a.test, a.test is the organization",
        "DKIM": "aligned: it passed for a.test, a.test is the organization",
    }


def test_which_part_was_changed(run: Run) -> None:
    message = signed(now=1.0)
    body = run(message.replace(b"One line", b"One Line"), "--client", "198.51.100.1", "--from", "x@b.test")
    assert results(body) == {"iprev": "fail", "spf": "none", "dkim": "fail", "arc": "none", "dmarc": "fail"}
    assert "the body differs from what was signed (relaxed, canonical length 21)" in body["dkim"]["text"]
    assert body["dmarc"]["details"]["asks for"] == "reject: it is to be rejected"
    assert body["dmarc"]["details"]["DKIM"] == "not aligned: it did not pass for a.test"
    header = run(message.replace(b"Subject: hello", b"Subject: Hello"))
    assert "the signature was not made with the key" in header["dkim"]["text"] or "header" in header["dkim"]["text"]
    assert "body" not in header["dkim"]["text"]


def test_what_this_server_would_do(run: Run) -> None:
    """The words are those that the client would hear."""
    good, bad = _TOP + signed(now=1.0), signed(now=1.0).replace(b"One line", b"One Line")
    stranger = ("--client", "198.51.100.1", "--helo", "h.b.test", "--from", "x@mail.a.test")

    def server(content: bytes, *options: str, settings: str = "") -> tuple[str, str, str]:
        found = run(content, *options, settings=settings)["server"]
        return found["result"], found["text"], found["setting"]

    result, text, _ = server(good)
    assert result == "writes"
    assert text.startswith("Authentication-Results: mx.test; ")
    assert "dmarc=pass" in text
    result, text, setting = server(bad, *stranger)
    assert (result, setting) == ("refuses", "dmarc_policy = refuse")
    assert text.startswith("at the end of the content: 550 5.7.26 ")
    result, text, setting = server(good, *stranger, settings="spf_policy = refuse\n")
    assert (result, setting) == ("refuses", "spf_policy = refuse")
    assert text.startswith("at RCPT: 550 5.7.23 ")
    for settings, expected in (
        ("mynetworks = 198.51.100.0/24\n", "mynetworks"),
        ("mynetworks = 127.0.0.1\nauthentication_exempt_clients = 198.51.100.0/24\n", "authentication_exempt_clients"),
        (
            "spf_policy = none\ndmarc_policy = none\ndkim_verification = no\narc_verification = no\n",
            "spf_policy, dmarc_policy ...",
        ),
    ):
        result, _, setting = server(bad, *stranger, settings=settings)
        assert (result, setting) == ("accepts", expected)
    assert server(bad)[0] == ""  # who the client is decides


def test_quarantine_and_mark(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = signed(now=1.0).replace(b"One line", b"One Line")
    stranger = ("--client", "198.51.100.1", "--helo", "h.b.test", "--from", "x@mail.a.test")
    for settings, words in (
        ("dmarc_policy = quarantine\n", "server   marks      X-Spam-Flag: YES"),
        (
            "dmarc_policy = quarantine\ndmarc_quarantine_action = hold\n",
            "server   holds      it is put on hold in the queue",
        ),
        ("dmarc_policy = mark\n", "server   accepts    nothing of this keeps it out"),
    ):
        run(bad, *stranger, settings=settings)
        assert main(["auth", "explain", str(tmp_path / "message"), *stranger, "-c", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert words in out
        assert "because:   " in out
        assert "Authentication-Results: mx.test; " in out


def test_signatures_of_others_do_not_speak_for_the_author(run: Run, zone: Zone) -> None:
    zone.names["one._domainkey.c.test"] = [{"TXT": key_of("c.test").record}]
    found = run(signed("c.test", now=1.0), "--client", "192.0.2.1", "--from", "x@h.a.test")
    assert found["dmarc"]["details"]["DKIM"] == "not aligned: it passed for c.test, which is not what a.test asks for"
    assert results(found)["dmarc"] == "pass"  # by SPF


def test_who_sealed_what_was_changed_before(run: Run, zone: Zone) -> None:
    zone.names["one._domainkey.list.test"] = [{"TXT": key_of("list.test").record}]
    message = sealed(signed(now=1.0).replace(b"Another.", b"Another.\r\n-- \r\nA list"), "list.test", now=1.0)
    found = run(message)
    assert results(found) == {"spf": "none", "dkim": "fail", "arc": "pass", "dmarc": "fail"}
    assert found["arc"]["details"]["sealed by"] == "list.test"
    assert results(run(message + b"more\r\n"))["arc"] == "fail"


def test_a_signature_of_the_beginning_of_the_body_says_so(run: Run) -> None:
    field = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.test; s=one; h=from; l=5; bh=" + b"A" * 43 + b"=; b=eA==\r\n"
    found = run(field + HEADER + b"\r\nOne line.\r\n")
    assert found["dkim"]["details"]["body"] == "only the first 5 octets are signed (l=): anybody can add to it"


def test_without_a_client_spf_has_nothing_to_go_by(run: Run) -> None:
    found = run(signed(now=1.0))
    assert results(found) == {"spf": "none", "dkim": "pass", "arc": "none", "dmarc": "pass"}
    assert found["message"]["details"] == {"client": "unknown", "sender": "unknown, taken as <>"}
    assert "--client" in found["spf"]["text"]


def test_options_come_before_what_the_header_tells(run: Run) -> None:
    found = run(_TOP + signed(now=1.0), "--client", "2001:DB8::1", "--helo", "h.a.test", "--from", "<>")
    assert found["message"]["details"] == {
        "client": "2001:db8::1 (HELO h.a.test), from --client, --helo",
        "sender": "<>, from --from",
    }
    assert found["spf"]["details"]["identity"] == "MAIL FROM postmaster@h.a.test"
    assert results(found)["spf"] == "fail"


def test_files_as_they_lie_about(run: Run) -> None:
    """From an mbox, with the line ends of Unix, without an empty line."""
    message = signed(now=1.0)
    assert results(run(b"From x@y.test Sun Nov 29 12:00:00 2026\n" + message.replace(b"\r\n", b"\n")))["dkim"] == "pass"
    assert results(run(HEADER))["dkim"] == "none"
    assert results(run(b"")) == {"spf": "none", "dkim": "none", "arc": "none", "dmarc": "none"}


def test_trouble_of_dns_is_no_failure(run: Run, zone: Zone) -> None:
    for name in list(zone.names):
        zone.names[name] = ["TIMEOUT"]
    found = run(_TOP + signed(now=1.0))
    assert {step for check, step in results(found).items() if check != "arc"} == {"temperror"}


def test_the_plain_form_cannot_drive_a_terminal(
    run: Run, zone: Zone, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(b"")
    zone.names["_dmarc.a.test"] = [{"TXT": "v=DMARC1; p=none; x=\x1b[2J\r\nspf pass"}]
    content = b"Return-Path: <\x1b[31m@mail.a.test>\r\n" + _TOP.partition(b"\r\n")[2] + signed(now=1.0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["auth", "explain", "-", "-c", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "] == [
        *("message", "iprev", "spf", "spf", "dkim", "arc", "dmarc", "server", "server")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["4jXkKq6l5Kz0"], os.EX_NOINPUT, "neither a file nor a message in the queue"),
        (["."], os.EX_NOINPUT, "Is a directory"),
        (["-", "--client", "h.test"], os.EX_USAGE, "not an IP address"),
    ],
)
def test_what_cannot_be_examined(
    arguments: list[str],
    code: int,
    words: str,
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["auth", "explain", *arguments, "-c", str(tmp_path)]) == code
    assert words in capsys.readouterr().err
