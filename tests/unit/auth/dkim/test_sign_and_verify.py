"""Whatever bytes a message has, what we sign we verify; and no change that its form does not allow goes unseen."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import ED25519_SHA256, new_private_key, signing_key
from ekiden.auth.dkim.sign import SigningOptions
from ekiden.auth.dkim.verify import DkimVerification
from ekiden.auth.verdict import Result
from support.dkim_oracle import NOW, signed
from support.fake_resolver import FakeResolver

KEY = signing_key("a.test", "s", new_private_key(ED25519_SHA256))
FORMS = [(header, body) for header in ("simple", "relaxed") for body in ("simple", "relaxed")]

_NAMES = st.sampled_from(
    [b"From", b"from ", b"TO", b"Subject", b"Subject\t", b"X-A", b"Cc", b"Date", b"DKIM-Signature"]
)
_BYTES = st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))
_VALUES = st.lists(_BYTES, min_size=1, max_size=3).map(b"\r\n ".join)
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=8).map(
    lambda fields: b"".join(name + b":" + value + b"\r\n" for name, value in [(b"From", b" a@a.test"), *fields])
)
_BODIES = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"x", b".", b"\0", b"\xff"]), max_size=30).map(
        b"".join
    ),
)


def result(header: bytes, body: bytes) -> Result:
    """Of the topmost signature."""

    async def verify() -> Result:
        hashes = BodyHashes()
        resolver = FakeResolver({("TXT", KEY.record_name): (KEY.record.encode(),)})
        verification = DkimVerification(header, hashes, resolver=resolver, now=NOW)
        hashes.feed(body)
        hashes.finish()
        return (await verification.verdicts())[0].result

    return asyncio.run(verify())


@settings(max_examples=150, deadline=None)
@given(header=_HEADERS, body=_BODIES, form=st.sampled_from(FORMS), chunk=st.integers(1, 9))
def test_what_we_sign_we_verify(header: bytes, body: bytes, form: tuple[str, str], chunk: int) -> None:
    field = signed(header, body, [KEY], SigningOptions(*form), chunk=chunk)
    assert result(field + header, body) is Result.PASS
    assert result(field + b"From: b@b.test\r\n" + header, body) is Result.FAIL
    assert result(field + b"X-Other: x\r\n" + header, body) is Result.PASS
    assert result(field + header, b"x" + body) is Result.FAIL
