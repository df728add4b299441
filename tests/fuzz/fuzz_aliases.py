"""Any text is a list of targets or a told problem; what it means survives the way between processes; no exception."""

from __future__ import annotations

from ekiden.deliver.targets import MailTo, Special, pack_targets, parse_target_file, parse_targets, unpack_targets

SEEDS = [
    b"bob\n",
    b'"a b"@x.example, \\tom\n\t, "|cmd \\"x\\", y"\n',
    b":include:/etc/list, /var/mail/x, |/bin/cat -n, eve\n# comment\n  # another\n",
    b'"b\nc d\n: x\n  orphan, y\n again <a@b.example\n',
    "ä@x.example, \u00a5sakura\n".encode(),
    b'""@x.example, "A B" <c@d.example>, ~/Mail/\n',
]


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    found = parse_target_file(text)
    assert unpack_targets(pack_targets(found.targets)) == found.targets
    try:
        found_too = parse_targets(text)
    except ValueError:
        return
    for target in (*found.targets, *found_too):
        if isinstance(target, MailTo):
            assert target.address.local
        else:
            assert isinstance(target, Special)
            assert target.argument
            assert "\0" not in target.argument
            assert "\n" not in target.argument
