"""The input of Postfix's own tests of its restrictions, given to ours: the replies must be those of Postfix.

A line is played when the restrictions in force are there up to the one that decides; the others are counted by what
they need. Addresses without a name are written 4.7.25 here (RFC 7372 §3.3), where Postfix has 4.7.1.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache

from msgspec import Struct, structs

from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import Mx
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal
from ekiden.policy.restriction_names import HONOURED, OLD_NAMES
from ekiden.policy.restriction_parser import parse_restrictions
from ekiden.policy.restrictions import Evaluation, Facilities, Situation, Stage
from ekiden.policy.sender_login import SenderLogins
from ekiden.policy.unknown_domains import MailDomains
from ekiden.tables.match import ClientList
from ekiden.tables.open import Maps
from support.fake_resolver import FakeResolver
from support.requirements import require_conformance

# Each input with what Postfix answers; smtpd_check.in3 comes without answers.
FILES = {
    "smtpd_check.in": "smtpd_check.ref",
    "smtpd_check.in2": "smtpd_check.ref2",
    "smtpd_check.in4": "smtpd_check.ref4",
    **{f"smtpd_{name}.in": f"smtpd_{name}.ref" for name in ("check_dsn", "deprecated", "dns_filter", "exp", "nullmx")},
}
NOT_READ = {
    "smtpd_check.in3": "it comes without the answers of Postfix",
    "smtpd_token.in": "how Postfix cuts a command into words, which our parsers do in another way",
}
_STAGES = {"client": Stage.CLIENT, "helo": Stage.HELO, "mail": Stage.SENDER, "rcpt": Stage.RECIPIENT}
_LISTS = {f"{name}_restrictions": name for name in ("client", "helo", "sender", "recipient", "relay")}
_OF_COMMAND = {"client": "client", "helo": "helo", "mail": "sender", "rcpt": "recipient"}


class Line(Struct, frozen=True):
    place: str  # "smtpd_check.in:12"
    command: str
    argument: str
    lists: tuple[tuple[Stage, tuple[str, ...]], ...]  # the restrictions in force
    settings: dict[str, str]
    client: Client
    sender: Address | None
    expected: str  # the reply; "OK" for none


def read(name: str) -> list[Line]:
    folder = require_conformance("smtp", "postfix-smtpd")
    lines = (folder / name).read_text("utf-8").splitlines()
    answers = _answers((folder / FILES[name]).read_text("utf-8"), lines)
    found = []
    settings: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    client, sender = Client(protocol="SMTP"), None
    for number, line in enumerate(lines, 1):
        command, _, argument = line.strip().partition(" ")
        if command in _LISTS:
            lists[_LISTS[command]] = tuple(split_words(argument))
            continue
        if command not in _STAGES:
            if command and not command.startswith("#"):
                settings[command] = argument
            continue
        if command == "client":
            who, address = argument.split()[:2]
            # A third word is how the look-up of the name ended.
            client = Client(name=who, address=address, protocol="SMTP", name_failed=argument.endswith(" 4"))
        elif command == "helo":
            client = structs.replace(client, helo=argument)
        elif command == "mail":
            sender = _address(argument)
        place, delayed = f"{name}:{number}", settings.get("smtpd_delay_reject", "1") != "0"
        in_force = _in_force(command, lists, delayed=delayed)
        found.append(Line(place, command, argument, in_force, dict(settings), client, sender, answers[number]))
    return found


def _in_force(
    command: str, lists: dict[str, tuple[str, ...]], *, delayed: bool
) -> tuple[tuple[Stage, tuple[str, ...]], ...]:
    """What is asked at a command: its own list, or with smtpd_delay_reject all of them at RCPT."""
    if delayed and command != "rcpt":
        return ()
    wanted = ["client", "helo", "mail", "rcpt"] if delayed else [command]
    own = [(_STAGES[each], lists.get(_OF_COMMAND[each], ())) for each in wanted]
    return (*own[:-1], (Stage.RECIPIENT, lists.get("relay", ())), own[-1]) if command == "rcpt" else tuple(own)


def _answers(text: str, lines: list[str]) -> dict[int, str]:
    """By the number of the input's line, the last line that was answered."""
    found: dict[int, str] = {}
    number = 0
    for line in text.splitlines():
        if line.startswith(">>> "):
            number += 1
            while line[4:].strip() != lines[number - 1].strip():
                number += 1
        elif line.strip():
            found[number] = line
    return found


def _address(text: str) -> Address:
    text = text.removeprefix("<").removesuffix(">")
    local, at, domain = text.rpartition("@")
    return Address(local, domain) if at else Address(text) if text else NULL_SENDER


