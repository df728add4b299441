"""Any TXT record gives a few places that can be written to without a line break in them, or an error value."""

from __future__ import annotations

from ekiden.tls.tlsrpt_record import https_of, mailbox_of, report_places
from ekiden.tls.txt_fields import RecordError

SEEDS = [
    b"v=TLSRPTv1; rua=mailto:tlsrpt@mox.example , \t https://mox.example/tlsrpt;",
    b"v=TLSRPTv1;rua=mailto:r%2Bx@x.test?subject=a",
    b"v=TLSRPTv1; rua=https://[::1]:99/x?y; ext=1; rua=https://a.test:443",
]


def one_input(data: bytes) -> None:
    try:
        places = report_places([data])
    except RecordError:
        return
    assert len(places) <= 10
    for place in places:
        mailbox, https = mailbox_of(place), https_of(place)
        assert (mailbox is None) is not (https is None)
        if mailbox is not None:
            assert mailbox.count("@") == 1
            assert not set(mailbox) & set("\r\n\0 ,;<>")
        if https is not None:
            host, port, path = https
            assert 0 <= port < 65536
            assert not set(host + path) & set("\r\n\0 ")
