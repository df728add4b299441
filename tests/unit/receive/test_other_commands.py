"""VRFY, ETRN and HELP: what they say, and what they must not."""

from __future__ import annotations

import pytest

from ekiden.receive.etrn import FlushTrouble
from support.honours import honours
from support.smtp_session import Talk, World, play


def said(*lines: str, world: World | None = None, **settings: str) -> list[str]:
    answers: list[str] = []

    async def talk(client: Talk) -> None:
        await client.hello()
        answers.extend([await client.say(line) for line in lines])

    play(world or World(**settings), talk)
    return answers


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("VRFY u@here.example", "252 2.0.0 u@here.example"),
        ("VRFY <u@here.example>", "252 2.0.0 u@here.example"),
        ("VRFY Postmaster", "252 2.0.0 Postmaster"),
        ("VRFY nobody@here.example", "550 5.1.1 "),
        ("VRFY u@elsewhere.example", "554 5.7.1 <u@elsewhere.example>: Relay access denied"),
        ("VRFY trouble@here.example", "451 4.3.0 "),
        ("VRFY <>", "501 5.1.3 "),
        ("VRFY <u@here.example> x", "501 5.1.3 "),
        ("VRFY Tom & Jerry", "501 5.1.3 "),
        ("VRFY " + "x" * 2000 + "@here.example", "501 5.1.3 "),
        ("VRFY ü@here.example SMTPUTF8", "252 2.0.0 ü@here.example"),
        ("VRFY ü@here.example", "553 5.6.7 "),
        ("VRFY", "501 5.5.4 "),
        ("EXPN staff", "502 5.5.1 "),
    ],
)
def test_vrfy_says_no_more_than_rcpt(line: str, answer: str) -> None:
    """RFC 5321 §3.5.3, RFC 6531 §3.7.4.2"""
    assert said(line)[0].startswith(answer)


def test_smtputf8_in_vrfy_only_where_it_is_offered() -> None:
    assert said("VRFY ü@here.example SMTPUTF8", smtputf8_enable="no")[0].startswith("553 5.6.7 ")
    assert said("VRFY u@here.example SMTPUTF8", smtputf8_enable="no")[0].startswith("501 5.1.3 ")


@honours("fast_flush_domains", "relay_domains")
@pytest.mark.parametrize(
    ("settings", "domain", "flushed"),
    [
        ({}, "relayed.example", False),
        ({"relay_domains": "relayed.example"}, "relayed.example", True),
        ({"relay_domains": "relayed.example"}, "@Sub.Relayed.Example", True),
        ({"relay_domains": "relayed.example"}, "#relayed.example", True),
        ({"relay_domains": "relayed.example"}, "other.example", False),
        ({"relay_domains": "relayed.example", "fast_flush_domains": ""}, "relayed.example", False),
        ({"fast_flush_domains": "[192.0.2.1]"}, "[192.0.2.1]", True),
    ],
)
def test_etrn(settings: dict[str, str], domain: str, flushed: bool) -> None:
    """RFC 1985 §5"""
    world = World(**settings)
    (answer,) = said(f"ETRN {domain}", world=world)
    bare = domain.lstrip("@#").lower()
    assert answer == ("250 2.0.0 Queuing started" if flushed else f"459 4.7.0 <{bare}>: service unavailable")
    assert world.flushed == ([bare] if flushed else [])


def test_a_queue_that_cannot_be_asked_is_458() -> None:
    world = World(relay_domains="relayed.example")
    world.flush_trouble = FlushTrouble("worker-1: gone")
    assert said("ETRN relayed.example", world=world) == ["458 4.3.0 Unable to queue messages"]
    assert world.rejections() == ["etrn-trouble"]


@pytest.mark.parametrize("domain", ["", "a b", "a/../b", "-x", "<a@b>", "x" * 300, "ü.example", "@", "[a b]", "a\x00b"])
def test_what_is_no_domain_is_501(domain: str) -> None:
    world = World(fast_flush_domains="static:all")
    assert said(f"ETRN {domain}", world=world)[0].startswith(("501 5.5.4 ", "501 5.5.2 "))
    assert not world.flushed


def test_etrn_is_for_the_time_between_messages() -> None:
    answers = said("MAIL FROM:<a@b.example>", "ETRN here.example", "RCPT TO:<u@here.example>", "ETRN here.example")
    assert [answer[:9] for answer in answers] == ["250 2.1.0", "503 5.5.1", "250 2.1.5", "503 5.5.1"]


def test_etrn_must_be_offered() -> None:
    assert said("ETRN x.example", smtpd_discard_ehlo_keywords="etrn")[0].startswith("502 5.5.1 ")
    assert said("HELO c.example", "ETRN x.example")[1].startswith("502 5.5.1 ")


def test_help_lists_what_is_really_there() -> None:
    (answer,) = said("HELP")
    verbs = answer.removeprefix("214 2.0.0 Commands: ").split()
    assert {"EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "ETRN", "QUIT"} <= set(verbs)
    assert not {"EXPN", "AUTH", "STARTTLS", "BURL", "TURN", "XCLIENT", "XFORWARD"} & set(verbs)
    assert "VRFY" in verbs
    (answer,) = said("HELP", disable_vrfy_command="yes")
    assert "VRFY" not in answer
    (answer,) = said("HELP", smtpd_authorized_xclient_hosts="127.0.0.1")
    assert "XCLIENT" in answer
    (answer,) = said("HELP", smtpd_discard_ehlo_keywords="chunking, etrn")
    assert "BDAT" not in answer
    assert "ETRN" not in answer
    for verb in verbs:
        (tried,) = said(verb)
        assert not tried.startswith("502 ")
        assert not tried.startswith("500 ")


@honours("smtpd_etrn_restrictions")
@pytest.mark.parametrize(("restrictions", "flushed"), [("permit_mynetworks, reject", False), ("permit", True)])
def test_who_may_say_etrn(restrictions: str, flushed: bool) -> None:
    world = World(relay_domains="relayed.example", smtpd_etrn_restrictions=restrictions)
    (answer,) = said("ETRN relayed.example", world=world)
    assert answer.startswith("250 2.0.0 " if flushed else "554 5.7.1 ")
    assert bool(world.flushed) is flushed


def test_restrictions_hold_for_vrfy_too() -> None:
    """Else it would tell strangers what RCPT does not."""
    wanted = "permit_mynetworks, reject"
    stranger = World(smtpd_recipient_restrictions=wanted)
    assert said("VRFY u@here.example", world=stranger)[0].startswith("554 5.7.1 ")
    trusted = World(smtpd_recipient_restrictions=wanted, mynetworks="127.0.0.0/8")
    assert said("VRFY u@here.example", world=trusted)[0].startswith("252 2.0.0 ")
