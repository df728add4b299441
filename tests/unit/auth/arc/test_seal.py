"""What we seal verifies here and with dkimpy, and the other way round (RFC 8617 §5.1)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import dkim
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ekiden.auth.arc.chain import collect
from ekiden.auth.arc.seal import unsealable
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.dkim.keys import SigningKey
from ekiden.auth.verdict import ArcVerdict, Result
from support.arc_chains import key, pem, verified, zone
from support.arc_chains import sealed as sealed_with
from support.fake_resolver import SERVFAIL, Zone

MESSAGE = b"From: a@author.test\r\nTo: b@list.test\r\nSubject: x\r\nReceived: by a\r\n\r\nHello\r\n"
RESULTS = "spf=pass smtp.mailfrom=author.test; dmarc=pass header.from=author.test"


def sealed(message: bytes, by: SigningKey, chain: ArcVerdict, results: str = RESULTS) -> bytes:
    return sealed_with(message, by, chain, results)


def asked(records: Zone) -> Callable[..., bytes | None]:
    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        found = records.get(("TXT", name.decode().rstrip(".")))
        return found[0] if isinstance(found, list) else None

    return txt


def dkimpy_verified(message: bytes, records: Zone) -> bytes:
    validation, _, reason = dkim.arc_verify(message, dnsfunc=asked(records))
    assert isinstance(validation, bytes), reason
    return validation


def dkimpy_takes(message: bytes, records: Zone) -> bool:
    try:
        return bool(dkim.arc_verify(message, dnsfunc=asked(records))[0] == b"pass")
    except (dkim.DKIMException, ValueError, IndexError):  # it does not expect all that can be broken
        return False


def dkimpy_sealed(message: bytes, by: SigningKey) -> bytes:
    """dkimpy takes the results, and what it says of the chain, from Authentication-Results."""
    made = dkim.arc_sign(message, b"s", by.domain.encode(), pem("rsa-sha256"), f"mx.{by.domain}".encode())
    return b"".join(made) + message


values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=90)
bodies = st.text(st.characters(codec="ascii", exclude_characters="\r"), max_size=300).map(
    # In SMTP each line has its end; dkimpy leaves the blanks of a last line without one.
    lambda text: f"{text}\n".replace("\n", "\r\n").encode()
)
hops = st.lists(st.sampled_from(["ours", "dkimpy"]), min_size=1, max_size=4)
domains = ["one.test", "two.test", "sub.three.test", "four.test"]


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(values, values, bodies, hops)
def test_chains_of_dkimpy_and_ours_hold_for_both(subject: str, to: str, body: bytes, sealers: list[str]) -> None:
    keys = [key(domain) for domain in domains[: len(sealers)]]
    records = zone(*keys)
    message = f"From: a@author.test\r\nTo: {to}\r\nSubject: {subject}\r\nX: {to}\r\n\r\n".encode() + body
    chain = verified(message, records)
    for by, sealer in zip(keys, sealers, strict=True):
        if sealer == "ours":
            message = sealed(message, by, chain)
        else:
            results = f"Authentication-Results: mx.{by.domain}; arc={chain.result.value}; {RESULTS}\r\n"
            message = dkimpy_sealed(results.encode() + message, by)
        chain = verified(message, records)
        assert chain.result is Result.PASS, chain
        assert dkimpy_verified(message, records) == b"pass"
    assert chain.sealers == tuple(by.domain for by in keys)
    assert chain.oldest_pass == 0
    changed = message + b"more\r\n"
    assert verified(changed, records).result is Result.FAIL
    assert dkimpy_verified(changed, records) == b"fail"


PIECES = (b" ", b"\r\n ", b"\t", b";", b"=", b"i=1;", b"cv=pass;", b"From: x@y\r\n", b"h=from;", b"t=1;", b"l=3;", b"A")


def changed_somewhere(message: bytes, rng: random.Random) -> bytes:
    data = bytearray(message)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                del data[at : at + rng.randint(1, 3)]
            case 1:
                data[at:at] = rng.choice(PIECES)
            case 2:
                data[at] ^= 32
            case 3:
                data[at] = rng.randrange(33, 127)
            case _:
                begin = rng.randrange(len(data))
                data[at:at] = data[begin : begin + rng.randint(1, 40)]
    return bytes(data)


def is_a_message(data: bytes) -> bool:
    """Its header is one for both: dkimpy takes no blank before a colon (RFC 5322 §4.5 has it as obsolete syntax)."""
    header, empty, _ = data.partition(b"\r\n\r\n")
    lines = header.split(b"\r\n")
    whole = not re.search(rb"(?<!\r)\n|\r(?!\n)", data) and all(re.match(rb"[!-9;-~]+:|[ \t]", line) for line in lines)
    return bool(empty) and whole and not header.startswith((b" ", b"\t"))


def test_dkimpy_and_we_agree_on_chains_that_were_changed() -> None:
    one, two = key("one.test"), key("two.test")
    records = zone(one, two)
    first = sealed(MESSAGE, one, ArcVerdict(Result.NONE))
    theirs = dkimpy_sealed(f"Authentication-Results: mx.one.test; arc=none; {RESULTS}\r\n".encode() + MESSAGE, one)
    chains = [first, sealed(first, two, ArcVerdict(Result.PASS)), theirs]
    rng = random.Random(20261129)
    outcomes: list[bool] = []
    while len(outcomes) < 150:
        message = changed_somewhere(rng.choice(chains), rng)
        if is_a_message(message):
            outcomes.append(verified(message, records).result is Result.PASS)
            assert dkimpy_takes(message, records) is outcomes[-1], message
    assert 5 < sum(outcomes) < 145  # white space that means nothing, and all the rest


def test_the_set_that_is_made() -> None:
    by = key("list.test")
    fields = sealed(MESSAGE, by, ArcVerdict(Result.NONE)).removesuffix(MESSAGE).decode()
    lines = fields.split("\r\n")
    assert lines[0] == "ARC-Seal: a=rsa-sha256;"
    assert "\tcv=none; d=list.test; i=1; s=s; t=1700000000" in lines
    assert "ARC-Message-Signature: a=rsa-sha256;" in lines
    assert "ARC-Authentication-Results: i=1; mx.list.test;" in lines
    assert lines[-4:] == [
        "ARC-Authentication-Results: i=1; mx.list.test;",
        "\tspf=pass smtp.mailfrom=author.test;",
        "\tdmarc=pass header.from=author.test",
        "",
    ]
    assert max(map(len, lines)) < 80
    # Received: and the ARC fields themselves are covered by no message signature (RFC 8617 §4.1.2).
    assert "h=From:Subject:To; i=1;" in fields.replace("\r\n\t", " ")


def test_a_chain_may_be_sealed_by_ed25519() -> None:
    by = key("list.test", "ed25519-sha256")
    message = sealed(MESSAGE, by, ArcVerdict(Result.NONE))
    assert verified(message, zone(by)).result is Result.PASS


def test_what_was_changed_by_a_forwarder_ends_the_signatures_before_not_the_chain() -> None:
    # RFC 8617 §5.2, step 4: oldest-pass.
    one, two, three = (key(domain) for domain in domains[:3])
    records = zone(one, two, three)
    message = sealed(MESSAGE, one, ArcVerdict(Result.NONE))
    message = message.replace(b"Subject: x", b"Subject: [list] x")
    message = sealed(message, two, ArcVerdict(Result.PASS))
    verdict = verified(sealed(message, three, ArcVerdict(Result.PASS)), records)
    assert (verdict.result, verdict.oldest_pass) == (Result.PASS, 2)


def test_a_chain_that_failed_is_sealed_once_as_failed() -> None:
    one, two, three = (key(domain) for domain in domains[:3])
    records = zone(one, two, three)
    broken = sealed(MESSAGE, one, ArcVerdict(Result.NONE)).replace(b"i=1; mx.one.test", b"i=1; mx.evil.test")
    verdict = verified(broken, records)
    assert verdict.result is Result.FAIL
    assert verdict.reason.startswith("the seal i=1 of one.test does not hold")
    marked = sealed(broken, two, verdict)
    assert b"cv=fail; d=two.test; i=2" in marked
    assert verified(marked, records).reason == "two.test, which sealed it last (i=2), found that it had failed"
    # RFC 8617 §5.1, step 2: there is no need to go on.
    assert sealed(marked, three, verified(marked, records)) == marked
    assert unsealable(marked.partition(b"\r\n\r\n")[0] + b"\r\n", verified(marked, records)) == (
        "somebody sealed before that the chain has failed"
    )


def test_the_fiftieth_set_is_the_last() -> None:
    # RFC 8617 §4.2.1: i= has a maximum of 50.
    by = key("list.test")
    message = MESSAGE
    chain = ArcVerdict(Result.NONE)
    for _ in range(50):
        message = sealed(message, by, chain)
        chain = ArcVerdict(Result.PASS)
    verdict = verified(message, zone(by))
    assert (verdict.result, verdict.instances, len(verdict.sealers)) == (Result.PASS, 50, 50)
    assert verdict.oldest_pass == 41  # no more than ten message signatures are verified
    assert sealed(message, by, verdict) == message
    assert collect(SignableHeader(message.partition(b"\r\n\r\n")[0])).highest == 50


def test_silence_of_dns_is_neither_sealed_nor_trusted() -> None:
    one, two = key("one.test"), key("two.test")
    message = sealed(MESSAGE, one, ArcVerdict(Result.NONE))
    verdict = verified(message, {("TXT", one.record_name): SERVFAIL})
    assert verdict.result is Result.TEMPERROR
    assert verdict.reason.endswith("no answer about the key s._domainkey.one.test: server failure (SERVFAIL)")
    assert sealed(message, two, verdict) == message


def test_results_of_hostile_senders_stay_in_their_field() -> None:
    by = key("list.test")
    message = sealed(MESSAGE, by, ArcVerdict(Result.NONE), 'spf=fail reason="x\\"; dmarc=pass" smtp.mailfrom=a')
    assert verified(message, zone(by)).result is Result.PASS


@pytest.mark.parametrize("verdict", [ArcVerdict(Result.PASS), ArcVerdict(Result.FAIL)])
def test_a_verdict_of_another_header_seals_nothing(verdict: ArcVerdict) -> None:
    assert sealed(MESSAGE, key("list.test"), verdict) == MESSAGE
