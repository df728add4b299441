"""The grammar of master.cf."""

from __future__ import annotations

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.master_cf import Endpoint, Service, parse_endpoint, read_master_cf
from ekiden.config.problem import Level
from support.requirements import require_conformance


def one(text: str) -> Service:
    read = read_master_cf(text, "master.cf")
    assert read.problems == ()
    [service] = read.services
    return service


def test_all_columns() -> None:
    assert one("smtp inet n - y 60? 20 smtpd") == Service(
        "smtp", "inet", private=False, chroot=True, wakeup=60, maxproc=20, command="smtpd", line=1
    )
    assert one("local unix - n n - - local") == Service("local", "unix", unprivileged=False, command="local", line=1)


def test_options_and_arguments() -> None:
    service = one(
        "# c\n587 inet n - n - - smtpd\n  -o smtpd_tls=yes -osyslog_name=postfix/x\n"
        "  -o { mynetworks = 1.2.3.4, { 5.6.7.8 } } -v\n# in between\n  -o {a=}\n"
    )
    assert service.overrides == {
        "smtpd_tls": "yes",
        "syslog_name": "postfix/x",
        "mynetworks": "1.2.3.4, { 5.6.7.8 }",
        "a": "",
    }
    assert (service.args, service.line) == (("-v",), 2)


def test_options_end_at_the_first_word() -> None:
    service = one("m unix - n n - - pipe -o a=b\n  flags=R user=x argv=/bin/m -o ${recipient} { two words }")
    assert service.overrides == {"a": "b"}
    assert service.args == ("flags=R", "user=x", "argv=/bin/m", "-o", "${recipient}", "two words")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("smtp inet n - n -", "6 of 8 columns"),
        ("smtp tcp n - n - - smtpd", "'tcp' is not a type of service"),
        ("smtp inet x - n - - smtpd", "column private: write y, n or -"),
        ("smtp inet n - n 1m - smtpd", "column wakeup"),
        ("smtp inet n - n - many smtpd", "column maxproc"),
        ("smtp inet n - n - - smtpd -o", "nothing behind"),
        ("smtp inet n - n - - smtpd -o a", "-o name=value"),
        ("smtp inet n - n - - smtpd -o { a=b", "there is no }"),
        ("smtp inet n - n - - smtpd -o {a=b}c", "white space behind the }"),
        ("::1:25 inet n - n - - smtpd", "brackets"),
        ("1.2.3.4:99999 inet n - n - - smtpd", "0 to 65535"),
        ("no-such-port inet n - n - - smtpd", "is not a port"),
        ("  -o a=b", "no service above"),
        ("a inet n - n - - smtpd \x01", "control character"),
    ],
)
def test_what_is_wrong_says_what_is_right(text: str, says: str) -> None:
    read = read_master_cf("\n" + text, "master.cf")
    assert read.services == ()
    [problem] = read.problems
    assert (problem.file, problem.line, problem.level) == ("master.cf", 2, Level.ERROR)
    assert says in problem.text


def test_the_last_of_two_services_holds() -> None:
    read = read_master_cf("25 inet n - n - - smtpd\n25 unix n - n - - smtp\n25 inet n - n - - smtpd -v\n", "f")
    assert [(service.type, service.line) for service in read.services] == [("inet", 3), ("unix", 2)]
    assert [str(problem) for problem in read.problems] == [
        "f:3: warning: service 25 inet is there twice: line 1 is lost"
    ]


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("25", Endpoint("", 25)),
        ("smtp", Endpoint("", 25)),
        ("submissions", Endpoint("", 465)),
        ("127.0.0.1:2525", Endpoint("127.0.0.1", 2525)),
        ("[::1]:2525", Endpoint("::1", 2525)),
        ("[127.0.0.1]:smtp", Endpoint("127.0.0.1", 25)),
        ("mx.example:25", Endpoint("mx.example", 25)),
    ],
)
def test_endpoints(name: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(name) == endpoint


@pytest.mark.parametrize(
    "name", ["", ":25", "[]:25", "[::1]25", "[::1", "::1", "a/b:1", "[[::1]]:2", "x:", "-1", "x:\u0663"]
)
def test_what_is_no_endpoint(name: str) -> None:
    with pytest.raises(ConfigError):
        parse_endpoint(name)


def test_endpoints_in_words() -> None:
    assert [str(parse_endpoint(name)) for name in ("25", "[::1]:2525", "a:smtp")] == ["25", "[::1]:2525", "a:25"]


def test_the_file_that_postfix_ships() -> None:
    path = require_conformance("postfix", "master.cf.default")
    read = read_master_cf(path.read_text(), "master.cf")
    assert read.problems == ()
    services = {(service.name, service.type): service for service in read.services}
    assert services["smtp", "inet"].command == "smtpd"
    assert "syslog_name" in services["relay", "unix"].overrides
    assert services["postlog", "unix-dgram"].maxproc == 1
