from __future__ import annotations

import pytest

from ekiden.config.snapshot import ParameterError, Parameters


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", ()),
        ("127.0.0.1", ("127.0.0.1:53",)),
        ("127.0.0.1:5300, [::1]:53 ::1", ("127.0.0.1:5300", "[::1]:53", "[::1]:53")),
        ("[2001:db8::1]", ("[2001:db8::1]:53",)),
    ],
)
def test_name_servers(text: str, servers: tuple[str, ...]) -> None:
    assert Parameters({"dns_resolvers": text}).dns_resolvers == servers


@pytest.mark.parametrize(
    "text", ["dns.example", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[::1", "[::1]x", "1.2.3", "127.0.0.1:5x"]
)
def test_name_servers_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="IP address with an optional port"):
        Parameters({"dns_resolvers": text})
