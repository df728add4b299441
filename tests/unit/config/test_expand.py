"""``$name`` expansion: as Postfix does it, within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ekiden.config.expand import LENGTH_LIMIT, ExpansionError, expand, references
from support.requirements import require_conformance

NAMES = {"name1": "v", "mydomain": "dom", "empty": "", "led": "$empty", "level": "3.6"}


def value(text: str) -> str:
    return expand(text, NAMES.get)


def vectors() -> Iterator[tuple[str, dict[str, str], int, str]]:
    """The dialogs of Postfix's own test: an expression, what is defined, the status (1 is an error) and the value."""
    names: dict[str, str] = {}
    asked = ""
    for line in require_conformance("postfix", "vectors", "util", "mac_expand.ref").read_text().splitlines():
        if line.startswith("<< "):
            asked = line[3:]
            if (setting := re.fullmatch(r"(\w+) = (.*)", asked)) is not None:
                names[setting[1]] = setting[2]
        elif (found := re.fullmatch(r"stat=(\d) result=(.*)", line)) is not None:
            yield asked, dict(names), int(found[1]), found[2]


def test_postfixs_own_vectors() -> None:
    checked = 0
    for text, names, status, result in vectors():
        if "test_named_fn" in text:
            continue  # a function that only Postfix's test program has
        checked += 1
        if status & 1:
            with pytest.raises(ExpansionError):
                expand(text, names.get)
        else:
            assert expand(text, names.get) == result, text
    assert checked > 90


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$name1.$name1-$name1", "v.v-v"),
        ("${name1}{x}$(name1)", "v{x}v"),
        ("$nowhere.x", ".x"),
        ("$$x $${x}", "$x ${x}"),
        ("${ name1 }$( name1 )", "vv"),
        ("|${mydomain? x }|${nowhere: y }|", "| x | y |"),
        ("|${mydomain?{ x } }|${nowhere?{a} : { b } }|", "| x | b |"),
        ("${mydomain??q}${mydomain?a:b}", "?qa:b"),
        ("${empty?x}${empty:y}", "y"),
        ("${led?set}${led:not}", "set"),  # the text counts as it is written
        ("${nowhere?x:${{bad}}}ok", "ok"),  # what is not chosen is not looked at
        ("$(mydomain?a(b)c)", "a(b)c"),
        ("$(name1?})${name1?)}", "})"),
        ("${mydomain?$$}", "$"),
        ("${{10} < {9} ? {y} : {n}}", "n"),
        ("${{10} < {9a} ? {y} : {n}}", "y"),
        ("${{-1} < {1}}", "true"),
        ("${{007} == {7}}", "true"),
        ("${{99999999999999999999999} > {9999999999999999999999}}", "true"),
        ("${{ a } == {a}}", ""),
        ("${{a}=={a}}${ {a} != {b} }", "truetrue"),
        ("${{3.6} <level {3.10} ? {y} : {n}}", "y"),
        ("${{3} ==level {3.0}}${{3.6.1} <=level {3.6}}", "true"),
        ("${{$level} >=level {3.6} ? {new} : {old}}", "new"),
        ("${name1?{${empty?{1}:{2}}}:{3}}", "2"),
        ("${domain_to_ascii{bücher.example}}", "xn--bcher-kva.example"),
        ("${domain_to_utf8{xn--bcher-kva.example}}", "bücher.example"),
        ("${domain_to_ascii{ $mydomain }}", "dom"),
    ],
)  # fmt: skip
def test_values(text: str, expected: str) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x$ y", "no name behind the $"),
        ("end$", "no name behind the $"),
        ("$[a]", "no name behind the $"),
        ("${name1", "not closed"),
        ("$(name1}", "not closed"),
        ("${}", "begin with a name"),
        ("${na-me}", "behind the name na"),
        ("${name1 name1}", "behind the name name1"),
        ("${mydomain?{a}{b}}", "must begin with :"),
        ("${name1:{x}:{y}}", "behind the last"),
        ("${{a}}", "== != < <= >= >"),
        ("${{a} === {b}}", "== != < <= >= >"),
        ("${{a} == b}", "in braces"),
        ("${{a} == {b} x}", "must begin with ? or :"),
        ("${{a} <depth {b}}", "only 'level' and 'length'"),
        ("${{a} <level {3}}", "is not a version"),
        ("$(name1?{)", "not closed"),
        ("${upper{x}}", "no function upper"),
        ("${domain_to_ascii{x}y}", "behind the argument"),
        ("${domain_to_ascii{-ü-..}}", "is not a domain"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(ExpansionError, match=re.escape(says)):
        value(text)


def test_circles() -> None:
    names = {"a": "$b", "b": "${c}", "c": "x${name?$a}", "name": "1", "self": "${self?fine}"}
    with pytest.raises(ExpansionError, match=re.escape("$a refers to itself through a -> b -> c -> a")):
        expand("$a", names.get)
    assert expand("$self", names.get) == "fine"


def test_values_of_others_are_not_expanded_again() -> None:
    assert expand("$a ${a?$b}", {"a": "$b", "b": "${"}.get, recursive=False) == "$b ${"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$a0", {f"a{n}": f"$a{n + 1}$a{n + 1}" for n in range(60)}),
        ("$a0", {f"a{n}": f"$a{n + 1}" for n in range(500)}),
        ("${a?" * 5000 + "}" * 5000, {"a": "1"}),
        ("$a$a", {"a": "x" * (LENGTH_LIMIT - 1)}),
        # A text that is long but gives nothing must not be looked at for ever.
        ("${a?$b}" * 9000, {"a": "1", "b": "${{1} == {2}}" * 2000}),
    ],
)
def test_work_is_bounded(text: str, names: dict[str, str]) -> None:
    with pytest.raises(ExpansionError):
        expand(text, names.get)


def test_references() -> None:
    text = "$a ${b} $(c) ${d?x$e} ${f:{$g}} ${{$h} == {i} ? {$j}} $$k ${domain_to_ascii{$l}}"
    assert references(text) == list("abcdefghjl")
    assert references(text, tested=False) == list("abceghjl")
