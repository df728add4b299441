"""The client dialogues of Exim's test suite, played against our server: exim_clients.toml says what becomes of each."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.exim_scripts import Dialogue, dialogues
from support.requirements import ROOT, require_conformance
from support.running import free_port, running_server
from support.smtp_socket import SmtpSocket

DATA = tomllib.loads(Path(__file__).with_name("exim_clients.toml").read_text("utf-8"))
ROWS: dict[str, dict[str, Any]] = DATA["dialogue"]
WORLD = {
    "myhostname": "mx.test.ex",
    "relay_domains": "test.ex reject.ex",
    # Those that Exim's configurations refuse.
    "relay_recipient_maps": r"regexp:{{!/^((quota|route)_fail@test\.ex|.*@reject\.ex)$$/ ok}}",
    "relay_transport": "discard:",
    "default_transport": "discard:",
    "smtpd_peername_lookup": "no",
    "smtpd_soft_error_limit": "100",
}
_WORDS = ((b"HOSTIPV4", b"127.0.0.1"), (b"CALLER", b"caller"), (b"HOSTNAME", b"mx.test.ex"), (b"V4NET", b"10"))


@cache
def found() -> dict[str, Dialogue]:
    folder = ROOT.parent / "shared" / "conformance" / "smtp" / "exim" / "scripts"
    return {each.name: each for each in dialogues(folder) if each.is_client} if folder.exists() else {}


PLAYED = [name for name in found() if "not" not in ROWS.get(name, {})]


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """A listener for each set of settings; "stranger" is one of a server that knows nobody."""
    ports = {name: free_port() for name in DATA["settings"] if name != "stranger"}
    lines = [
        f"127.0.0.1:{port} inet n - n - - smtpd "
        + " ".join(f"-o {name}={value}" for name, value in DATA["settings"][of].items())
        for of, port in ports.items()
    ]
    stranger = {"mynetworks": "192.0.2.1/32", "relay_domains": "", **DATA["settings"]["stranger"]}
    trusting = {**WORLD, "mynetworks": "127.0.0.0/8"}
    with (
        running_server(main_cf=trusting, master_cf=lines) as usual,
        running_server(main_cf={**WORLD, **stranger}) as other,
    ):
        yield {"usual": usual.port, "stranger": other.port, **ports}
        for server in (usual, other):
            assert "Traceback" not in server.output + server.log
            assert "internal error" not in server.log


def test_every_dialogue_is_played_or_has_a_reason() -> None:
    require_conformance("smtp", "exim", "scripts")
    assert len(found()) == 115
    assert not set(ROWS) - set(found()), "rows of dialogues that are not there"
    left_out = {name: row["not"] for name, row in ROWS.items() if "not" in row}
    assert all(left_out.values())
    for name, row in ROWS.items():
        assert "not" in row or not ({"ours", "until"} & set(row)) or row["why"], name
        assert row.get("settings", "usual") in {"usual", *DATA["settings"]}, name
    print(f"{len(PLAYED)} of {len(found())} client dialogues of Exim are played, {len(left_out)} are not:")
    for name, reason in left_out.items():
        print(f"  {name}: {reason}")
    assert len(PLAYED) == len(found()) - len(left_out)


@pytest.mark.parametrize("name", PLAYED)
def test_the_server_gives_the_codes_of_the_dialogue(name: str, ports: dict[str, int]) -> None:
    dialogue, row = found()[name], ROWS.get(name, {})
    ours = {int(line): code for line, code in row.get("ours", {}).items()}
    talk: list[str] = []
    differs = set(ours)
    with SmtpSocket(ports[row.get("settings", "usual")]) as client:
        waiting = b""
        for step in dialogue.steps:
            if step.line > row.get("until", step.line):
                break
            if step.kind == "say":
                waiting += step.data
            if step.kind != "reply" or ours.get(step.line) == "":
                differs.discard(step.line)
                continue
            if waiting:
                for word, value in _WORDS:
                    waiting = waiting.replace(word, value)
                talk.append(f"C {waiting!r:.300}")
                client.send(waiting)
                waiting = b""
            answer = client.hear()
            talk.append(f"S {answer}")
            expected = ours.get(step.line, step.text)
            differs.discard(step.line)
            assert answer.startswith(expected or "2"), f"{name}, line {step.line}, {expected}:\n" + "\n".join(talk[-8:])
            assert step.line not in ours or not step.text or not answer.startswith(step.text), (name, step.line)
    assert not differs, "lines of the row at which no reply is expected"
