"""A directory becomes one value, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.directory import find_directory
from ekiden.config.load import Configuration, build, load
from ekiden.config.main_cf import Setting
from ekiden.config.problem import Level
from support.honours import honours


def built(
    main: str | None = None, master: str | None = None, hostname: str = "mx.example.com", **overrides: str
) -> Configuration:
    return build(Path("/c"), main, master, overrides, hostname=hostname)


def errors(configuration: Configuration) -> list[str]:
    return [str(problem) for problem in configuration.errors]


def test_nothing_at_all_is_a_safe_configuration() -> None:
    configuration = built()
    assert configuration.problems == ()
    [listener] = [service for service in configuration.services if service.type == "inet"]
    assert str(listener.endpoint) == "127.0.0.1:2525"
    assert configuration.parameters.mynetworks == ("127.0.0.0/8", "[::1]/128")
    assert configuration.parameters.config_directory == "/c"


def test_a_master_cf_has_its_listeners_and_the_built_in_transports() -> None:
    configuration = built(master="127.0.0.1:26 inet n - n - - smtpd\nsmtp unix - - n - 5 smtp -o a=b\n")
    assert [service.name for service in configuration.services if service.type == "inet"] == ["127.0.0.1:26"]
    [smtp] = [service for service in configuration.services if service.name == "smtp"]
    assert (smtp.maxproc, smtp.line) == (5, 2)
    assert {"relay", "lmtp", "local", "virtual", "error", "retry", "discard"} <= {
        service.name for service in configuration.services
    }


@honours("myhostname", "mydomain")
@pytest.mark.parametrize(
    ("main", "hostname", "myhostname", "mydomain"),
    [
        ("", "mx.example.com", "mx.example.com", "example.com"),
        ("", "mx", "mx.localdomain", "localdomain"),
        ("", "", "localhost.localdomain", "localdomain"),
        ("mydomain = example.org", "mx", "mx.example.org", "example.org"),
        ("mydomain = example.org", "mx.example.com", "mx.example.com", "example.org"),
        ("myhostname = a.b.c", "mx.example.com", "a.b.c", "b.c"),
        ("myhostname = a", "mx.example.com", "a", "localdomain"),
        ("myhostname = a.$mydomain", "mx.example.com", "a.example.com", "example.com"),
        ("myhostname = a.$x\nx = y.z", "mx", "a.y.z", "y.z"),
    ],
)
def test_the_names_of_the_host(main: str, hostname: str, myhostname: str, mydomain: str) -> None:
    parameters = built(main, hostname=hostname).parameters
    assert (parameters.myhostname, parameters.mydomain) == (myhostname, mydomain)


def test_overrides_go_before_main_cf_and_dollars_in_the_directory_are_no_references() -> None:
    configuration = build(Path("/a$b"), "myorigin = x", None, {"myorigin": "y"}, hostname="h")
    assert configuration.parameters.myorigin == "y"
    assert configuration.parameters.config_directory == "/a$b"
    assert configuration.place("myorigin") == ("command line", 0)


def test_every_wrong_value_has_its_line_and_the_default_stands_in() -> None:
    configuration = built("worker_processes = many\n\nstop_timeout = 5 parsecs\nmyorigin = $myorigin\n")
    assert sorted(errors(configuration)) == [
        "/c/main.cf:1: error: worker_processes = many: must be a whole number from 0 to 1024",
        "/c/main.cf:3: error: stop_timeout = 5 parsecs: must be a whole number with one of the units s, m, h, d, w, "
        "such as 30s or 5d",
        "/c/main.cf:4: error: myorigin = $myorigin: $myorigin refers to itself through myorigin -> myorigin",
    ]
    assert configuration.parameters.worker_processes == 0


@pytest.mark.parametrize(
    "main",
    ["mydomain = ${nowhere", "myhostname = $", "mydomain = $mydomain", "x = $y\ny = $x\nmyhostname = $x"],
)
def test_the_setting_to_blame_is_found_behind_a_default(main: str) -> None:
    configuration = built(main, hostname="mx")
    assert errors(configuration)[0].startswith("/c/main.cf:")
    assert len(errors(configuration)) == 1


def test_expansion_is_bounded() -> None:
    bomb = "".join(f"a{n} = $a{n + 1}$a{n + 1}\n" for n in range(60)) + "a60 = x\nmyorigin = $a0\n"
    assert "too many" in errors(built(bomb))[0]
    long = "".join(f"a{n} = $a{n + 1}\n" for n in range(5000)) + "a5000 = x\nmyorigin = $a0\n"
    assert "too many" in errors(built(long))[0]
    wide = "big = " + "x" * 600_000 + "\nmyorigin = $big$big\n"
    assert "longer than" in errors(built(wide))[0]


def test_wrong_overrides_of_a_service_have_the_line_of_the_service() -> None:
    configuration = built(master="\n25 inet n - n - - smtpd -o worker_processes=x\n")
    assert errors(configuration) == [
        "/c/master.cf:2: error: worker_processes = x: must be a whole number from 0 to 1024 (in the service 25)"
    ]
    assert configuration.services[0].overrides == {}


def test_parameters_of_a_service() -> None:
    configuration = built("myorigin = a\n", "25 inet n - n - - smtpd -o myorigin=$mydomain\n")
    assert configuration.parameters_of(configuration.services[0]).myorigin == "example.com"
    assert configuration.parameters.myorigin == "a"


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_bytes(b"mail_name = caf\xe9\nx = \xff\n")
    configuration = load(tmp_path, hostname="h")
    assert configuration.problems == ()
    assert configuration.parameters.mail_name == "caf\udce9"
    assert configuration.settings["mail_name"] == Setting("mail_name", "caf\udce9", 1)


def test_a_directory_that_is_not_there_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert errors(load(tmp_path / "none", hostname="h")) == [f"{tmp_path}/none: error: there is no such directory"]
    (tmp_path / "main.cf").mkdir()
    assert errors(load(tmp_path, hostname="h")) == [f"{tmp_path}/main.cf: error: cannot be read: Is a directory"]


def test_where_the_directory_is() -> None:
    assert find_directory("/x", {"EKIDEN_CONFIG": "/y"}) == Path("/x")
    assert find_directory(None, {"EKIDEN_CONFIG": "/y"}) == Path("/y")
    assert find_directory(None, {}) == Path("/etc/ekiden")
    assert find_directory("x", {}).is_absolute()


def test_no_default_is_wrong() -> None:
    assert all(problem.level is not Level.ERROR for problem in built("").problems)
