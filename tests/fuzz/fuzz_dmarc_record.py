"""Any TXT record gives no DMARC record, or one with policies that it names and a few places without line breaks."""

from __future__ import annotations

from ekiden.auth.dmarc.record import parse_record
from ekiden.auth.verdict import DmarcPolicy

SEEDS = [
    b"v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=r; psd=n; t=y; fo=1:d:s; rua=mailto:a@x.test!10m",
    b"V = DMARC1 ; P = reject ;\tSP=none; unknown=x; rua=mailto:a@x.test , https://x.test/%20; ruf=mailto:b@x.test!0G",
    b"v=DMARC1;;p=none;p=none;rua=,;fo=:",
    b"v=DMARC1",
]


def one_input(data: bytes) -> None:
    record = parse_record.__wrapped__(data)  # without its cache, which holds 512
    if record is None:
        return
    assert record.text.encode("latin-1") == data
    lower = record.text.lower()
    for policy in (record.policy, record.subdomain_policy, record.nonexistent_policy):
        assert policy is None or policy is DmarcPolicy.NONE or policy.value in lower
    assert record.usable or record.policy is DmarcPolicy.NONE
    for places in (record.rua, record.ruf):
        assert len(places) <= 10
        for place in places:
            assert place.uri.isascii()
            assert place.uri.isprintable()
            assert " " not in place.uri
