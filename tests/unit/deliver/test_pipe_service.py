"""The attributes of pipe services in master.cf."""

from __future__ import annotations

import pytest

from ekiden.config.errors import ConfigError
from ekiden.deliver.pipe_service import parse_pipe_service


def test_attributes() -> None:
    words = "flags=DRhu user=vmail:mail directory=/tmp eol=\\015\\n\\\\ size=100 argv=/bin/x -f user=y"
    service = parse_pipe_service("x", words.split())
    assert (service.user, service.group, service.directory, service.eol) == ("vmail", "mail", "/tmp", b"\r\n\\")
    assert (service.argv, service.size_limit) == (("/bin/x", "-f", "user=y"), 100)
    assert service.one_recipient
    assert not parse_pipe_service("x", ["user=a", "argv=/bin/x"]).one_recipient


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["user=a"], "argv= is missing"),
        (["argv=/bin/x"], "user= is missing"),
        (["user=a", "flags=Z", "argv=/bin/x"], "the flags are"),
        (["user=a", "flag=D", "argv=/bin/x"], "is none of"),
        (["user=a", "size=big", "argv=/bin/x"], "number of bytes"),
        (["user=a", "directory=here", "argv=/bin/x"], "full path"),
        (["user=a", "chroot=/x", "argv=/bin/x"], "chroot= is not honoured"),
        (["user=a", "argv=/bin/x", "${receipient}"], r"there is no \$receipient"),
    ],
)
def test_what_is_wrong_is_told(args: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"service x: pipe: .*{problem}"):
        parse_pipe_service("x", args)
