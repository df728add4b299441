"""What ``ekiden check`` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.check import check
from ekiden.config.load import build
from ekiden.config.postfix_names import postfix_defaults
from support.requirements import require_conformance


def said(main: str = "", master: str | None = None) -> list[str]:
    return [str(problem).replace("/c/", "") for problem in check(build(Path("/c"), main, master, hostname="mx.x.y"))]


def test_a_good_configuration_is_not_talked_about() -> None:
    master = "smtp inet n - n - - smtpd -o myorigin=$own\nanvil unix - - n - 1 anvil\n"
    assert said("myorigin = $mydomain\nown = x\n", master) == []


def test_unknown_names_have_the_nearest_known_one() -> None:
    assert said("\nmydestinaton = x\n") == [
        "main.cf:2: warning: unknown parameter mydestinaton; did you mean mydestination?"
    ]
    assert said("qqqqqqqq = x\n") == ["main.cf:1: warning: unknown parameter qqqqqqqq"]
    assert said("", "25 inet n - n - - smtpd -o mydestinaton=x\n") == [
        "master.cf:1: warning: unknown parameter mydestinaton; did you mean mydestination? (-o in 25)"
    ]


def test_names_of_postfix_that_are_not_honoured_are_said_so() -> None:
    assert said("milter_default_action = shutdown\nrelay_minimum_delivery_slots = 5\n") == [
        "main.cf:1: info: milter_default_action is a parameter of Postfix that Ekiden does not honour yet",
        "main.cf:2: warning: relay_minimum_delivery_slots is a parameter of Postfix that Ekiden does not honour yet",
    ]


def test_limits_of_one_transport() -> None:
    main = "lmtp_destination_concurrency_failed_cohort_limit = 5\nlmtp_initial_destination_concurrency = few\n"
    assert said(main) == [
        "main.cf:2: error: lmtp_initial_destination_concurrency = few: must be a whole number from 1 up"
    ]


def test_services() -> None:
    master = (
        "25 inet n - y - - smtpd\n"
        "smtp inet n - n - - smtpd\n"
        "a unix - - n - - smptd\n"
        "b unix - - n - - spawn\n"
        "26 inet n - n - - smtp\n"
        "c pass - - n - - lmtpd\n"
        "d unix - - n - - xyz\n"
        "e unix - - n - - smtpd\n"
        "lmtp unix n - n - - lmtpd\n"
        "127.0.0.1:26 inet n - n - - lmtpd\n"
        "127.0.0.2:25 inet n - n - - lmtpd\n"
    )
    assert said("", master) == [
        "master.cf:1: info: chroot = y is not honoured (25): no process changes its root; write n",
        "master.cf:2: error: service smtp listens on 25, where 25 of line 1 does",
        "master.cf:3: error: service a: unknown command 'smptd'; did you mean smtpd?",
        "master.cf:4: warning: service b: spawn is not there yet; this service is not started",
        "master.cf:5: error: service 26: smtp does not listen on the network; only smtpd and lmtpd do",
        "master.cf:6: warning: service c: lmtpd is of type inet or unix here; type pass is not served yet",
        "master.cf:7: error: service d: unknown command 'xyz'; the commands are bounce, cleanup, discard, error, lmtp, "
        "lmtpd, local, pickup, pipe, qmgr, reports, smtp, smtpd, tlsrpt, virtual",
        "master.cf:11: error: service 127.0.0.2:25: LMTP must not be spoken on port 25, which is SMTP's (RFC 2033 §5)",
    ]
    assert said("", "smtp unix - - n - - smtp\n") == [
        "master.cf: warning: no service of type inet: nothing listens for mail"
    ]


def test_what_load_found_is_there_too() -> None:
    assert said("nonsense\n") == ["main.cf:1: error: 'nonsense' has no '=': write name = value"]


def test_the_names_of_postfix_are_all_there() -> None:
    table = require_conformance("postfix", "main.cf-parameters.tsv").read_text().splitlines()[1:]
    assert {row.split("\t")[0] for row in table} == set(postfix_defaults())


@pytest.mark.parametrize("name", ["luser_relay", "forward_path", "command_execution_directory", "smtpd_reject_footer"])
def test_text_that_no_delivery_could_expand_is_an_error_at_its_line(name: str) -> None:
    configuration = build(Path("/etc/x"), f"{name} = /x/${{user\n", None)
    [problem] = configuration.errors
    assert str(problem).startswith(f"/etc/x/main.cf:1: error: {name} = /x/${{user: ")
    assert "bracket is not closed" in problem.text
    assert not build(Path("/etc/x"), f"{name} = /x/${{user?{{$user}}:{{none}}}}\n", None).errors


def test_the_dollars_of_a_command_are_the_shells() -> None:
    assert not build(Path("/etc/x"), 'mailbox_command = /usr/bin/x "$1" $? ${\n', None).errors
