"""Any text is an alias file whose lines are entries or told problems; every entry leads somewhere; no exception."""

from __future__ import annotations

from ekiden.deliver.aliases import MailTo, parse_aliases

SEEDS = [
    b"root: bob\n",
    b'"odd name" : "a b"@x.example, \\tom\n\t, "|cmd \\"x\\", y"\n',
    b"list: :include:/etc/list, /var/mail/x, |/bin/cat\n# comment\n  # another\n",
    b'a: "b\nb: c d\n: x\n  orphan: y\na: again\n',
    "bücher: ä@x.example\n".encode(),
    b'nobody: ""@x.example\n',
]


def one_input(data: bytes) -> None:
    found = parse_aliases(data.decode("utf-8", "surrogateescape"))
    assert not found.entries.keys() & found.broken.keys()
    for name, targets in found.entries.items():
        assert name
        assert targets
        for target in targets:
            assert target.address.local if isinstance(target, MailTo) else target.text