def _honoured(words: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The restrictions up to the first that is not there, and that one."""
    for at, word in enumerate(words):
        if OLD_NAMES.get(word, word) not in HONOURED:
            return words[:at], word.partition(":")[0] if ":" in word else word
    return words, ""


class _Destinations:
    def __init__(self, line: Line) -> None:
        self._own = set(split_words(line.settings.get("relay_domains", "")))

    def lasts(self, address: Address) -> bool:
        return False

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        return any(address.domain == own or address.domain.endswith(f".{own}") for own in self._own)

    async def check_recipient(self, _address: Address) -> Refusal | None:
        return None


@cache
def played() -> tuple[list[tuple[Line, str]], dict[str, str]]:
    """Each line that is decided, with our reply; and for the others what they need."""

    async def all_lines() -> tuple[list[tuple[Line, str]], dict[str, str]]:
        decided, others = [], {}
        for name in FILES:
            undecided: dict[str, str] = {}
            for line in read(name):
                answer, missing = await _reply(line)
                if line.command == "rcpt" and answer == "OK":
                    # What HELO or MAIL could not be asked may have been put off to here.
                    missing = missing or undecided.get("helo", "") or undecided.get("mail", "")
                undecided[line.command] = missing
                if missing:
                    others[line.place] = missing
                else:
                    decided.append((line, answer))
        return decided, others

    return asyncio.run(all_lines())


# What DNS had when the answers were written, as far as they tell; every other name is not there.
_ZONE: dict[tuple[str, str], object] = {
    ("MX", "ibm.com"): [Mx(10, "mx.ibm.com")],
    ("MX", "porcupine.org"): [Mx(10, "spike.porcupine.org")],
    ("A", "fist.porcupine.org"): ["168.100.3.3"],
    ("A", "localhost"): ["127.0.0.1"],
    ("A", "xn--1xa.porcupine.org"): ["168.100.3.4"],
    ("MX", "nullmx.porcupine.org"): [Mx(0, "")],
    ("A", "spike.porcupine.org"): ["168.100.3.2"],
}


async def _never(_address: Address) -> bool:
    return False


async def _reply(line: Line) -> tuple[str, str]:
    """Our reply, or what would have to be there for one."""
    known = {name: value for name, value in line.settings.items() if name in Parameters.declared()}
    parameters = Parameters({"myhostname": "mx.example", **{name: known[name] for name in known if "code" in name}})

    async def is_local(_domain: str) -> bool:
        return False

    logins = SenderLogins(Maps([]), delimiter=parameters.recipient_delimiter, is_local=is_local)
    domains = MailDomains(FakeResolver(_ZONE), _never)
    facilities = Facilities(parameters, _Destinations(line), logins, Maps([]), domains=domains)
    networks = ClientList(tuple(split_words(line.settings.get("mynetworks", ""))))
    is_trusted = await networks.matches(line.client.address)
    recipient = _address(line.argument) if line.command == "rcpt" else None
    evaluation = Evaluation(facilities, Situation(line.client, is_trusted, line.sender, recipient))
    for stage, written in line.lists:
        words, missing = _honoured(written)
        if line.settings.get("smtpd_dns_reply_filter") and any("unknown" in word for word in written):
            words, missing = (), "smtpd_dns_reply_filter"
        outcome = await evaluation.run(parse_restrictions("smtpd_x_restrictions", words), stage)
        if isinstance(outcome, Refusal):
            # Postfix has no status of its own for a client without a name (RFC 7372 §3.3).
            return outcome.reply.text.replace(".7.25 Client host", ".7.1 Client host"), ""
        if outcome is None and missing:
            return "", missing
    return "OK", ""


def test_the_replies_are_those_of_postfix() -> None:
    differ = []
    for line, answer in played()[0]:
        if answer != line.expected:
            differ.append(
                f"{line.place}: {line.command} {line.argument} {line.lists}\n    {answer}\n    {line.expected}"
            )
    assert not differ, "\n".join(differ)


def test_what_is_not_played_is_counted() -> None:
    decided, others = played()
    folder = require_conformance("smtp", "postfix-smtpd")
    assert {path.name for path in folder.glob("*.in*")} == {*FILES, *NOT_READ}
    needs = Counter(others.values())
    print(f"{len(decided)} of {len(decided) + len(others)} lines of Postfix's tests are played; the others need")
    for what, count in needs.most_common():
        print(f"  {count} {what}")
    for name, reason in NOT_READ.items():
        print(f"{name}: {reason}")
    assert len(decided) + len(others) == 313
    assert len(decided) >= 96  # more are played as soon as more restrictions are there
    assert not set(needs) & HONOURED
