"""Any bytes are an MTA-STS record or policy within its limits, which reads the same when written, or an error value."""

from __future__ import annotations

from ekiden.tls.mta_sts import MAX_AGE_LIMIT_S, PolicyError, parse_policy, policy_id
from ekiden.tls.txt_fields import RecordError

SEEDS = [
    b"version: STSv1\r\nmode: enforce\r\nmx: mx.test\r\nmx: *.wild.test\r\nmax_age: 604800\r\n",
    b"version:STSv1\nmode:\ttesting \nmax_age: 1\nmx:a.test\next: some thing\n",
    b"v=STSv1; id=20160831085700Z;",
    b"v=STSv1; \t id=a \t; more=1; x.y-z_=<>",
    "version: STSv1\nmode: none\nmax_age: 0\nnote: bücher\n".encode(),
]


def one_input(data: bytes) -> None:
    try:
        policy = parse_policy(data)
    except PolicyError:
        pass
    else:
        assert 0 <= policy.max_age_s <= MAX_AGE_LIMIT_S
        assert parse_policy("\n".join(policy.lines()).encode()) == policy
        for pattern in policy.mx:
            assert policy.names(pattern.replace("*", "x", 1))
            assert not policy.names("evil." + pattern.replace("*", "x", 1)) or f"*.{pattern}" in policy.mx
    try:
        found = policy_id([data])
    except RecordError:
        return
    assert found is None or (found.isascii() and found.isalnum() and 1 <= len(found) <= 32)
