"""A message of a stranger is examined as it comes, waits for DNS no longer than it may, and can be given up."""

from __future__ import annotations

import asyncio
import time

import pytest

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import ED25519_SHA256, new_private_key, signing_key
from ekiden.auth.dkim.sign import DkimSigning
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.spf.received_spf import received_spf
from ekiden.auth.verdict import (
    ArcVerdict,
    DkimVerdict,
    DmarcPolicy,
    DmarcVerdict,
    IprevVerdict,
    Result,
    SpfVerdict,
    Verdicts,
)
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.dns.cache import CachingResolver
from ekiden.dns.resolver import Resolver
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Client, Recipient
from ekiden.policy.conclusion import Conclusion
from ekiden.policy.examination import Examination
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.queue.store import HEAD_LIMIT_BYTES
from ekiden.reports.aggregate import OverrideReason
from ekiden.tables.open import open_table
from support.arc_chains import key as arc_key
from support.arc_chains import sealed as arc_sealed
from support.fake_resolver import SERVFAIL, FakeResolver

KEY = signing_key("good.test", "k1", new_private_key(ED25519_SHA256))
ZONE: dict[tuple[str, str], object] = {
    ("TXT", "good.test"): [b"v=spf1 ip4:192.0.2.1 -all"],
    ("TXT", "k1._domainkey.good.test"): [KEY.record.encode()],
    ("TXT", "_dmarc.good.test"): [b"v=DMARC1; p=reject"],
    ("TXT", "trouble.test"): SERVFAIL,
    ("TXT", "_dmarc.trouble.test"): SERVFAIL,
    ("TXT", "_dmarc.test"): SERVFAIL,
}
HEADER = b"From: Anna <anna@good.test>\r\nTo: bob@here.test\r\nSubject: hello\r\n"
BODY = b"Hello,\r\n\r\nworld.\r\n\r\n\r\n"
FRIEND = Client(name="mx.good.test", address="192.0.2.1", helo="mx.good.test")
STRANGER = Client(name="unknown", address="198.51.100.9", helo="x.test")


class Clock:
    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def signature(header: bytes = HEADER, body: bytes = BODY) -> bytes:
    hashes = BodyHashes()
    signing = DkimSigning(header, hashes, [KEY], now=1_799_999_000.0)
    hashes.feed(body)
    hashes.finish()
    return signing.fields()


def authentication(resolver: Resolver, **settings: str) -> SenderAuthentication:
    return SenderAuthentication(
        Parameters({"myhostname": "mx.here.test", **settings}),
        resolver=resolver,
        clock=Clock(),
        open_table=open_table,
        report=lambda evaluated, header: None,
    )


async def fed(examination: Examination, header: bytes, body: bytes, size: int) -> Conclusion:
    examination.begin()
    assert examination.take_header(header, header) == header
    for at in range(0, len(body), size):
        examination.feed(body[at : at + size])
    return await examination.conclude()


def examined(
    header: bytes,
    *,
    client: Client = FRIEND,
    sender: Address = Address("anna", "good.test"),  # noqa: B008
    size: int = 1000,
    **settings: str,
) -> Conclusion:
    examination = authentication(FakeResolver(ZONE), **settings).examine(client, sender)
    return asyncio.run(fed(examination, header, BODY, size))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_all_that_is_good_is_found_in_any_chunking(size: int) -> None:
    found = examined(signature() + HEADER, size=size)
    verdicts = found.verdicts
    assert verdicts.spf is not None
    assert verdicts.dmarc is not None
    assert (verdicts.spf.result, verdicts.dkim[0].result, verdicts.dmarc.result) == (Result.PASS,) * 3
    assert found.decision.refusal is None
    assert found.head.startswith(b"Authentication-Results: mx.here.test;")
    assert b"\r\nReceived-SPF: pass" in found.head
    assert found.head.endswith(b"\r\n")
    assert "dkim=pass" in found.results


FORGED = b"Authentication-Results : MX.here.test.; dkim=pass header.d=good.test\r\n"
FOREIGN = b"Authentication-Results: mx.else.test; dkim=pass\r\n"


@pytest.mark.parametrize(
    ("received", "stored", "kept"),
    [
        (HEADER + FORGED + FOREIGN, None, HEADER + FOREIGN),
        (FORGED + HEADER, b"X-Seen: yes\r\n" + FORGED + HEADER, b"X-Seen: yes\r\n" + HEADER),
        (HEADER, HEADER + FORGED, HEADER),
        (HEADER + FOREIGN, None, HEADER + FOREIGN),
    ],
)
def test_results_in_our_name_are_taken_out_of_what_is_kept(received: bytes, stored: bytes | None, kept: bytes) -> None:
    examination = authentication(FakeResolver(ZONE)).examine(FRIEND, Address("anna", "good.test"))

    async def header() -> bytes:
        examination.begin()
        found = examination.take_header(received, received if stored is None else stored)
        examination.cancel()
        return found

    assert asyncio.run(header()) == kept


