"""What DANE leans on and is not there is said beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.load import build
from ekiden.runtime.dnssec_check import check_dnssec
from ekiden.runtime.stations_check import check_stations


@pytest.mark.parametrize(
    ("main_cf", "resolvers", "expected"),
    [
        ("", "nameserver 192.0.2.53", []),
        ("smtp_tls_security_level = dane\n", "", ["main.cf:1: warning: smtp_tls_security_level = dane needs"]),
        (
            "lmtp_tls_security_level = dane-only\n",
            "",
            ["main.cf:1: warning: lmtp_tls_security_level = dane-only needs"],
        ),
        ("smtp_dns_support_level = dnssec\nsmtp_tls_security_level = dane\n", "nameserver 127.0.0.1", []),
        ("smtp_dns_support_level = dnssec\n", "nameserver 192.0.2.53\noptions trust-ad", []),
        ("smtp_dns_support_level = dnssec\ndns_resolvers = 192.0.2.53\n", "nameserver 192.0.2.53", []),
        (
            "x = y\nsmtp_dns_support_level = dnssec\n",
            "nameserver 192.0.2.53",
            ["main.cf:2: warning: smtp_dns_support_level = dnssec: no name server of"],
        ),
    ],
)
def test_what_is_said(tmp_path: Path, main_cf: str, resolvers: str, expected: list[str]) -> None:
    (tmp_path / "resolv.conf").write_text(resolvers)
    configuration = build(tmp_path, main_cf, None)
    found = [
        str(problem).removeprefix(f"{tmp_path}/") for problem in check_dnssec(configuration, tmp_path / "resolv.conf")
    ]
    assert len(found) == len(expected)
    assert all(text.startswith(begin) for text, begin in zip(found, expected, strict=True))


def test_it_is_part_of_the_check() -> None:
    configuration = build(Path("/etc/x"), "alias_maps =\nsmtp_tls_security_level = dane\n", None)
    assert any("needs smtp_dns_support_level = dnssec" in problem.text for problem in check_stations(configuration))
