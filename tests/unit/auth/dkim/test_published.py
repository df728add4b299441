"""What is said of a key whose record in DNS is not what it should be."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, new_private_key, signing_key
from ekiden.auth.dkim.published import Published, compare, look
from support.fake_resolver import SERVFAIL, FakeResolver

KEY = signing_key("a.test", "s", new_private_key(RSA_SHA256, bits=1024))
OTHER = signing_key("a.test", "t", new_private_key(ED25519_SHA256))
P = KEY.public_text


@pytest.mark.parametrize(
    ("texts", "state", "said"),
    [
        ([KEY.record], Published.RIGHT, ""),
        ([f"p={P}"], Published.RIGHT, ""),
        ([f"v=DKIM1; h=sha256; s=email; p={P[:20]} {P[20:]};"], Published.RIGHT, ""),
        ([f"v=DKIM1; t=y; p={P}"], Published.RIGHT, "only testing"),
        ([], Published.MISSING, "no TXT record"),
        ([KEY.record, OTHER.record], Published.WRONG, "2 TXT records"),
        ([OTHER.record], Published.WRONG, "of another key"),
        (["v=DKIM1; p="], Published.WRONG, "revoked"),
        ([f"v=DKIM1; h=sha1; p={P}"], Published.WRONG, "sha256"),
        ([f"v=DKIM1; s=other; p={P}"], Published.WRONG, "for mail"),
        (["v=spf1 -all"], Published.WRONG, "not about a key"),
        ([f"v=DKIM1; k=ed25519; p={P}"], Published.WRONG, ""),
    ],
)
def test_a_record_is_compared_with_the_key(texts: list[str], state: Published, said: str) -> None:
    found = compare(KEY, [text.encode() for text in texts])
    assert found.state is state
    assert said in found.text
    assert bool(found.text) == bool(said) or state is Published.WRONG


def test_dns_that_does_not_answer_says_nothing_of_the_key() -> None:
    resolver = FakeResolver({("TXT", KEY.record_name): SERVFAIL})
    found = asyncio.run(look(resolver, KEY))
    assert (found.state, found.text) == (Published.UNKNOWN, "server failure (SERVFAIL)")
    assert resolver.asked == [("TXT", "s._domainkey.a.test")]
    assert asyncio.run(look(FakeResolver({}), KEY)).state is Published.MISSING