def test_nothing_good_is_refused_where_the_owner_asks_for_it() -> None:
    found = examined(HEADER, client=STRANGER)
    assert found.decision.disposition is DmarcPolicy.REJECT
    assert found.decision.refusal is not None
    assert found.decision.refusal.reply.code == 550


def test_trouble_with_dns_is_a_temporary_error_and_lets_mail_pass() -> None:
    header = HEADER.replace(b"good.test", b"trouble.test")
    found = examined(header, client=STRANGER, sender=Address("anna", "trouble.test"))
    assert found.verdicts.spf is not None
    assert found.verdicts.spf.result is Result.TEMPERROR
    assert found.verdicts.dmarc is not None
    assert found.verdicts.dmarc.result is Result.TEMPERROR
    assert found.decision.refusal is None


def test_dns_that_is_silent_holds_mail_up_no_longer_than_it_may() -> None:
    resolver = FakeResolver(ZONE)

    async def run() -> Conclusion:
        resolver.gate = asyncio.Event()
        examination = authentication(resolver, authentication_time_limit="1s", spf_checks_helo="no").examine(
            FRIEND, Address("anna", "good.test")
        )
        return await asyncio.wait_for(fed(examination, signature() + HEADER, BODY, 10), 15)

    found = asyncio.run(run())
    assert found.verdicts.dkim[0].result is Result.TEMPERROR
    assert found.verdicts.spf is not None
    assert found.verdicts.spf.result is Result.TEMPERROR
    assert found.verdicts.dmarc is not None
    assert found.verdicts.dmarc.result is Result.TEMPERROR


def test_a_client_that_was_just_judged_is_judged_from_memory() -> None:
    """Its next message begins no task, waits for nobody, and is told the same."""

    async def run() -> None:
        inner = FakeResolver(
            {**ZONE, ("TXT", "mx.good.test"): [b"v=spf1 a -all"], ("A", "mx.good.test"): ["192.0.2.1"]}
        )
        made = authentication(CachingResolver(inner, Clock(), Parameters({})))
        sender, header = Address("anna", "good.test"), signature() + HEADER
        first = await fed(made.examine(FRIEND, sender), header, BODY, 100)
        inner.gate = asyncio.Event()  # nobody is answered any more
        coroutine = fed(made.examine(FRIEND, sender), header, BODY, 100)
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert ended.value.value == first
        assert len(asyncio.all_tasks()) == 1
        inner.gate.set()
        stranger = Client(name="unknown", address=STRANGER.address, helo=FRIEND.helo)
        other = await fed(made.examine(stranger, sender), HEADER, BODY, 100)
        assert other.verdicts.spf is not None
        assert other.verdicts.spf.result is Result.FAIL
        assert other.decision.refusal is not None

    asyncio.run(run())


def test_what_nobody_waits_for_any_more_is_given_up() -> None:
    resolver = FakeResolver(ZONE)

    async def run() -> int:
        resolver.gate = asyncio.Event()
        examination = authentication(resolver).examine(FRIEND, Address("anna", "good.test"))
        examination.begin()
        examination.take_header(signature() + HEADER, HEADER)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) > 1
        examination.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1


def test_nobody_is_asked_what_is_not_wanted() -> None:
    resolver = FakeResolver(ZONE)
    off = {"spf_policy": "none", "dmarc_policy": "none", "dkim_verification": "no", "arc_verification": "no"}
    assert not SenderAuthentication.is_wanted(Parameters(off))
    assert not SenderAuthentication.is_wanted(Parameters({"receive_override_options": "no_milters"}))
    assert SenderAuthentication.is_wanted(Parameters({**off, "dkim_verification": "yes"}))
    examination = authentication(resolver, **off).examine(FRIEND, Address("anna", "good.test"))
    found = asyncio.run(fed(examination, signature() + HEADER, BODY, 100))
    assert resolver.asked == []
    assert found.verdicts == Verdicts(iprev=found.verdicts.iprev)


def test_spf_is_asked_for_the_mailbox_and_the_helo_name_once_each() -> None:
    found = examined(HEADER)
    assert found.verdicts.spf_helo is not None
    assert (found.verdicts.spf_helo.identity, found.verdicts.spf_helo.domain) == ("helo", "mx.good.test")
    found = examined(HEADER, spf_checks_helo="no")
    assert found.verdicts.spf_helo is None
    found = examined(HEADER, sender=NULL_SENDER, client=Client(name="x", address="192.0.2.1", helo="good.test"))
    assert found.verdicts.spf_helo is None
    assert found.verdicts.spf is not None
    assert (found.verdicts.spf.domain, found.verdicts.spf.sender) == ("good.test", "postmaster@good.test")


