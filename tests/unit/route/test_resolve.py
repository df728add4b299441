from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.delivery import Action, DeliveryResult, Route
from ekiden.message.reply import Refusal
from ekiden.policy import relay_access
from ekiden.policy.relay_access import RelayAccess
from ekiden.route.own_addresses import own_addresses
from ekiden.route.resolve import Router
from ekiden.tables.open import open_table
from ekiden.tables.table import Table, TableTrouble
from support.honours import honours

BASE = {
    "myhostname": "mx.here.example",
    "mydomain": "here.example",
    "mydestination": "here.example, $myhostname, localhost, bücher.example",
    "virtual_alias_domains": "alias.example",
    "virtual_alias_maps": "inline:{ a@alias.example=b@here.example, @all.example=x@y, vuser=z@y }",
    "virtual_mailbox_domains": "virtual.example, all.example",
    "virtual_mailbox_maps": "inline:{ user@virtual.example=user/ }",
    "relay_domains": "relay.example, .dots.example",
    "recipient_delimiter": "+",
}
OWN = frozenset({"192.0.2.99", "2001:db8::99"})


class BrokenTable(Table):
    name = "broken:x"

    async def lookup(self, key: str) -> str | None:
        raise TableTrouble("broken:x does not answer")


def opener(word: str) -> Table:
    return BrokenTable() if word.startswith("broken:") else open_table(word)


class Aliases:
    async def lookup(self, key: str) -> list[str] | None:
        return ["root"] if key in ("staff", "list+x") else None


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@") if "@" in text else (text, "", "")
    return Address(local, domain)


def router(**settings: str) -> Router:
    return Router(
        Parameters({**BASE, **settings}),
        own_addresses=OWN,
        user_exists=lambda name: name == "jane",
        local_aliases=Aliases(),
        open_table=opener,
    )


def way(text: str, **settings: str) -> str:
    found = asyncio.run(router(**settings).resolve(address(text), NULL_SENDER))
    if isinstance(found, DeliveryResult):
        return f"{found.action.value} {found.status} {found.text}"
    assert found.address == address(text)
    return f"{found.transport}:{found.next_hop}"


@honours("mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains")
@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("jane@here.example", "local:mx.here.example"),
        ("jane@HERE.example", "local:mx.here.example"),
        ("jane@here.example.", "local:mx.here.example"),
        ("jane", "local:mx.here.example"),
        ("postmaster", "local:mx.here.example"),
        ("jane@BÜCHER.example", "local:mx.here.example"),
        ("jane@xn--bcher-kva.example", "local:mx.here.example"),
        ("jane@[192.0.2.99]", "local:mx.here.example"),
        ("jane@[IPv6:2001:db8:0::99]", "local:mx.here.example"),
        ("jane@[192.0.2.1]", "smtp:[192.0.2.1]"),
        ("a@alias.example", "failed 5.1.1 User unknown in virtual alias table"),
        ("user@virtual.example", "virtual:virtual.example"),
        ("x@relay.example", "relay:relay.example"),
        ("x@sub.relay.example", "relay:sub.relay.example"),  # relay_domains is in parent_domain_matches_subdomains
        ("x@far.example", "smtp:far.example"),
        ("x@sub.here.example", "smtp:sub.here.example"),
        ("x%far.example@here.example", "local:mx.here.example"),  # never routed by its local part
    ],
)
def test_each_class_of_domain_has_its_transport(recipient: str, expected: str) -> None:
    assert way(recipient) == expected


@honours("relayhost")
def test_relayhost_is_for_all_that_is_not_ours() -> None:
    relayhost = "[relay.isp]:587"
    assert way("x@far.example", relayhost=relayhost) == "smtp:[relay.isp]:587"
    assert way("x@relay.example", relayhost=relayhost) == "relay:[relay.isp]:587"
    assert way("user@virtual.example", relayhost=relayhost) == "virtual:virtual.example"
    assert way("jane@here.example", relayhost=relayhost) == "local:mx.here.example"


@honours("default_transport", "virtual_transport", "local_transport")
def test_the_transport_parameters_may_name_a_next_hop() -> None:
    assert way("x@far.example", default_transport="smtp:[a]", relayhost="[b]") == "smtp:[a]"
    assert way("u@virtual.example", virtual_transport="lmtp:unix:/run/lmtp") == "lmtp:unix:/run/lmtp"
    assert way("jane@here.example", local_transport="error:5.1.1 closed") == "error:5.1.1 closed"


