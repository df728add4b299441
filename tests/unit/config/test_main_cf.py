"""The grammar of main.cf."""

from __future__ import annotations

import pytest

from ekiden.config.main_cf import read_main_cf
from ekiden.config.problem import Level

EXAMPLE = """\
# A comment
   # an indented one

myhostname = mx.example.com
mydestination =
  $myhostname,
# a comment in the midst
\texample.com
empty =
relayhost=[relay.example]:587
equals = a = b
"""


def test_settings_with_their_lines() -> None:
    read = read_main_cf(EXAMPLE, "main.cf")
    assert read.problems == ()
    assert {name: (setting.text, setting.line) for name, setting in read.settings.items()} == {
        "myhostname": ("mx.example.com", 4),
        "mydestination": ("$myhostname,\texample.com", 5),
        "empty": ("", 9),
        "relayhost": ("[relay.example]:587", 10),
        "equals": ("a = b", 11),
    }


def test_the_last_of_two_holds_and_the_first_is_told() -> None:
    read = read_main_cf("a = 1\nb = 2\na = 3\n", "main.cf")
    assert read.settings["a"].text == "3"
    [problem] = read.problems
    assert str(problem) == "main.cf:3: warning: a is set twice: what line 1 says is lost"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("  a = b\n", 1, "begins with white space"),
        ("x = 1\nnonsense\n", 2, "has no '='"),
        ("= 1\n", 1, "is not a name"),
        ("two words = 1\n", 1, "is not a name"),
        ("a = \x00\n", 1, "control character"),
        ("x" * 1000 + "\n", 1, "...' has no '='"),
    ],
)
def test_what_is_wrong_has_its_line(text: str, line: int, says: str) -> None:
    read = read_main_cf(text, "main.cf")
    [problem] = read.problems
    assert (problem.file, problem.line, problem.level) == ("main.cf", line, Level.ERROR)
    assert says in problem.text
    assert len(problem.text) < 200


def test_crlf_and_a_missing_last_newline() -> None:
    assert read_main_cf("a = 1\r\nb = 2", "f").settings["b"].text == "2"
    assert read_main_cf("a = 1\r\n", "f").settings["a"].text == "1"