def test_more_signatures_than_the_limit_are_passed_over() -> None:
    header = signature() * 3 + HEADER
    assert len(examined(header, dkim_signature_limit="2").verdicts.dkim) == 2


@pytest.mark.parametrize(
    ("client", "result"),
    [
        (FRIEND, Result.PASS),
        (STRANGER, Result.FAIL),
        (Client(name="unknown", address="192.0.2.7", name_failed=True), Result.TEMPERROR),
    ],
)
def test_the_name_of_the_client_is_a_finding_too(client: Client, result: Result) -> None:
    found = examined(signature() + HEADER, client=client).verdicts.iprev
    assert found is not None
    assert found.result is result


def test_without_look_ups_of_names_nothing_is_said_of_them() -> None:
    assert examined(HEADER, smtpd_peername_lookup="no").verdicts.iprev is None


def test_whatever_was_found_its_fields_have_room_at_the_top_twice() -> None:
    """Once as ours, once as the results that a seal of ARC holds."""
    long = '"(\\;,é' * 500
    name = ".".join(["x" * 63] * 4)
    spf = SpfVerdict(Result.FAIL, domain=name, sender=long, mechanism=long, explanation=long, reason=long)
    verdicts = Verdicts(
        spf=spf,
        spf_helo=SpfVerdict(Result.PERMERROR, identity="helo", domain=name, sender=long, reason=long),
        dkim=(DkimVerdict(Result.FAIL, name, name, long, "rsa-sha256", long, reason=long),) * 100,
        arc=ArcVerdict(Result.FAIL, 50, (name,) * 50, reason=long),
        dmarc=DmarcVerdict(Result.FAIL, name, name, name, reason=long),
        iprev=IprevVerdict(Result.PASS, name, "2001:db8::1"),
    )
    field = authentication_results("mx.here.test", results_text(verdicts, client_address="2001:db8::1"))
    received = received_spf(spf, client_address=long, helo=long, receiver=name, envelope_from=long)
    seal_and_signature = 8192
    assert len(field) * 2 + len(received) + seal_and_signature < HEAD_LIMIT_BYTES


def test_an_override_is_looked_up_by_client_and_author() -> None:
    for key in ("198.51.100.9", "good.test"):
        found = examined(HEADER, client=STRANGER, dmarc_override_maps=f"inline:{{{key}=ours}}")
        assert found.decision.refusal is None
        assert found.decision.reason is not None
        assert (found.decision.reason.type, found.decision.reason.comment) == ("local_policy", "ours")


@pytest.mark.parametrize(
    ("mode", "recipient", "seals"),
    [
        ("forwarded", "far.test", True),
        ("forwarded", "here.test", False),
        ("all", "here.test", True),
        ("no", "far.test", False),
    ],
)
def test_what_is_sealed_depends_on_where_it_goes(mode: str, recipient: str, seals: bool) -> None:
    async def goes_on(address: Address) -> bool:
        return address.domain == "far.test"

    made = SenderAuthentication(
        Parameters({"arc_seal": mode, "arc_seal_key": "here.test:k:k.pem"}),
        resolver=FakeResolver(ZONE),
        clock=Clock(),
        open_table=open_table,
        report=lambda evaluated, header: None,
        goes_on=goes_on,
    )
    recipients = [Recipient(Address("a", "here.test")), Recipient(Address("b", recipient))]
    assert asyncio.run(made.seals_for(recipients)) is seals


def test_a_name_that_no_field_can_have_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="authserv_id"):
        authentication(FakeResolver(ZONE), authserv_id="a\x01b")


LIST = arc_key("list.test")
FORWARDED = HEADER.replace(b"hello", b"[list] hello") + b"\r\n" + BODY
RESULTS = "dkim=pass header.d=good.test; dmarc=pass header.from=good.test; arc=none"


@pytest.mark.parametrize(("trusted", "passes"), [("list.test", True), ("", False), ("other.test", False)])
def test_a_trusted_forwarder_saves_what_fails_dmarc(trusted: str, passes: bool) -> None:
    message = arc_sealed(FORWARDED, LIST, ArcVerdict(Result.NONE), RESULTS)
    header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
    resolver = FakeResolver({**ZONE, ("TXT", LIST.record_name): [LIST.record.encode()]})
    examination = authentication(resolver, arc_trusted_sealers=trusted).examine(STRANGER, Address("list", "list.test"))
    found = asyncio.run(fed(examination, header, BODY, 7))
    assert found.verdicts.dmarc is not None
    assert found.verdicts.dmarc.result is Result.FAIL
    assert (found.decision.refusal is None) is passes
    if passes:
        assert found.decision.reason == OverrideReason(
            "trusted_forwarder", "list.test (i=1) found dmarc=pass for good.test, and is a trusted sealer"
        )