@honours("transport_maps")
@pytest.mark.parametrize(
    ("recipient", "value", "expected"),
    [
        ("x@far.example", "smtp:[h]:25", "smtp:[h]:25"),
        ("x@far.example", "relay:", "relay:far.example"),  # not the relayhost
        ("x@far.example", ":[h]", "smtp:[h]"),
        ("x@far.example", ":", "smtp:[isp]"),
        ("x@far.example", "lmtp:unix:/p", "lmtp:unix:/p"),
        ("x@far.example", "error:5.1.1 gone", "error:5.1.1 gone"),
        ("x@far.example", "retry:4.4.1 later", "retry:4.4.1 later"),
        ("x@far.example", "discard:", "discard:far.example"),
        ("jane@here.example", ":[h]", "local:[h]"),
        ("u@virtual.example", "smtp:[h]", "smtp:[h]"),
        ("jane", "smtp:", "smtp:mx.here.example"),
        ("x@alias.example", ":[h]", "failed 5.1.1 User unknown in virtual alias table"),
        ("x@alias.example", "smtp:[h]", "failed 5.1.1 User unknown in virtual alias table"),
        ("x@far.example", "error:", "error:Address is undeliverable"),
        ("x@far.example", "retry", "retry:Address is undeliverable"),
    ],
)
def test_transport_maps_come_first(recipient: str, value: str, expected: str) -> None:
    assert way(recipient, transport_maps=f"inline:{{ {{ * = {value} }} }}", relayhost="[isp]") == expected


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("u+ext@far.example", "a:1"),
        ("U@far.example", "b:2"),
        ("v@far.example", "c:3"),
        ("v@sub.far.example", "d:4"),
        ("v@other.example", "smtp:other.example"),
    ],
)
def test_the_order_of_transport_keys(recipient: str, expected: str) -> None:
    maps = "inline:{ u+ext@far.example=a:1, u@far.example=b:2, far.example=c:3, .far.example=d:4 }"
    assert way(recipient, transport_maps=maps) == expected


@pytest.mark.parametrize("name", ["transport_maps", "mydestination", "relay_domains", "virtual_mailbox_domains"])
def test_a_table_that_does_not_answer_defers(name: str) -> None:
    parameters = Parameters({**BASE, name: "broken:x"})
    broken = Router(parameters, own_addresses=OWN, open_table=opener, local_aliases=Aliases())
    result = asyncio.run(broken.resolve(address("x@far.example"), NULL_SENDER))
    assert isinstance(result, DeliveryResult)
    assert (result.action, str(result.status)) == (Action.DELAYED, "4.3.0")


def test_a_class_that_a_table_decides_is_not_remembered() -> None:
    class Changing(Table):
        name = "changing:x"
        here = True

        async def lookup(self, key: str) -> str | None:
            return "x" if self.here and key == "moves.example" else None

    table = Changing()
    routes = Router(
        Parameters({**BASE, "relay_domains": "changing:x"}),
        open_table=lambda word: table if word == "changing:x" else open_table(word),
    )
    asked = address("x@moves.example")
    assert asyncio.run(routes.resolve(asked, NULL_SENDER)) == Route("relay", "moves.example", asked)
    table.here = False
    assert asyncio.run(routes.resolve(asked, NULL_SENDER)) == Route("smtp", "moves.example", asked)


@pytest.mark.parametrize(
    ("recipient", "allowed"),
    [
        ("x@here.example", True),
        ("x", True),
        ("x@virtual.example", True),
        ("x@alias.example", True),
        ("x@relay.example", True),
        ("x@a.b.relay.example", True),
        ("x@[192.0.2.99]", True),
        ("x@far.example", False),
        ("x@notrelay.example", False),
        ("x@relay.example.far.example", False),
        ("x@[192.0.2.1]", False),
        ("x@[here.example]", False),
        ("user%far.example@here.example", False),
        ("far.example!user@here.example", False),
        ("user@far.example@here.example", False),  # was quoted
        ("@here.example:user@far.example", False),
        ("@far.example,@b.example:user@here.example", False),
        ("user%far.example@relay.example", False),
        ("user%far.example", False),
        ("far.example!user", False),
        ("@here.example", False),
        ("x@", True),  # no domain at all: a name of this host
        ("x@here.example.", True),
        ("x@here.example\x00.far.example", False),
        ("x@here.example%far.example", False),
    ],
)
def test_who_anybody_may_send_to(recipient: str, allowed: bool) -> None:
    assert asyncio.run(router().is_relay_allowed_destination(address(recipient))) is allowed


