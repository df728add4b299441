"""Every dialog of tests/dialogs/smtp against the bare server core, whole and byte by byte."""

from __future__ import annotations

import pytest

from support.dialogs import CorePeer, Dialog, DialogError, Mismatch, load_dialogs, parse_dialog, play

DIALOGS = load_dialogs("smtp")


@pytest.mark.parametrize("chunk", [0, 1, 7], ids=["whole", "bytewise", "by-seven"])
@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)
def test_the_core_holds_the_dialog(dialog: Dialog, chunk: int) -> None:
    # What arrives too early is too early only as long as the rest has come too.
    early = dialog.settings.get("smtpd_forbid_unauth_pipelining") == "yes"
    peer = CorePeer(dialog.settings, chunk=0 if early else chunk)
    said = play(dialog, peer.send, peer.receive)
    assert not peer.unheard, "\n".join([f"{dialog.name}: the server said more:", *said, repr(peer.unheard)])


def test_there_are_dialogs_and_each_says_what_it_shows() -> None:
    assert len(DIALOGS) >= 30
    assert [dialog.name for dialog in DIALOGS if not dialog.title] == []


def test_escapes_groups_and_settings_are_read() -> None:
    lines = (
        "# title",
        "setting: message_size_limit = 10",
        "honours: message_size_limit",
        r"C: a\x00\{xy*3}\\",
        r"C!: raw\r",
        "S: 250-*",
        "S: 250 ok",
        "C:",
        "S: <closed>",
    )
    dialog = parse_dialog("\n".join(lines), "t")
    assert dialog.title == "title"
    assert dialog.settings == {"message_size_limit": "10"}
    assert dialog.honours == ("message_size_limit",)
    assert [step.send for step in dialog.steps] == [b"a\0xyxyxy\\\r\nraw\r", b"\r\n"]
    assert dialog.steps[0].expect == ((6, "250-*"), (7, "250 ok"))


@pytest.mark.parametrize(
    "text", ["", "# only a comment", "X: what", "C:no space", "setting: nothing", "honours: smtpd_timeout\nC: NOOP"]
)
def test_a_bad_file_is_named(text: str) -> None:
    with pytest.raises(DialogError, match=r"t\.dlg"):
        parse_dialog(text, "t")


def test_a_departure_is_reported_with_its_line() -> None:
    dialog = parse_dialog("# title\nC: NOOP\nS: 250 2.0.0 *\nC: QUIT\nS: 250 *\n", "t")
    peer = CorePeer({})
    with pytest.raises(Mismatch, match=r"t\.dlg:5: expected '250 \*'"):
        play(dialog, peer.send, peer.receive)
