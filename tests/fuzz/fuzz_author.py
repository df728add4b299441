"""Any header gives distinct host names, that of a plain From field among them, whatever stands around it, or UNREAD."""

from __future__ import annotations

from ekiden.auth.dmarc.author import UNREAD, author_domains
from ekiden.dns.name import host_name

SEEDS = [
    b"From: A <a@x.test>\r\nTo: b@y.test\r\n",
    b'From: "A, B" <a@x.test>,\r\n Us: b@y.test, (c@z.test) d@w.test;\r\nfrom : <@r.test:e@v.test>\r\n',
    b"From: a@b\xc3\xbccher.test, b@[192.0.2.1]\r\n",
    b'From: "open (comment\\\r\n',
]


def one_input(data: bytes) -> None:
    found = author_domains(b"X: " + data + b"\r\nFrom: A <a@known.test>\r\n" + data)
    if found[-1:] == (UNREAD,):
        found = found[:-1]
    else:
        assert "known.test" in found
    assert len(set(found)) == len(found)
    for domain in found:
        assert host_name(domain) == domain