def test_the_null_address_is_no_destination() -> None:
    assert asyncio.run(router().is_relay_allowed_destination(NULL_SENDER)) is False


@honours("resolve_dequoted_address", "allow_untrusted_routing")
def test_what_was_quoted_may_be_a_name_and_nothing_else() -> None:
    careful, trusting = router(), router(resolve_dequoted_address="no")
    asked = Address("user@far.example", "here.example")
    assert asyncio.run(careful.is_relay_allowed_destination(asked)) is False
    assert asyncio.run(trusting.is_relay_allowed_destination(asked)) is True
    assert asyncio.run(trusting.is_relay_allowed_destination(address("user%far.example@here.example"))) is False
    open_router = router(allow_untrusted_routing="yes")
    assert asyncio.run(open_router.is_relay_allowed_destination(address("user%far.example@here.example"))) is True


@pytest.mark.parametrize(
    ("recipient", "settings", "is_remembered"),
    [
        ("x@relay.example", {}, True),
        ("x@RELAY.example", {}, True),
        ("x@far.example", {}, False),  # relaying is denied
        ("user%far.example@relay.example", {}, False),
        ("jane@here.example", {}, False),  # who has an account may change
        ("user@virtual.example", {}, False),
        ("x@relay.example", {"virtual_alias_maps": "texthash:/x"}, False),
        ("x@relay.example", {"relay_recipient_maps": "inline:{x@relay.example=y}"}, False),
        ("x@relay.example", {"transport_maps": "inline:{z.example=error:no}"}, False),
        ("x@relay.example", {"relocated_maps": "inline:{z@relay.example=elsewhere}"}, False),
        ("x@relay.example", {"relay_transport": "error:closed"}, False),
        ("x@relay.example", {"relay_domains": "relay.example, inline:{y.example=y}"}, True),
        ("x@relay.example", {"relay_domains": "relay.example, texthash:/y"}, False),
    ],
)
def test_only_a_recipient_that_no_table_has_a_say_in_is_remembered(
    recipient: str, settings: dict[str, str], is_remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing(Table):
        async def lookup(self, key: str) -> str | None:
            return None

    # (Where aliases are mapped, any address may be one.)
    parameters = Parameters({**BASE, "virtual_alias_maps": "", **settings})
    routes = Router(
        parameters,
        user_exists=lambda name: name == "jane",
        local_aliases=Aliases(),
        open_table=lambda word: Nothing() if word.startswith("texthash:") else open_table(word),
    )
    access, asked = RelayAccess(routes), address(recipient)
    assert not access.is_open(asked)
    asyncio.run(access.check(asked, trusted=True))
    assert not access.is_open(asked)  # who may send anywhere says nothing about others
    asyncio.run(access.check(asked, trusted=False))
    assert access.is_open(asked) is is_remembered
    # What is remembered is bounded.
    monkeypatch.setattr(relay_access, "_REMEMBERED", 1)
    asyncio.run(access.check(Address("other", "relay.example"), trusted=False))
    assert not access.is_open(asked)


def refusal(recipient: str, **settings: str) -> str | None:
    found: Refusal | None = asyncio.run(router(**settings).check_recipient(address(recipient)))
    return None if found is None else found.reply.text


@honours("virtual_alias_maps")
@pytest.mark.parametrize(
    "recipient",
    [
        "jane@here.example",
        "JANE@here.example",
        "jane+lists@here.example",
        "jane",
        "staff@here.example",
        "Staff+x@localhost",
        "list+x@here.example",
        "postmaster",
        "Postmaster@here.example",
        "double-bounce@here.example",
        "vuser@here.example",  # virtual_alias_maps have it, for local domains without domain
        "a@alias.example",
        "A+ext@alias.example",
        "user@virtual.example",
        "user+ext@virtual.example",
        "anybody@all.example",
        "anybody@relay.example",
        "anybody@far.example",
    ],
)
def test_recipients_that_exist(recipient: str) -> None:
    assert refusal(recipient) is None


@pytest.mark.parametrize(
    ("recipient", "table"),
    [
        ("joe@here.example", "local recipient"),
        ("joe", "local recipient"),
        ("postmaster@alias.example", "virtual alias"),
        ("vuser@alias.example", "virtual alias"),
        ("b@virtual.example", "virtual mailbox"),
        ("jane%far.example@here.example", "local recipient"),
    ],
)
def test_recipients_that_do_not(recipient: str, table: str) -> None:
    expected = f"550 5.1.1 <{recipient}>: Recipient address rejected: User unknown in {table} table"
    assert refusal(recipient) == expected


@honours("relay_recipient_maps")
def test_relay_recipients_can_be_listed() -> None:
    settings = {"relay_recipient_maps": "inline:{ x@relay.example=ok }"}
    assert refusal("x@relay.example", **settings) is None
    assert refusal("y@relay.example", **settings) == (
        "550 5.1.1 <y@relay.example>: Recipient address rejected: User unknown in relay recipient table"
    )


@honours("local_recipient_maps")
def test_local_recipients_need_not_be_listed() -> None:
    assert refusal("joe@here.example", local_recipient_maps="") is None
    listed = "inline:{ joe=x, @here.example2=x }"
    assert refusal("joe@here.example", local_recipient_maps=listed) is None
    assert refusal("jane@here.example", local_recipient_maps=listed) is not None


def test_unread_aliases_make_nobody_unknown() -> None:
    unread = Router(Parameters(BASE), user_exists=lambda name: False)
    assert asyncio.run(unread.check_recipient(address("joe@here.example"))) is None


def test_the_code_of_a_refusal_can_be_softened() -> None:
    text = refusal("joe@here.example", unknown_local_recipient_reject_code="450")
    assert text is not None
    assert text.startswith("450 4.1.1 ")


def test_tables_in_trouble_are_not_an_unknown_user() -> None:
    routes = Router(
        Parameters({**BASE, "virtual_mailbox_maps": "broken:x"}),
        open_table=opener,
    )
    with pytest.raises(TableTrouble):
        asyncio.run(routes.check_recipient(address("x@virtual.example")))


@pytest.mark.parametrize("maps", ["virtual_alias_maps", "recipient_canonical_maps"])
@pytest.mark.parametrize("domain", ["here.example", "virtual.example", "relay.example"])
def test_recipients_that_nobody_lists_are_asked_of_maps_that_may_change_them(maps: str, domain: str) -> None:
    unlisted = {**BASE, "local_recipient_maps": "", "virtual_mailbox_maps": "", "relay_recipient_maps": ""}
    free = Router(Parameters(unlisted), open_table=opener)
    assert asyncio.run(free.check_recipient(address(f"x@{domain}"))) is None
    mapped = Router(Parameters({**unlisted, maps: "broken:x"}), open_table=opener)
    with pytest.raises(TableTrouble):
        asyncio.run(mapped.check_recipient(address(f"x@{domain}")))


@honours(
    "unknown_local_recipient_reject_code",
    "unknown_relay_recipient_reject_code",
    "unknown_virtual_alias_reject_code",
    "unknown_virtual_mailbox_reject_code",
)
@pytest.mark.parametrize(
    ("name", "recipient"),
    [
        ("local_recipient", "joe@here.example"),
        ("relay_recipient", "joe@relay.example"),
        ("virtual_alias", "joe@alias.example"),
        ("virtual_mailbox", "joe@virtual.example"),
    ],
)
def test_each_class_of_unknown_recipients_has_its_code(name: str, recipient: str) -> None:
    listed = {"relay_recipient_maps": "inline:{ x@relay.example=ok }"}
    for code in ("450", "554"):
        text = refusal(recipient, **listed, **{f"unknown_{name}_reject_code": code})
        assert text is not None
        assert text.startswith(f"{code} {code[0]}.1.1 ")


@honours("proxy_interfaces")
def test_mail_for_an_address_of_a_proxy_is_ours() -> None:
    own = own_addresses(["127.0.0.1"], Parameters({"proxy_interfaces": "203.0.113.9"}).proxy_interfaces)
    for addresses, transport in ((own, "local"), (own_addresses(["127.0.0.1"]), "smtp")):
        routes = Router(Parameters(BASE), own_addresses=addresses)
        found = asyncio.run(routes.resolve(address("x@[203.0.113.9]"), NULL_SENDER))
        assert isinstance(found, Route)
        assert found.transport == transport
