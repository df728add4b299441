"""getopt(3): options of one letter, as the classic commands read them, in any order with their arguments."""

from __future__ import annotations

from collections.abc import Sequence


class BadOption(Exception):
    """The text is getopt's own: ``invalid option -- 'x'``."""


def getopt(arguments: Sequence[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The options with their values, and the other words. A letter with ``:`` behind it has a value. Raises BadOption.

    ``--`` ends the options.
    """
    options: list[tuple[str, str]] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            others.extend(words)
        elif len(word) < 2 or word[0] != "-":
            others.append(word)
        else:
            rest = word[1:]
            while rest:
                letter, rest = rest[0], rest[1:]
                at = letters.find(letter)
                if at < 0 or letter == ":":
                    raise BadOption(f"invalid option -- '{letter}'")
                if letters[at + 1 : at + 2] != ":":
                    options.append((letter, ""))
                    continue
                value = rest or next(words, None)
                if value is None:
                    raise BadOption(f"option requires an argument -- '{letter}'")
                options.append((letter, value))
                break
    return options, others
