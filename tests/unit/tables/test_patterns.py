"""Tables of regular expressions, held against Postfix's own vectors and against its programs."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.tables.open import open_table
from ekiden.tables.patterns import parse_patterns
from ekiden.tables.pcre import DIALECT as PCRE
from ekiden.tables.regexp import DIALECT as REGEXP
from ekiden.tables.table import TableTrouble
from support.honours import honours
from support.requirements import require_conformance, require_program


def answers(word: str, keys: list[str], *, files: bool = False) -> list[str | None]:
    async def main() -> list[str | None]:
        return await open_table(word, files=files).lookup_many(keys)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "table", "conversation", "leave_out"),
    [
        ("pcre", "dict_pcre.map", "dict_pcre", ()),
        ("regexp", "dict_regexp_file.map", "dict_regexp_file", ()),
        ("cidr", "dict_cidr_file.map", "dict_cidr_file", ()),
        ("pcre", "miss_endif_re.map", "miss_endif_pcre", ()),
        ("regexp", "miss_endif_re.map", "miss_endif_regexp", ()),
        ("cidr", "miss_endif_cidr.map", "miss_endif_cidr", ()),
    ],
)
def test_vectors_of_postfix(
    kind: str,
    table: str,
    conversation: str,
    leave_out: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = require_conformance("postfix", "vectors", "util")
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):  # what the tables with values from files name; their contents are known by the answers
        (tmp_path / f"dict_{kind}_file{number}").write_text(f"this-is-file{number}\n")
    (tmp_path / table).write_bytes((folder / table).read_bytes())
    expected = (folder / f"{conversation}.ref").read_text().splitlines()
    keys = [line.removeprefix("> get ") for line in expected if line.startswith("> get ")]
    found = answers(f"{kind}:{tmp_path / table}", keys, files="_file" in table)
    said = [f"./dict_open: warning: {record.getMessage()}".replace(f"{tmp_path}/", "") for record in caplog.records]
    said.append("owner=untrusted (uid=USER)")
    for key, value in zip(keys, found, strict=True):
        said += [f"> get {key}", f"{key}: not found" if value is None else f"{key}={value}"]
    assert said == expected


# Tables that are tried with Postfix's programs and with ours: rules, and keys to ask for.
_COMMON = [
    (["/a(b)?c/ x$1-$2"], ["ac"]),
    (["/a(b)?c/ <${1}$(1)>"], ["ac", "xABc", "AXC"]),
    (
        ["/a/ $", "/a/ b$", "/(a)/ ${1", "/(a)/ $1x", "/(a)/ $x", "/a/ $0", "/(a)/ ${}", "/(a)/ $1$", "/b/ x"],
        ["a", "b"],
    ),
    (["/(a)/ $(1)x$$1"], ["a"]),
    (["/(a)/ $1.x ${01} $1-x"], ["a"]),
    (["!/(a)/ $1", "!/b/ $$1", "! /c/ y", "!!/d/ z"], ["a", "b", "bc", "bcd"]),
    (["/a", "a/ x", "/a/z x", "/a/ix x", "/a/ii y"], ["a", "A"]),
    ([r"/a\/b/ x", "|c.d| y", "%a/b% z"], ["a/b", "c/d", "a%b"]),
    (["/a.b/ x", "/^c/ y", "/d$/ z"], ["a\nb", "x\nc", "d\nx"]),
    (["/^b/m x", "/a$/m y", "/c.d/m z"], ["a\nb", "a\nc", "a\ncxd"]),
    (["/(a|ab)(c|bcd)(d*)/ $1,$2,$3"], ["abcd"]),
    ([r"/(.)\1/ x$1"], ["abba", "abab"]),
    ([r"/\bfoo\b/ w", r"/^\w+@\S+$/ m"], ["a foo b", "afoo", "me@x.example"]),
    (["/[[:digit:]]{3}/ d", "/[^[:alnum:]@.]/ p", "/[]a]/ b", "/[a-c-]x/ c"], ["12", "123", "#", "]", "b", "-x", "bx"]),
    (["if /a/", "/b/ x", "endif", "/./ y"], ["ab", "b"]),
    (["IF !/a/", "if /b/", "/c/ 1", "ENDIF", "/d/ 2", "EndIf", "/./ 3"], ["abc", "bc", "cd", "d", "e"]),
    (["ifx", "/b/ x", "endif", "endif/", "/c/ y"], ["b", "c"]),
    (["if ! /a/i", "/b/ x", "endif"], ["b", "ab", "Ab"]),
    (["if/a/ trailing", "/b/ x", "endif trailing"], ["ab", "b"]),
    (["if /a/", "/b/ x"], ["ab", "b"]),
    (["/()/ x$1"], ["ab"]),
    (["/a/ x  y ", "/b/", "/c/   "], ["a", "b", "c"]),
    (["/(/ x", "/[a/ x", "/*a/ x", r"/a\/", "/a{2,1}/ x", "/ok/ fine"], ["(", "[a", "*a", "ok"]),
    (["/x|/ x"], ["a", ""]),
    (["/^(a+)+$/ x"], ["aaaa", "aaab"]),
    (["/a{2}b{1,}c{0,1}d/ x"], ["aabd", "aabbcd", "abd", "aaabccd"]),
    (["/a{,2}b/ x"], ["b", "ab", "a{,2}b", "b{"]),
    (["/(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)/ $11$10$1"], ["abcdefghijk"]),
    (["/ö/ x", "/a.c/ y"], ["ö"]),
    (["/x y/ z", "/tab\tx/ t"], ["x y", "tab\tx"]),
    (["\t/a/ x", "/b/ one", "\ttwo", "# c", "/c/ y"], ["a", "b", "c"]),
]
_REGEXP = [
    (["/a)/ x", "/b**/ y"], ["a)", "b", "c"]),
    (["/a{/ x", "/a{1/ x", "/b{,}c/ x", "/d{}/ x", "/e/ y"], ["a{", "a{1", "bbc", "d{}", "e"]),
    ([r"/\<a\>/ x", r"/\`b/ y", r"/c\'/ z", r"/\Bd/ w"], ["b a c", "bab", "xb", "c", "cx", "xd", "d"]),
    ([r"/[\]]/ x", r"/[a\d]/ y"], ["]", r"\]", "d", "1", "\\"]),
    (["/[[:foo:]]/ x", "/[z-a]/ x", "/[[.a.]]/ y", "/[[=b=]]/ z"], ["a", "b", "f"]),
    ([r"/\d/ x"], ["1"]),
    (
        [r"/\(a\)\1/x $1", r"/a\{2\}/x y", "/a|b/x z", r"/c\|d/x w", "/^*e/x v", "/(f)/x u"],
        ["aa", "a", "a|b", "d", "*e", "e", "(f)", "f"],
    ),
    ([r"/a\+b/x p", r"/c\?d/x q", "/a+c/x r", "/x^y/x s", "/x$y/x t"], ["aab", "d", "a+c", "x^y", "x$y", "ac"]),
    (["/x^y/ s", "/x$y/ t", "/(^a|b$)/ u"], ["x^y", "x$y", "ax", "xb"]),
    (["/[^a]b/m x"], ["\nb", "cb"]),
    (["/a$/ x"], ["a\n"]),
    (["/(a|(b))+/ <$1$2>"], ["ab"]),
]
_PCRE = [
    (["/a$/ x", "/b$/E y"], ["a\n", "b\n", "b"]),
    ([r"/[\]]/ x", r"/[a\d]/ y", r"/[^\w\s]/ z", r"/[\x41-\x43]/i w"], ["]", "1", "d", "#", "B"]),
    (["/a{,2}b/ x", "/c{/ y", "/d{1/ z"], ["ab", "a{,2}b", "c{", "d{1"]),
    (
        ["/a**/ x", "/*a/ x", "/a)/ x", "/[[:foo:]]/ x", "/b(?/ x", r"/\\/ y", r"/(?<n>c)\k<n>/ $1"],
        ["a", "b(", "\\", "cc"],
    ),
    (["/^(?!owner-)(.*)-outgoing@(.*)/ 550 Use ${1}@${2}"], ["list-outgoing@x.y", "owner-list-outgoing@x.y"]),
    (["/(?<=a)b/ x", "/(?<!a|cc)d/ y", "/(?<=e|ff)g/ z"], ["ab", "b", "ad", "ccd", "xd", "eg", "ffg", "fg"]),
    (
        ["/a(?i)b/i x", "/c(?-i)d/ y", "/(?:e(?-i)f|g)h/ z", "/(?-i:I)j/ w"],
        ["aB", "AB", "Cd", "CD", "GH", "gh", "Gh", "IJ", "ij"],
    ),
    (["/(?>a+)ab/ x", "/b++c/ y", "/(d*+)(e)/ $1$2", "/(?>(f)g|fgh)i/ $1"], ["aaab", "bbc", "dde", "fgi", "fghi"]),
    (["/(a+?)(a*)/ $1-$2", "/(b+)(b*)/U $1-$2", "/(c+?)(c*)/U $1-$2"], ["aaa", "bbb", "ccc"]),
    (["/a b # c/x x", r"/d\ e/x y", "/[f g]h/x z"], ["ab", "a b # c", "d e", "gh", " h"]),
    (["/b/A x", "/c|d/A y"], ["ab", "b", "xc", "d", "xd"]),
    ([r"/\Qa.b\E+c/ x", r"/\Q*\E/ y", r"/d\Q\Ee/ z"], ["a.bbc", "axbc", "*", "de"]),
    ([r"/\h\v\R\N/ x", r"/\x{e9}\x41/ y", r"/\o{102}\103\e\cA/ z"], [" \v\r\nq", "BC\x1b\x01"]),
    ([r"/\A1\z/ x", r"/\A2\Z/ y", r"/[[:^digit:]]3/ z", r"/[[:word:]-]4/ w"], ["1", "1\n", "2\n", "x3", "33", "-4"]),
    (["/(?#comment)a/ x", "/(?P<x>b)(?P=x)/ $1", r"/(c)\g1\g{-1}\g{1}/ $1"], ["a", "bb", "cccc", "ccc"]),
    ([r"/(a)(?:b)(?<n>c)(?'m'd)/ $1$2$3"], ["abcd"]),
    (["/a.b/s x", "/c.d/ y"], ["a\nb", "axb", "c\nd"]),
    (["/(?s-i)A.b/ x", "/(?x: c d )e/ y", "/(?m)^f$/ z"], ["A\nb", "a\nb", "cde", "x\nf\ny"]),
]


def _cases() -> list[tuple[str, list[str], list[str]]]:
    return [
        *((kind, rules, keys) for kind in ("regexp", "pcre") for rules, keys in _COMMON),
        *(("regexp", rules, keys) for rules, keys in _REGEXP),
        *(("pcre", rules, keys) for rules, keys in _PCRE),
    ]


def test_postfix_answers_the_same(tmp_path: Path) -> None:
    """Every case in one run of postmap for each key: what it finds is what we find."""
    postmap = require_program("postmap")
    require_program("postfix")
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    wrong = []
    for number, (kind, rules, keys) in enumerate(_cases()):
        table = tmp_path / f"{kind}{number}"
        table.write_text("".join(f"{rule}\n" for rule in rules))
        ours = answers(f"{kind}:{table}", keys)
        for key, value in zip(keys, ours, strict=True):
            command = [postmap, "-c", str(tmp_path), "-q", key, f"{kind}:{table}"]
            run = subprocess.run(command, capture_output=True, check=False, timeout=20)
            if b"unsupported dictionary type" in run.stderr:
                require_program("the pcre type of Postfix")
            theirs = run.stdout.decode().removesuffix("\n") if run.returncode == 0 else None
            if theirs != value:
                wrong.append((kind, rules, key, theirs, value, run.stderr.decode()))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (r"/a\Kb/ x", "not supported"),
        (r"/\Ga/ x", "not supported"),
        (r"/\p{L}/ x", "not supported"),
        (r"/[\N]/ x", "not supported"),
        ("/(?R)?c/ x", "not supported"),
        ("/(a)?(?(1)b|c)/ x", "not supported"),
        ("/(?|(a)|(b))/ x", "not supported"),
        ("/(*SKIP)a/ x", "not supported"),
        ("/(?<=a+)b/ x", "Python cannot do this"),
        (r"/(a\1)/ x", "Python cannot do this"),
        (r"/\x{110000}/ x", "too large"),
        (r"/a\2/ x", "non-existent"),
        ("/" + "(" * 60 + ")" * 60 + "/ x", "too deeply nested"),
    ],
)
def test_what_pcre_can_and_we_cannot_is_a_problem_of_its_line(rule: str, says: str) -> None:
    rules = parse_patterns(f"# comment\n{rule}\n/z/ last\n", PCRE)
    [(line, text)] = rules.problems
    assert line == 2
    assert says in text
    assert rules.answer("z") == "last"


@pytest.mark.parametrize("dialect", [REGEXP, PCRE])
def test_very_deep_and_very_long_patterns_are_problems_not_crashes(dialect: object) -> None:
    assert isinstance(dialect, type(REGEXP))
    for pattern in ("(" * 5000, "(" * 5000 + ")" * 5000, "a{60000}" * 3, "[" * 5000, "(a" + "{9}" * 100 + ")"):
        parse_patterns(f"/{pattern}/ x\n", dialect).answer("a" * 100)


def test_a_pattern_table_may_stand_in_the_parameter() -> None:
    assert answers("pcre:{ {/^a,b$/ x y}, {if !/c/}, {/d/ z}, endif }", ["a,b", "d", "dc"]) == ["x y", "z", None]
    assert answers("regexp:{{/(a)/ <$1>}}", ["a"]) == ["<a>"]


@honours("pattern_table_time_limit")
def test_a_pattern_that_takes_for_ever_is_trouble_in_time() -> None:
    """(a+)+$ doubles its time with each character: forty of them would take years."""
    evil = "a" * 40 + "!"

    async def ask(parameters: Parameters) -> None:
        table = open_table("pcre:{ {/^(a+)+$/ x}, {/b/ y} }", parameters=parameters)
        begin = time.process_time()
        with pytest.raises(TableTrouble, match="pattern_table_time_limit"):
            await table.lookup(evil)
        took.append(time.process_time() - begin)
        assert await table.lookup("b") == "y"  # the next look-up has all its time again
        assert await table.lookup("aaa") == "x"

    took: list[float] = []
    asyncio.run(ask(Parameters({"pattern_table_time_limit": "1s"})))
    asyncio.run(ask(Parameters({"pattern_table_time_limit": "2s"})))
    # The timer and the clock count processor time in steps of their own.
    assert 0.5 < took[0] < 1.5 < took[1] < 4


@honours("pattern_table_key_limit")
def test_long_keys_are_cut() -> None:
    table = open_table(
        "pcre:{{/^a{10}$/ ten},{/^a{5}$/ five}}", parameters=Parameters({"pattern_table_key_limit": "5"})
    )
    assert asyncio.run(table.lookup("a" * 10)) == "five"


def test_problems_are_told_in_the_log_and_to_who_checks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "checks"
    path.write_text("/a/ x\n/(/ y\n")
    with caplog.at_level(logging.WARNING):
        assert answers(f"pcre:{path}", ["a"]) == ["x"]
    text = "error in regex at offset 1: missing closing parenthesis"
    assert [record.getMessage() for record in caplog.records] == [f"pcre map {path}, line 2: {text}"]
    [finding] = open_table(f"pcre:{path}").check()
    assert (finding.file, finding.line, finding.text) == (str(path), 2, text)
    with pytest.raises(TableTrouble, match="No such file"):
        open_table("regexp:/none").check()
    with pytest.raises(TableTrouble, match="No such file"):
        answers("regexp:/none", ["a"])


def test_tables_of_patterns_are_asked_for_whole_keys_only() -> None:
    for word in ("pcre:{{/a/ x}}", "regexp:{{/a/ x}}", "cidr:{{10.0.0.0/8 x}}", "randmap:{a}", "fail:x"):
        assert open_table(word).whole_keys
        assert open_table(f"unionmap:{{{word}, static:a}}").whole_keys
        assert not open_table(f"pipemap:{{static:a, {word}}}").whole_keys
