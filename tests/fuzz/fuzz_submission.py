"""Any bytes given to sendmail become content or a Refused; the header is cut where it ends, and no blind copy stays."""

from __future__ import annotations

import io

from ekiden.cli import submission
from ekiden.protocol.smtp.path import parse_mailbox

SEEDS = [
    b"From: a@b.example\nTo: Bob <bob@c.example>,\n d@e.example\nBcc: x@y.example\n\nbody\n.\nmore\n",
    b"From root Mon\n>From x\nTo: u: a@b, c@d;\r\nResent-To: r@s\r\nresent-bcc : t@u\r\n\r\nx\r\n",
    b"Subject: \xff\n\tfolded\nno field\nCc: =?utf-8?q?=C3=A9?= <a@b.example>\n\n",
    b'To: "a, b" <c@d>, (comment) e@f\n.\n',
    b"To: undisclosed:;\nBcc: a@b@c, d!e%f@g, <@h:i@j>, joe jim\nno field\nCc: k@l\n\n",
]


def one_input(data: bytes) -> None:
    for line_ends in ("always", "strict", "never"):
        pieces = list(submission.lines(io.BytesIO(data), dot_ends=True, line_ends=line_ends))
        assert sum(map(len, pieces)) <= len(data)
    content = iter(pieces)
    try:
        header, rest = submission.header_of(content)
        assert header + rest + b"".join(content) == b"".join(pieces)
        kept = submission.without_hidden(header)
        assert submission.without_hidden(kept) == kept
        found = submission.header_recipients(header, 10)
        assert len(found) <= 10
        for address in found:  # the server will understand what the command took
            parsed = parse_mailbox(address, lenient=True)
            assert parsed is not None
            assert not parsed.is_null
    except submission.Refused:
        pass
    try:
        submission.checked([data.decode("utf-8", "surrogateescape")])
    except submission.Refused:
        return
