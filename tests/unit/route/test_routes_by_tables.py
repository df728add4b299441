"""Routes that senders have of their own, addresses that have moved, and what RCPT TO learns of both."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.delivery import DeliveryResult
from ekiden.route.resolve import Router
from ekiden.tables.open import open_table
from ekiden.tables.table import Table, TableTrouble
from support.honours import honours

BASE = {
    "myhostname": "mx.here.example",
    "mydestination": "here.example",
    "myorigin": "here.example",
    "virtual_alias_domains": "alias.example",
    "virtual_alias_maps": "inline:{ known@alias.example=x@y, gone@here.example=other@here.example }",
    "virtual_mailbox_domains": "virtual.example",
    "relay_domains": "relay.example",
    "recipient_delimiter": "+",
    "relayhost": "[isp]",
}


class BrokenTable(Table):
    name = "broken:x"

    async def lookup(self, key: str) -> str | None:
        raise TableTrouble("broken:x does not answer")


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@") if "@" in text else (text, "", "")
    return Address(local, domain) if text else NULL_SENDER


def router(**settings: str) -> Router:
    return Router(
        Parameters({**BASE, **settings}),
        user_exists=lambda name: name == "jane",
        open_table=lambda word: BrokenTable() if word == "broken:x" else open_table(word),
    )


def way(sender: str, recipient: str, **settings: str) -> str:
    found = asyncio.run(router(**settings).resolve(address(recipient), address(sender)))
    if isinstance(found, DeliveryResult):
        return f"{found.action.value} {found.status} {found.text}"
    return f"{found.transport}:{found.next_hop}"


RELAYHOSTS = "inline:{ ann@a.example=[ann], @a.example=[a]:587, @off.example=DUNNO, jane=[jane], <>=[null] }"


@honours("sender_dependent_relayhost_maps")
@pytest.mark.parametrize(
    ("sender", "recipient", "expected"),
    [
        ("ann@a.example", "x@far.example", "smtp:[ann]"),
        ("Ann+ext@A.example", "x@far.example", "smtp:[ann]"),
        ("bob@a.example", "x@far.example", "smtp:[a]:587"),
        ("bob@a.example", "x@relay.example", "relay:[a]:587"),
        ("jane@here.example", "x@far.example", "smtp:[jane]"),
        ("jane@far.example", "x@far.example", "smtp:[isp]"),
        ("bob@off.example", "x@far.example", "smtp:[isp]"),
        ("", "x@far.example", "smtp:[null]"),
        ("bob@a.example", "jane@here.example", "local:mx.here.example"),
        ("bob@a.example", "u@virtual.example", "virtual:virtual.example"),
    ],
)
def test_a_sender_has_a_relayhost_of_its_own(sender: str, recipient: str, expected: str) -> None:
    assert way(sender, recipient, sender_dependent_relayhost_maps=RELAYHOSTS) == expected


@honours("sender_dependent_default_transport_maps")
@pytest.mark.parametrize(
    ("sender", "recipient", "expected"),
    [
        ("ann@a.example", "x@far.example", "slow:[isp]"),
        ("bob@a.example", "x@far.example", "lmtp:unix:/p"),
        ("bob@a.example", "x@relay.example", "relay:[isp]"),
        ("bob@b.example", "x@far.example", "smtp:[isp]"),
        ("bob@off.example", "x@far.example", "smtp:[isp]"),
        ("", "x@far.example", "retry:later"),
    ],
)
def test_a_sender_has_a_default_transport_of_its_own(sender: str, recipient: str, expected: str) -> None:
    maps = "inline:{ ann@a.example=slow, { @a.example = lmtp:unix:/p }, @off.example=dunno, { <>=retry:later } }"
    assert way(sender, recipient, sender_dependent_default_transport_maps=maps) == expected


@honours("empty_address_relayhost_maps_lookup_key", "empty_address_default_transport_maps_lookup_key")
def test_the_null_sender_is_looked_up_as_one_likes() -> None:
    key = {"empty_address_relayhost_maps_lookup_key": "nobody"}
    assert way("", "x@far.example", sender_dependent_relayhost_maps="inline:{ nobody=[n] }", **key) == "smtp:[n]"
    key = {"empty_address_default_transport_maps_lookup_key": "nobody"}
    maps = "inline:{ { nobody=slow:[n] } }"
    assert way("", "x@far.example", sender_dependent_default_transport_maps=maps, **key) == "slow:[n]"


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("sender_dependent_relayhost_maps", "broken:x"),
        ("sender_dependent_relayhost_maps", "inline:{ @a.example= }"),
        ("sender_dependent_default_transport_maps", "broken:x"),
        ("sender_dependent_default_transport_maps", "inline:{ @a.example= }"),
        ("relocated_maps", "broken:x"),  # an empty text is a text
    ],
)
def test_a_table_without_a_usable_answer_defers(name: str, table: str) -> None:
    assert way("bob@a.example", "x@far.example", **{name: table}).startswith("delayed 4.3.0 ")


MOVED = "inline:{ { old@far.example=new@there.example }, { @gone.example=nowhere }, jane=jane@new.example }"


@honours("relocated_maps", "relocated_prefix_enable")
@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("old@far.example", "failed 5.1.6 User has moved to new@there.example"),
        ("OLD+x@far.example", "failed 5.1.6 User has moved to new@there.example"),
        ("x@gone.example", "failed 5.1.6 User has moved to nowhere"),
        ("jane@here.example", "failed 5.1.6 User has moved to jane@new.example"),
        ("new@far.example", "smtp:[isp]"),
    ],
)
def test_who_has_moved(recipient: str, expected: str) -> None:
    assert way("a@b.example", recipient, relocated_maps=MOVED) == expected
    text = way("a@b.example", recipient, relocated_maps=MOVED, relocated_prefix_enable="no")
    assert text == expected.replace("User has moved to ", "")


def refusal(recipient: str, **settings: str) -> str | None:
    found = asyncio.run(router(**settings).check_recipient(address(recipient)))
    return None if found is None else found.reply.text


@pytest.mark.parametrize(
    ("recipient", "settings", "expected"),
    [
        ("old@far.example", {"relocated_maps": MOVED}, "550 5.1.6 {}User has moved to new@there.example"),
        ("x@far.example", {"transport_maps": "inline:{ {far.example=error:5.7.1 no} }"}, "550 5.7.1 {}no"),
        ("x@far.example", {"transport_maps": "inline:{ {far.example=error:no} }"}, "550 5.1.1 {}no"),
        ("x@far.example", {"transport_maps": "inline:{ {far.example=retry:later} }"}, "450 4.1.1 {}later"),
        ("x@far.example", {"default_transport": "error:outside is closed"}, "550 5.1.1 {}outside is closed"),
        ("x@far.example", {"transport_maps": "inline:{ far.example=smtp: }"}, None),
        ("gone@here.example", {"relocated_maps": "inline:{ gone=x }"}, None),  # an alias of somebody who is there
        ("bob@here.example", {"local_transport": "error:5.1.1 nobody here"}, "550 5.1.1 {}nobody here"),
    ],
)
def test_a_client_hears_at_once_of_what_cannot_be_delivered(
    recipient: str, settings: dict[str, str], expected: str | None
) -> None:
    said = f"<{recipient}>: Recipient address rejected: "
    assert refusal(recipient, **settings) == (None if expected is None else expected.format(said))


def test_a_client_is_not_refused_because_a_table_is_away() -> None:
    with pytest.raises(TableTrouble):
        refusal("x@far.example", relocated_maps="broken:x")


@honours("show_user_unknown_table_name")
def test_the_table_that_lacks_a_recipient_need_not_be_named() -> None:
    named = refusal("bob@alias.example")
    assert named is not None
    assert named.endswith("User unknown in virtual alias table")
    silent = refusal("bob@alias.example", show_user_unknown_table_name="no")
    assert silent is not None
    assert silent.endswith("User unknown")
    assert way("a@b", "bob@alias.example", show_user_unknown_table_name="no") == "failed 5.1.1 User unknown"
