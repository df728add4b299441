"""What Postfix's parameters are called (3.12, postconf(5)), and which of them Ekiden does not need.

``transport_...`` stands for the name of any transport of master.cf. The data lies beside this file; it is read when
somebody asks, so that a start does not pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ekiden.config.lines import logical_lines


@cache
def postfix_defaults() -> Mapping[str, str]:
    """Every parameter of Postfix with its default as text, by name."""
    return dict(_read("postfix_defaults.cf"))


@cache
def not_needed() -> Mapping[str, str]:
    """Why Ekiden has no use for a parameter of Postfix, by name."""
    return {name: reason for names, reason in _read("not_needed.cf") for name in names.split()}


def _read(file: str) -> list[tuple[str, str]]:
    text = Path(__file__).with_name(file).read_text("utf-8")
    pairs = (line.text.partition("=") for line in logical_lines(text))
    return [(names.strip(), " ".join(value.split())) for names, _, value in pairs]
