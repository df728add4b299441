"""getopt(3) as the classic commands use it."""

from __future__ import annotations

import pytest

from ekiden.cli.getopt import BadOption, getopt


@pytest.mark.parametrize(
    ("words", "options", "others"),
    [
        ("", [], []),
        ("-a -b x more", [("a", ""), ("b", "x")], ["more"]),
        ("-ab x", [("a", ""), ("b", "x")], []),
        ("-abx y", [("a", ""), ("b", "x")], ["y"]),
        ("more -a", [("a", "")], ["more"]),
        ("-a -- -b", [("a", "")], ["-b"]),
        ("-b -", [("b", "-")], []),
        ("- -a", [("a", "")], ["-"]),
        ("-b -a", [("b", "-a")], []),
    ],
)
def test_words_become_options(words: str, options: list[tuple[str, str]], others: list[str]) -> None:
    assert getopt(words.split(), "ab:") == (options, others)


@pytest.mark.parametrize(
    ("words", "text"),
    [("-c", "invalid option -- 'c'"), ("-a:", "invalid option -- ':'"), ("-b", "option requires an argument -- 'b'"),
     ("--long", "invalid option -- '-'")],
)  # fmt: skip
def test_what_is_no_option_is_told(words: str, text: str) -> None:
    with pytest.raises(BadOption) as told:
        getopt(words.split(), "ab:")
    assert str(told.value) == text
