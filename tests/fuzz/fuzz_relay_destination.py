"""No address of a foreign domain, and none whose local part could be read as a route, is taken from anybody."""

from __future__ import annotations

from ekiden.config.snapshot import Parameters
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.delivery import Route
from ekiden.route.resolve import Router

SEEDS = [
    b"user@here.example",
    b"user%far.example@here.example",
    b"far.example!user@here.example",
    b"user@far.example@here.example",
    b"@here.example:user@far.example",
    b"user@[192.0.2.99]",
    b"user@[IPv6:2001:db8::99]",
    b"user@HERE.example.",
    b"user@sub.relay.example",
    b"user@here.example.far.example",
    "user@bücher.example".encode(),
    b"postmaster",
]
_ROUTER = Router(
    Parameters(
        {
            "myhostname": "mx.here.example",
            "mydestination": "here.example, bücher.example",
            "relay_domains": "relay.example",
            "local_recipient_maps": "",
        }
    ),
    own_addresses=frozenset({"192.0.2.99", "2001:db8::99"}),
    user_exists=lambda name: False,
)
_OURS = ("here.example", "xn--bcher-kva.example", "relay.example")


def _now(work: object) -> object:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)  # type: ignore[attr-defined]
    except StopIteration as done:
        return done.value
    raise AssertionError("routing waited")


def one_input(data: bytes) -> None:
    local, at, domain = data.decode("utf-8", "surrogateescape").rpartition("@")
    address = Address(local, domain) if at else Address(domain)
    allowed = _now(_ROUTER.is_relay_allowed_destination(address))
    route = _now(_ROUTER.resolve(address, NULL_SENDER))
    assert isinstance(route, Route)
    if allowed:
        assert address.local
        assert not set("@%!") & set(address.local)
        assert route.transport in ("local", "relay")
        if address.domain.isascii() and not address.domain.startswith("["):
            bare = address.domain.lower().removesuffix(".")
            assert not bare or bare in _OURS or bare.endswith(".relay.example")
    _now(_ROUTER.check_recipient(address))
