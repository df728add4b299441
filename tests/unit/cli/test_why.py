"""``ekiden why``: each step names the setting or the line of a table that is the reason for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ekiden.cli.main import main

MAIN_CF = """\
myhostname = mx.here.example
mydestination = $myhostname, here.example
virtual_alias_domains = v.example
virtual_alias_maps = hash:@/virtual
transport_maps = regexp:@/patterns, hash:@/transport
alias_maps = hash:@/aliases
relay_domains = relayed.example
relayhost = [192.0.2.25]:2501
sender_dependent_relayhost_maps = inline:{ boss@here.example=[192.0.2.26] }
defer_transports = slow
canonical_maps = hash:@/canonical
smtp_host_lookup = native
smtp_tls_policy_maps = inline:{ { [192.0.2.25]:2501 = encrypt } }
"""
FILES = {
    "virtual": "info@v.example  alice@here.example,\n  x@there.example\n",
    "patterns": "/^list-.*@far\\.example$/  discard:\n",
    "transport": "# comment\nfar.example  error:5.1.2 nobody\nslow.example  slow:[192.0.2.27]\n"
    "gone.example  nothing:\n",
    "aliases": "alice: root, bob@there.example\n",
    "canonical": "old@here.example  alice@here.example\n",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text(MAIN_CF.replace("@", str(tmp_path), 0).replace(":@", f":{tmp_path}"))
    (tmp_path / "master.cf").write_text("127.0.0.1:25 inet n - n - - smtpd\nslow unix - - n - - smtp\n")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def why(directory: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[tuple[str, str, str]]]:
    """The exit code, and for each step its kind, its text and its reason (setting and place)."""
    code = main(["why", *words, "--json", "-c", str(directory)])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    places = [step["place"].removeprefix(f"{directory}/") for step in found]
    return code, [
        (step["kind"], step["text"], f"{step['setting']} {place}".strip())
        for step, place in zip(found, places, strict=True)
    ]


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (
            ("info@v.example", "--from", "a@b.example", "--client", "192.0.2.1"),
            os.EX_OK,
            [
                ("access", "the client 192.0.2.1 is a stranger", "mynetworks"),
                ("access", "RCPT TO <info@v.example> is accepted", "virtual_alias_maps virtual:1"),
                ("rewrite", "info@v.example -> alice@here.example,  x@there.example", "virtual_alias_maps virtual:1"),
                ("recipient", "goes to alice@here.example", ""),
                ("recipient", "goes to x@there.example", ""),
                ("class", "here.example is a local domain", "mydestination main.cf:2"),
                ("route", "transport local, next hop mx.here.example", "local_transport"),
                ("alias", "alice: root, bob@there.example", "alias_maps aliases:1"),
                ("class", "there.example is no domain of this host", ""),
                ("route", "transport smtp, next hop [192.0.2.25]:2501", "relayhost main.cf:8"),
                ("host", "1. 192.0.2.25[192.0.2.25]:2501", ""),
                ("tls", "TLS, with any certificate", "smtp_tls_policy_maps main.cf:13"),
            ],
        ),
        (
            ("u@no.example", "--client", "192.0.2.1"),
            os.EX_UNAVAILABLE,
            [("refused", "RCPT TO gets 554 5.7.1 <u@no.example>: Relay access denied", "relay_domains main.cf:7")],
        ),
        (
            ("nobody-here@here.example", "--client", "127.0.0.1"),
            os.EX_UNAVAILABLE,
            [("access", "the client 127.0.0.1 may send anywhere", "mynetworks")],
        ),
        (("u@far.example",), os.EX_UNAVAILABLE, [("refused", "error: 5.1.2 nobody", "transport_maps transport:2")]),
        (
            ("list-x@far.example",),
            os.EX_OK,
            [("route", "transport discard, next hop far.example", "transport_maps patterns:1")],
        ),
        (
            ("u@slow.example",),
            os.EX_OK,
            [
                ("route", "transport slow, next hop [192.0.2.27]", "transport_maps transport:3"),
                (
                    "route",
                    "the transport slow is not served now: its mail waits for a flush",
                    "defer_transports main.cf:10",
                ),
            ],
        ),
        (
            ("u@gone.example",),
            os.EX_TEMPFAIL,
            [("trouble", "master.cf has no service nothing: its mail waits", "")],
        ),
        (
            ("u@there.example", "--from", "boss@here.example"),
            os.EX_OK,
            [
                ("route", "transport smtp, next hop [192.0.2.26]", "sender_dependent_relayhost_maps main.cf:9"),
                ("tls", "TLS if the server offers it, with any certificate", "smtp_tls_security_level"),
            ],
        ),
        (
            ("old",),
            os.EX_OK,
            [
                ("rewrite", "old is completed to old@mx.here.example", "append_at_myorigin"),
                ("recipient", "goes to old@mx.here.example", ""),
            ],
        ),
        (
            ("old@here.example",),
            os.EX_OK,
            [("rewrite", "old@here.example -> alice@here.example", "canonical_maps canonical:1")],
        ),
        (
            ("u@relayed.example", "--client", "192.0.2.1", "--helo", "mail.example"),
            os.EX_OK,
            [("access", "the name mail.example that it gives itself decides nothing", "")],
        ),
    ],
)
def test_the_steps_have_their_reasons(
    words: tuple[str, ...],
    code: int,
    wanted: list[tuple[str, str, str]],
    directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found_code, found = why(directory, capsys, *words)
    assert [step for step in wanted if step not in found] == [], found
    assert [step for step in found if step in wanted] == wanted
    assert found_code == code


def test_a_content_filter_comes_first(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (directory / "main.cf").open("a") as file:
        file.write("content_filter = smtp:[192.0.2.28]:10024\n")
    _, found = why(directory, capsys, "u@there.example")
    text = "first to the content filter: transport smtp, next hop [192.0.2.28]:10024"
    assert ("filter", text, "content_filter main.cf:14") in found
    assert not any(kind == "route" for kind, _, _ in found)


def test_a_table_that_fails_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "virtual").unlink()
    code, found = why(directory, capsys, "u@there.example")
    assert code == os.EX_TEMPFAIL
    assert found[-1][0] in ("trouble", "refused")
    assert str(directory / "virtual") in found[-1][1]


def test_for_people_it_is_a_page(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "u@there.example", "-c", str(directory)]) == os.EX_OK
    page = capsys.readouterr().out
    assert "\nu@there.example\n  class     there.example is no domain of this host\n" in page
    assert f"[relayhost, {directory}/main.cf:8]" in page


def test_what_is_no_address_is_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "a b@@", "-c", str(directory)]) == os.EX_USAGE
    assert "'a b@@' is not an address" in capsys.readouterr().err
