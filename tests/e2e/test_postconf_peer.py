"""postconf beside Postfix's own: the same value after expansion, and the same form."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from ekiden.cli.postconf import main
from ekiden.config.postfix_names import postfix_defaults
from support.requirements import require_program

# Values of smtpd_banner that use the language in every way; $name1 is "v", $mydomain "dom", $empty is empty.
EXPRESSIONS = """
x$$y $${x}
$name1$name1.$name1-$name1
${name1}{x}$(name1)
${ name1 }$( name1 )
a${nowhere?a}b${nowhere:c}
$nowhere.x
${mydomain??q}
${mydomain?a:b}
|${mydomain? x }|
|${mydomain?{ x } }|
|${nowhere: y }|
|${nowhere?{a} : { b } }|
|${nowhere?{a}: b }|
${mydomain ? {x} : {y}}
${nowhere?{y}:{z} }
${empty?x}${empty:y}
${led?set}${led:not}
$(mydomain?a(b)c)
$(name1?})${name1?)}
a ${mydomain?$$} b
${{10} < {9} ? {y} : {n}}
${{10} < {9a} ? {y} : {n}}
${{-1} < {1} ? {y} : {n}}
${{007} == {7}}
x${{ a } == {a}}
${{a}=={a}}
${{} == {}}
x${{$name1} != {v}}
${{$mydomain} == {dom} ?  x y }
${{$mydomain} == {dom} ? {x} : y }
${ {a} == {a} }
${{3.6} <level {3.10} ? {y} : {n}}
${{3} ==level {3.0} ? {y} : {n}}
${{3.6.1} <=level {3.6} ? {y} : {n}}
${{$compatibility_level} >=level {3.6} ? {new} : {old}}
${name1?{${empty?{1}:{2}}}:{3}}
${{${name1?one:two}} == {one:two} ? {Good} : {Bad}}
${nowhere?{$name1}:{${mydomain}}}
a   b  ,	c
$mydomain,${name1}
${name1:{x}}|${nowhere:{x}}
${led?{$empty}}|${led?{$name1}}
$_x|$9|${1}
${{a} <= {b}}${{b} > {a}}${{a} >= {b}}
""".strip().split("\n")

# What both refuse.
WRONG = ["x$ y", "end$", "${name1", "$(name1}", "${}", "${na-me}", "${mydomain?{a}{b}}", "${{a}}", "${{a} === {b}}",
         "${name1 name1}", "${{x} <level {3}}", "$[name1]", "${name1:{x}:{y}}"]  # fmt: skip


NAMES = sorted(name for name in postfix_defaults() if name.endswith("_maps"))


class Pair:
    """Postfix's postconf, and ours (in this process, which saves its start)."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._program = require_program("postconf")
        self._capsys = capsys

    def theirs(self, directory: Path, *arguments: str) -> tuple[int, str]:
        done = subprocess.run([self._program, "-c", str(directory), *arguments], capture_output=True, timeout=30)
        return done.returncode, done.stdout.decode()

    def ours(self, directory: Path, *arguments: str) -> tuple[int, str]:
        self._capsys.readouterr()
        code = main(["-c", str(directory), *arguments])
        return code, self._capsys.readouterr().out


@pytest.fixture
def pair(capsys: pytest.CaptureFixture[str]) -> Pair:
    return Pair(capsys)


def written(directory: Path, values: dict[str, str]) -> Path:
    text = "compatibility_level = 3.6\nname1 = v\nmydomain = dom\nempty =\nled = $empty\n"
    (directory / "main.cf").write_text(text + "".join(f"{name} = {value}\n" for name, value in values.items()))
    (directory / "master.cf").touch()
    return directory


def test_values_after_expansion(pair: Pair, tmp_path: Path) -> None:
    assert len(EXPRESSIONS) >= 40
    known = set(pair.theirs(written(tmp_path, {}), "-dH")[1].split())
    names = [name for name in NAMES if name in known][: len(EXPRESSIONS)]
    directory = written(tmp_path, dict(zip(names, EXPRESSIONS, strict=True)))
    code, theirs = pair.theirs(directory, "-hx", *names)
    assert code == 0
    ours = pair.ours(directory, "-hx", *names)[1].split("\n")
    assert dict(zip(EXPRESSIONS, ours, strict=False)) == dict(zip(EXPRESSIONS, theirs.split("\n"), strict=False))


@pytest.mark.parametrize("value", WRONG)
def test_what_is_wrong_is_wrong_for_both(value: str, pair: Pair, tmp_path: Path) -> None:
    directory = written(tmp_path, {"smtpd_banner": value})
    assert pair.theirs(directory, "-hx", "smtpd_banner")[0] == 1
    assert pair.ours(directory, "-hx", "smtpd_banner") == (1, "")


