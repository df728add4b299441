from __future__ import annotations

import pytest
from msgspec.structs import replace

from ekiden.message.delivery import Route, failed
from ekiden.message.status import Status
from support.fake_clock import until
from support.honours import honours
from support.queue_world import World, address


@honours("default_filter_nexthop")
@pytest.mark.parametrize(
    ("content_filter", "default", "next_hops"),
    [
        ("amavis:[127.0.0.1]:10024", "", ["[127.0.0.1]:10024"]),
        ("amavis:[127.0.0.1]:10024", "other.example", ["[127.0.0.1]:10024"]),
        ("amavis:", "", ["far.example", "near.example"]),
        ("amavis", "", ["far.example", "near.example"]),
        ("amavis:", "filter.example", ["filter.example"]),
    ],
)
def test_a_content_filter_goes_before_every_route(content_filter: str, default: str, next_hops: list[str]) -> None:
    world = World(default_filter_nexthop=default)
    world.route = lambda to: (
        Route("smtp", "elsewhere", to) if to.domain == "far.example" else failed(Status(5, 1, 1), "nobody")
    )

    async def story() -> None:
        message = replace(world.message("bob@far.example", "ann@near.example"), content_filter=content_filter)
        await world.scheduler.accept(message)
        await until(lambda: not world.store.messages)
        assert sorted(request.next_hop for request in world.requests) == next_hops
        assert {request.transport for request in world.requests} == {"amavis"}
        delivered = {recipient.address for request in world.requests for recipient in request.recipients}
        assert delivered == {address("bob@far.example"), address("ann@near.example")}

    world.run(story)
