"""The same main.cf in Postfix and here: every recipient and sender gets the same transport and next hop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.delivery import Action, DeliveryResult
from ekiden.route.resolve import Router
from support.honours import honours
from support.trivial_rewrite import TrivialRewrite

BASE = {
    "myhostname": "mx.here.example",
    "mydomain": "here.example",
    "myorigin": "here.example",
    "mydestination": "here.example, $myhostname",
    "virtual_alias_domains": "alias.example",
    "virtual_alias_maps": "",
    "virtual_mailbox_domains": "virtual.example",
    "relay_domains": "relay.example",
    "recipient_delimiter": "+",
    "inet_interfaces": "127.0.0.1",
}
TABLES = {
    **BASE,
    "relayhost": "[isp.example]",
    "transport_maps": "inline:{ {user+ext@far.example=smtp:[ext]}, {user@far.example=smtp:[user]}, far.example=relay:,"
    " {.far.example=:[sub]:26}, keep.example=:, {er.example=error:5.7.1 no}, er2.example=error, re.example=retry:,"
    " gone.example=discard:, {relay.example=lmtp:unix:/p}, alias.example=smtp:[x], {here.example=:[h]} }",
    "sender_dependent_relayhost_maps": "inline:{ ann@a.example=[ann], @a.example=[a]:587, @off.example=DUNNO, <>=[n] }",
    "sender_dependent_default_transport_maps": "inline:{ {tim@a.example=slow}, {tom@a.example=lmtp:unix:/t} }",
    "relocated_maps": "inline:{ {moved@keep.example=new@there.example}, {jane=away} }",
}
SETTINGS = {
    "plain": BASE,
    "relayhost": {**BASE, "relayhost": "isp.example:587"},
    "transports": {
        **BASE,
        "local_transport": "lmtp:unix:/run/l",
        "virtual_transport": "lmtp:[127.0.0.1]:24",
        "relay_transport": "relay:[inner.example]",
        "default_transport": "error:5.7.1 outside is closed",
        "relayhost": "[isp.example]",
    },
    "no next hops": {**BASE, "local_transport": "local", "relay_transport": "smtp:", "virtual_transport": "virtual:"},
    "tables": TABLES,
    "parents": {**TABLES, "parent_domain_matches_subdomains": "transport_maps, relay_domains"},
    "wildcard": {**BASE, "transport_maps": "inline:{ *=relay:, {here.example=local:$myhostname} }"},
    "null keys": {
        **BASE,
        "sender_dependent_relayhost_maps": "inline:{ nobody=[r] }",
        "empty_address_relayhost_maps_lookup_key": "nobody",
        "sender_dependent_default_transport_maps": "inline:{ nothing=slow }",
        "empty_address_default_transport_maps_lookup_key": "nothing",
    },
}
RECIPIENTS = (
    *("jane@here.example", "joe@HERE.example", "x@sub.here.example", "a@alias.example", "u@virtual.example"),
    *("u@relay.example", "u@sub.relay.example", "u@far.example", "user@far.example", "user+ext@far.example"),
    *("user+o@far.example", "u@a.sub.far.example", "u@keep.example", "moved@keep.example", "x@er.example"),
    *("x@er2.example", "x@re.example", "x@gone.example", "x@[192.0.2.1]", "x@[127.0.0.1]", "x@other.example."),
)
SENDERS = ("", "ann@a.example", "ann+x@a.example", "bob@a.example", "bob@off.example", "tim@a.example", "tom@a.example")
# Every recipient from one sender; where the sender matters, a few recipients from each.
PAIRS = [("bob@b.example", recipient) for recipient in RECIPIENTS] + [
    (sender, recipient) for sender in SENDERS for recipient in ("u@other.example", "u@relay.example", "u@far.example")
]


def ours(router: Router, sender: str, recipient: str) -> str:
    async def ask() -> str:
        local, _, domain = recipient.rpartition("@")
        from_local, _, from_domain = sender.rpartition("@")
        found = await router.resolve(
            Address(local, domain), Address(from_local, from_domain) if sender else NULL_SENDER
        )
        if not isinstance(found, DeliveryResult):
            return f"{found.transport}:{found.next_hop}"
        # Postfix has the error transport say what is a result here.
        return "trouble" if found.action is Action.DELAYED else f"error:{found.status} {found.text}"

    return asyncio.run(ask())


@honours(
    "transport_maps",
    "local_transport",
    "virtual_transport",
    "relay_transport",
    "default_transport",
    "relayhost",
    "parent_domain_matches_subdomains",
)
@pytest.mark.parametrize("name", SETTINGS)
def test_postfix_sends_it_the_same_way(name: str, tmp_path: Path) -> None:
    settings = SETTINGS[name]
    postfix = TrivialRewrite(tmp_path / "postfix", settings)
    router = Router(Parameters(settings), own_addresses=frozenset({"127.0.0.1"}))
    # The sender matters only where a table has it.
    pairs = PAIRS if any(key.startswith("sender_dependent") for key in settings) else PAIRS[: len(RECIPIENTS)]
    with ThreadPoolExecutor(4) as threads:
        theirs = dict(zip(pairs, threads.map(lambda pair: postfix.ask(*pair), pairs), strict=True))
    # A domain that is a next hop is written in lower case here, so that mail for it is grouped.
    assert {pair: ours(router, *pair).lower() for pair in pairs} == {pair: way.lower() for pair, way in theirs.items()}
