"""Each parameter of Postfix is in one of three lists."""

from __future__ import annotations

import json

import pytest

from ekiden.cli.main import main
from ekiden.config.coverage import Status, coverage, parent_of, status_of
from ekiden.config.postfix_names import not_needed, postfix_defaults
from ekiden.config.snapshot import Parameters
from support.requirements import require_conformance


def test_the_names_and_the_plain_defaults_are_those_of_the_manual() -> None:
    rows = require_conformance("postfix", "main.cf-parameters.tsv").read_text().splitlines()[1:]
    table = {name: default for name, default, *_ in (row.split("\t") for row in rows)}
    assert set(table) == set(postfix_defaults())
    plain = {name: text for name, text in table.items() if text.isdigit() or text in ("yes", "no")}
    # These depend on compatibility_level or stress, or on another name of the same thing, and are written as such.
    written = {name for name, text in postfix_defaults().items() if "${" in text}
    differ = {name for name, text in plain.items() if name not in written and postfix_defaults()[name] != text}
    assert differ <= {"lmtp_cname_overrides_servername"}


def test_what_is_declared_is_not_on_the_list_of_what_is_not_needed() -> None:
    both = set(Parameters.declared()) & set(not_needed())
    assert not both, "declared, so take it away from src/ekiden/config/not_needed.cf"
    assert set(not_needed()) <= set(postfix_defaults())
    assert all(len(reason) > 20 for reason in not_needed().values())


def test_every_name_is_in_one_list() -> None:
    found = coverage()
    names = [*found.honoured, *found.not_needed, *found.not_yet]
    assert sorted(names) == sorted(postfix_defaults())


def test_names_of_a_transport_count_with_what_they_override() -> None:
    declared = Parameters.declared()
    for name in ("transport_destination_recipient_limit", "relay_destination_recipient_limit", "domain_to_ascii"):
        assert status_of(name, declared) is Status.HONOURED
    assert parent_of("x_destination_recipient_limit", declared, ["x"]) == "default_destination_recipient_limit"
    assert parent_of("x_destination_recipient_limit", declared, ["y"]) is None
    assert status_of("hash_queue_depth", declared) is Status.NOT_NEEDED
    assert status_of("smtpd_tls_cert_file", {}) is Status.NOT_YET
    assert status_of("hash_queue_depth", {"hash_queue_depth": declared["myorigin"]}) is Status.HONOURED


def test_the_command_shows_the_lists(capsys: pytest.CaptureFixture[str]) -> None:
    found = coverage()
    assert main(["config", "coverage"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        f"Of the 957 parameters of Postfix 3.12 Ekiden honours {len(found.honoured)}, does not need "
        f"{len(found.not_needed)}, and has not yet {len(found.not_yet)}.\n"
    )
    assert "  hash_queue_depth hash_queue_names\n      the queue is a database" in text
    assert main(["config", "coverage", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["total"] == sum(facts["counts"].values()) == 957
    assert "myhostname" in facts["honoured"]
    assert facts["not_needed"]["hash_queue_depth"].startswith("the queue is a database")
    assert len(facts["not_yet"]) == facts["counts"]["not_yet"]
