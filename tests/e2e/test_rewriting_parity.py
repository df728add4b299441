"""Hard addresses and headers: a real Postfix and Ekiden's cleanup make the same of them.

Postfix writes a field anew when it changes an address in it; Ekiden replaces the address. So white space between words
is not compared, and a comment stays before the address that it stood before.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Mapping

import pytest

from ekiden.cleanup.cleanup import Addressed, Arrival
from ekiden.cleanup.way import HeaderSource, Way
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.envelope import Recipient
from ekiden.protocol.smtp.path import parse_mailbox
from support.cleanup import cleanup_for
from support.recording_sink import Received, recording_sink
from support.relaying_postfix import relaying_postfix

FIELDS = [
    "user", "user@host", "user@host.test", "host!user", "a!b!c", "user%host", "user%host@here", "user%a%b", "x!y%z",
    "a%b!c", "x!y@z", "<@a,@b:user@c>", "@a:user", '"quoted user"@host', '"quoted user"', '"user@host"',
    "quoted\\ user@x.test", 'group: a, b@c, "d e"@f;, last', "undisclosed-recipients:;", "Joe <joe>",
    '"Joe, Jr" <joe> (comment)', "joe (my name)", "joe(c2)@(c3)host(c4)", "=?utf-8?q?J=C3=B6?= <joe>",
    "user@", "user@.", "user@host.", "user@host.test.", "user@host..", "user@[1.2.3.4]", "<>", "a b", "a b@c",
    "a@b c@d", "<a> <b>", "a:b;, c", "user  @  host", "Jöe <joe>", "joe@host, plain@host.test", "a|b",
    "long <aaaa>,\r\n\tlonger <bbbb>,\r\n   longest (c) <cccc@x.test>", "foo@bar (unclosed",
    "root", "Root@deep.sub.m.test", "u@deep.m.test", "u@a.no.m.test", "loc", "loc+e@mx.here.test", "a@x.test",
    "p+e@y.test, u+e@x.test (both)", "bare@x.test", "l1@x.test",
]  # fmt: skip
PATHS = [
    "<user>", "<user@host>", "<host!user>", "<a!b!c>", "<user%host>", '<"a b!c">', '<"quoted user"@host>',
    "<user@host.test.>",
    "<loc>", "<a@x.test>", "<p+e@y.test>", "<u@deep.m.test>", "<root@deep.m.test>", "<all@x.test>", "<ext+foo@x.test>",
]  # fmt: skip
HEADERS = [
    "", "From: joe\r\n", "Date: x\r\nMessage-Id: <y>\r\n", "Resent-From: a@b.test\r\n", "resent-to: u\r\n",
    "Bcc: secret@x.test,\r\n folded\r\nReturn-Path: <x>\r\nContent-Length: 3\r\nTo: a@b.test\r\n", "Cc:\r\n",
    "From foo@bar Thu\r\nSubject: x\r\n", "Subject : x\r\nTo : joe\r\nFROM: joe\r\n", "X: y\r\n : z\r\n",
    *[
        f"{name}: a@x.test\r\n"
        for name in (
            "Sender", "Reply-To", "Apparently-To", "Errors-To", "Return-Receipt-To", "Disposition-Notification-To",
            "Mail-Followup-To", "Mail-Reply-To",
            "Resent-Sender", "Resent-Reply-To", "Resent-Cc", "X-To", "Delivered-To",
        )
    ],
]  # fmt: skip
MAPS = {
    "recipient_delimiter": "+",
    "canonical_maps": "inline:{ {a@x.test=b@x.test}, {b@x.test=c@x.test}, {@y.test=@z.test}, {u@x.test=v@x.test},"
    " {loc=mapped@q.test}, {bare@x.test=bare2}, {l1@x.test=l2@x.test}, {l2@x.test=l1@x.test} }",
    "masquerade_domains": "!no.m.test m.test",
    "masquerade_exceptions": "root",
}
CONFIGURATIONS: dict[str, dict[str, str]] = {
    "defaults": {},
    "maps": {
        **MAPS,
        "virtual_alias_maps": 'inline:{ {all@x.test = a@q.test, "b c"@q.test}, {ext@x.test = tgt@x.test} }',
        "always_bcc": "archive",
        "enable_original_recipient": "no",
    },
    "dots and senders": {
        "append_dot_mydomain": "yes",
        "undisclosed_recipients_header": "To: undisclosed-recipients:;",
        "sender_canonical_maps": "inline:{ a@x.test=sender@s.test }",
        "recipient_canonical_maps": "inline:{ a@x.test=recipient@r.test }",
        "recipient_canonical_classes": "header_recipient",
        "swap_bangpath": "no",
        "allow_percent_hack": "no",
        "message_drop_headers": "x-to",
    },
}
FULL = "From: a@b.test\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x.test>\r\n"


def headers() -> list[str]:
    return [f"{FULL}To: {value}\r\n" for value in FIELDS] + HEADERS


def ours(settings: Mapping[str, str], header: str, sender: str, recipient: str) -> tuple[object, ...]:
    cleanup = cleanup_for(Parameters({"myhostname": "mx.here.test", "mydomain": "here.test", **settings}))
    way = Way(HeaderSource.LOCAL)
    header = header.replace("From foo", "X-Mailbox-Line: From foo")

    async def run() -> tuple[object, ...]:
        arrival = Arrival("QID", _address(sender), 1_750_000_000.0)
        text = await cleanup.header(header.encode(), arrival, way)
        addressed = await cleanup.envelope(_address(sender), [Recipient(_address(recipient))], way)
        assert isinstance(text, bytes)
        assert isinstance(addressed, Addressed)
        recipients = tuple(str(each.address) for each in addressed.recipients)
        return compared(Received(str(addressed.sender), recipients, text + b"\r\n"))

    return asyncio.run(run())


def _address(path: str) -> Address:
    address = parse_mailbox(path.strip("<>"), lenient=True)
    assert address is not None
    return address


def compared(message: Received) -> tuple[object, ...]:
    return (
        message.sender,
        tuple(sorted(message.recipients)),
        [(name.rstrip(), _value(name, value)) for name, value in message.fields],
    )


def _value(name: str, value: str) -> str:
    if name.endswith("Message-Id") or (name.endswith("Date") and "1 Jan" not in value):
        return "made by the server"
    return re.sub(r"[\s]+", "", value)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_postfix_makes_the_same_of_it(name: str) -> None:
    settings = CONFIGURATIONS[name]
    cases = [(header, "<me@client.test>", "<you@dest.test>") for header in headers()]
    cases += [(FULL, path, path) for path in PATHS]
    # The number of the case goes last in the header, where it changes nothing for what stands before.
    cases = [(f"{header}X-Case: {at}\r\n", sender, recipient) for at, (header, sender, recipient) in enumerate(cases)]
    with recording_sink() as sink, relaying_postfix(sink.next_hop, settings) as port:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("client.test")
            for case in cases:
                _send(client, *case)
        theirs = {message.field("X-Case"): compared(message) for message in sink.messages(len(cases))}
    differences = [
        f"{header!r} {sender}:\n  postfix {theirs[str(at)]}\n  ekiden  {found}"
        for at, (header, sender, recipient) in enumerate(cases)
        if (found := ours(settings, header, sender, recipient)) != theirs[str(at)]
    ]
    assert not differences, "\n".join(differences)


def _send(client: smtplib.SMTP, header: str, sender: str, recipient: str) -> None:
    assert client.docmd(f"MAIL FROM:{sender}")[0] == 250
    assert client.docmd(f"RCPT TO:{recipient}")[0] == 250
    assert client.docmd("DATA")[0] == 354
    client.send(f"{header}\r\nbody\r\n.\r\n".encode())
    assert client.getreply()[0] == 250