MAIN = """\
compatibility_level = 3.6
myhostname = mx.example.com
mydestination = $myhostname, localhost.$mydomain,
   localhost
   # inside
   another.example.com yet.another.example.com and.a.very.long.domain.example.com x.example.org
mua_sender = permit
mail_name = $mua_sender   ESMTP
relayhost =
virtual_alias_maps = inline:{ {a = b c}, d=e }
"""
MASTER = """\
smtp      inet  n       -       n       -       -       smtpd
submission inet n       -       n       -       -       smtpd
  -o syslog_name=postfix/submission
  -o { mynetworks = $mua_sender, reject }
  -v -o myorigin=encrypt
relay     unix  -       -       n       -       -       smtp
        -o syslog_name=${multi_instance_name?{$multi_instance_name}:{postfix}}/$service_name
# a comment
a_very_long_service_name unix - n n 1000000? - smtp -o { myorigin = b } -o {mydomain=} -o relayhost=r -v
mydrop    unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/local/bin/maildrop -d ${recipient} { a b }
"""
SHOWN = [
    "-nx mydestination mail_name", "-n relayhost mydestination", "-nf mydestination", "-nH mydestination relayhost",
    "-h mydestination relayhost", "-C user", "-o mua_sender=xx -x mail_name", "-d mydestination relayhost",
    "-M", "-Mf", "-M smtp", "-M smtp/inet", "-Mx relay", "-M */unix", "-P", "-Pf", "-Px", "-Ph", "-PH", "-P submission",
    "-P submission/inet/syslog_name", "-F smtp", "-F smtp/inet/command", "-Fh smtp", "-FH smtp", "-Ff mydrop",
    "-F */*/chroot", "-M nosuch",
]  # fmt: skip
CHANGES = [
    ["mydestination=a"], ["-e", "relayhost = [x]:25", "newone = 1"], ["-#", "mydestination"], ["-X", "mydestination"],
    ["relayhost=a # b"], ["-X", "nosuch"], ["-M", "smtp/inet=smtp inet n - n - 5 smtpd -v"],
    ["-M", "new/unix=new unix - - n - - smtp"], ["-M#", "submission/inet"], ["-MX", "submission/inet"],
    ["-F", "smtp/inet/chroot=y"], ["-F", "smtp/inet/command=smtpd -o a=b"], ["-F", "mydrop/unix/private=y"],
    ["-P", "submission/inet/syslog_name=zz"], ["-P", "smtp/inet/new=a"], ["-P", "*/inet/zz=1"],
    ["-PX", "submission/inet/syslog_name"],
]  # fmt: skip


def prepared(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "main.cf").write_text(MAIN)
    (directory / "master.cf").write_text(MASTER)
    return directory


@pytest.mark.parametrize("arguments", SHOWN)
def test_the_same_is_shown(arguments: str, pair: Pair, tmp_path: Path) -> None:
    directory = prepared(tmp_path)
    assert pair.ours(directory, *arguments.split()) == pair.theirs(directory, *arguments.split())


@pytest.mark.parametrize("arguments", CHANGES, ids=" ".join)
def test_the_same_is_changed(arguments: list[str], pair: Pair, tmp_path: Path) -> None:
    theirs, ours = prepared(tmp_path / "theirs"), prepared(tmp_path / "ours")
    assert pair.theirs(theirs, *arguments) == pair.ours(ours, *arguments) == (0, "")
    for name in ("main.cf", "master.cf"):
        assert (ours / name).read_text() == (theirs / name).read_text()


def test_lines_are_folded_in_the_same_places(pair: Pair, tmp_path: Path) -> None:
    rng = random.Random(7)

    def words(count: int, longest: int) -> str:
        return " ".join("w" * rng.randrange(1, longest) for _ in range(rng.randrange(count)))

    values = "".join(f"{name} = {words(30, 25)}\n" for name in ("mydestination", "relay_domains", "relayhost"))
    (tmp_path / "main.cf").write_text(f"compatibility_level = 3.6\n{values}")
    options = [" ".join(rng.choices(["-v", "-o myorigin=x"], k=rng.randrange(4))) for _ in range(300)]
    lines = [f"s{number} unix - n n - - pipe {option} {words(9, 20)}\n" for number, option in enumerate(options)]
    (tmp_path / "master.cf").write_text("".join(lines))
    for arguments in (["-nf", "mydestination", "relay_domains", "relayhost"], ["-Mf"], ["-Ff"]):
        assert pair.ours(tmp_path, *arguments) == pair.theirs(tmp_path, *arguments)
