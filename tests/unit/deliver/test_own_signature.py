"""What the server writes itself is signed by the same table as other mail of ours; dkimpy verifies it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, new_private_key, signing_key
from ekiden.config.snapshot import Parameters
from ekiden.deliver.bounce import MailBouncer
from ekiden.deliver.own_mail import OwnMail
from ekiden.deliver.own_signature import signed
from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import failed
from ekiden.message.envelope import Client, Envelope, Recipient
from ekiden.message.queued import QueuedMessage
from ekiden.message.status import Status
from ekiden.policy.dkim_signing import DkimSigner
from ekiden.policy.signing import MessageSigner
from ekiden.queue.notice import Notice, RoundOutcome
from ekiden.queue.store import StoreTrouble
from ekiden.tables.open import open_tables
from ekiden.tls.key_files import KeyFiles
from support.cleanup import cleanup_for
from support.dkim_oracle import NOW, records, verifies
from support.fake_clock import FakeClock
from support.queue_world import Recorder
from support.smtp_session import Writer

PEMS = {"rsa": new_private_key(RSA_SHA256), "ed": new_private_key(ED25519_SHA256)}
KEYS = [signing_key("our.test", name, pem) for name, pem in PEMS.items()]
TABLE = "inline:{ {our.test = our.test:rsa:rsa.pem, our.test:ed:ed.pem} }"
MAIL = b"From: postmaster@our.test\r\nTo: r@far.test\r\nSubject: x\r\n\r\nHello\r\n"


def signer(table: str = TABLE, **settings: str) -> MessageSigner:
    parameters = Parameters({"dkim_signing_table": table, "dkim_key_directory": "/keys", **settings})
    files = KeyFiles({f"/keys/{name}.pem": pem for name, pem in PEMS.items()})

    async def nobody(_: Client) -> bool:
        return False

    maker = DkimSigner(parameters, open_tables(parameters.dkim_signing_table), key_files=lambda: files)
    return MessageSigner(maker, nobody, FakeClock(NOW))


def is_signed(content: bytes) -> bool:
    return all(verifies(content, records(*KEYS), index=index) for index in range(2))


def test_a_report_is_signed_on_its_way_into_the_queue() -> None:
    queued: list[QueuedMessage] = []

    async def intake(message: QueuedMessage) -> None:
        queued.append(message)

    clock = FakeClock()
    own_mail = OwnMail(
        intake, lambda queue_id: Writer(), lambda: "Q1", clock, lambda: cleanup_for(Parameters({})),
        signer=signer,
    )  # fmt: skip
    asyncio.run(own_mail("postmaster@our.test", "r@far.test", MAIL))
    (message,) = queued
    assert isinstance(message.content, InlineContent)
    assert message.content.data.endswith(MAIL)
    assert is_signed(message.content.data)


def bounce(parameters: Parameters, made: MessageSigner | None, seen: Recorder) -> Sequence[Notice]:
    bouncer = MailBouncer(
        parameters=parameters, cleanup=lambda: cleanup_for(parameters), clock=FakeClock(), observer=seen,
        signer=lambda: made,
    )  # fmt: skip
    original = QueuedMessage(
        "Q1", Envelope(Address("ann", "far.test"), ()), InlineContent(MAIL), arrived=1_750_000_000.0, pending=()
    )
    ended = [(Recipient(Address("bob", "our.test")), failed(Status(5, 1, 1), "unknown user"))]
    return asyncio.run(bouncer.compose(original, RoundOutcome(ended, (), (), False, 0.0), lambda: "N1"))


def test_a_notification_is_signed() -> None:
    (notice,) = bounce(Parameters({"myhostname": "our.test"}), signer(), Recorder())
    assert isinstance(notice.message.content, InlineContent)
    assert b"MAILER-DAEMON@our.test" in notice.message.content.data
    assert is_signed(notice.message.content.data)


@pytest.mark.parametrize("made", [None, signer("inline:{ other.test = other.test:rsa:rsa.pem }")])
def test_without_an_entry_nothing_is_signed(made: MessageSigner | None) -> None:
    (notice,) = bounce(Parameters({"myhostname": "our.test"}), made, Recorder())
    assert isinstance(notice.message.content, InlineContent)
    assert b"DKIM-Signature" not in notice.message.content.data


BROKEN = "inline:{ our.test = our.test:gone:gone.pem }"


def test_a_key_that_cannot_be_used_is_said_and_costs_no_notification() -> None:
    seen = Recorder()
    (notice,) = bounce(Parameters({"myhostname": "our.test"}), signer(BROKEN), seen)
    assert isinstance(notice.message.content, InlineContent)
    assert b"DKIM-Signature" not in notice.message.content.data
    assert any("gone.pem" in str(event) for event in seen.events)


def test_where_signatures_are_required_it_waits_for_the_key() -> None:
    with pytest.raises(StoreTrouble, match=r"gone\.pem"):
        bounce(Parameters({"myhostname": "our.test"}), signer(BROKEN, dkim_signing_required="yes"), Recorder())


def test_a_message_without_a_body_is_signed_too() -> None:
    warned: list[str] = []
    content = asyncio.run(signed(b"From: a@our.test\r\n\r\n", signer(), warned.append))
    assert is_signed(content)
    assert warned == []
