"""postconf: what it prints and what it changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ekiden.cli.postconf import main
from ekiden.config.editing import rewrite
from support.requirements import require_root

MAIN = """\
# The beginning
myhostname = mx.example.com
mydestination = $myhostname,
   localhost
   # in between
   another.example.com
own = permit
mail_name = $own   mail
unused_x = 1
relayhost ="""

MASTER = """\
smtp      inet  n       -       n       -       -       smtpd
# a comment
submission inet n       -       n       -       -       smtpd
  -o syslog_name=postfix/submission
  -o { mynetworks = 127.0.0.1, 10.0.0.0/8 }
  -v
mydrop    unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/local/bin/maildrop -d ${recipient} { a b }
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text(MAIN + "\n")
    (tmp_path / "master.cf").write_text(MASTER)
    return tmp_path


class Postconf:
    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys
        self.errors = ""

    def __call__(self, *arguments: str) -> list[str]:
        """The lines of output of a successful run."""
        assert main(["-c", str(self.directory), *arguments]) == 0
        captured = self._capsys.readouterr()
        self.errors = captured.err
        return captured.out.splitlines()

    def refused(self, *arguments: str) -> str:
        before = self.files()
        assert main(["-c", str(self.directory), *arguments]) == 1
        captured = self._capsys.readouterr()
        assert captured.out == ""
        assert self.files() == before
        return captured.err

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.directory.iterdir())}


@pytest.fixture
def postconf(directory: Path, capsys: pytest.CaptureFixture[str]) -> Postconf:
    return Postconf(directory, capsys)


def test_values(postconf: Postconf) -> None:
    assert postconf("mydestination", "relayhost") == [
        "mydestination = $myhostname, localhost another.example.com",
        "relayhost =",
    ]
    assert postconf("-h", "mail_name") == ["$own mail"]
    assert postconf("-xh", "mail_name", "mydestination") == [
        "permit mail",
        "mx.example.com, localhost another.example.com",
    ]
    assert postconf("-H", "mail_name") == ["mail_name"]
    assert postconf("-o", "myhostname=x", "-xh", "mydestination") == ["x, localhost another.example.com"]


def test_what_is_set(postconf: Postconf) -> None:
    assert postconf("-n") == [
        f"config_directory = {postconf.directory}",
        "mail_name = $own mail",
        "mydestination = $myhostname, localhost another.example.com",
        "myhostname = mx.example.com",
        "own = permit",
        "relayhost =",
    ]
    assert postconf.errors == f"postconf: warning: {postconf.directory}/main.cf: unused parameter: unused_x=1\n"
    assert postconf("-n", "relayhost", "myorigin") == ["relayhost ="]
    assert postconf("-C", "user") == ["own = permit"]


def test_defaults(postconf: Postconf) -> None:
    # Ekiden's own for what it honours, Postfix's for the others.
    assert postconf("-d", "mail_name", "queue_directory", "milter_default_action") == [
        "mail_name = Ekiden",
        "queue_directory = /var/spool/ekiden",
        "milter_default_action = shutdown",
    ]
    assert postconf("-d", "mydestination") == ["mydestination = $myhostname, localhost.$mydomain, localhost"]
    names = [line.partition(" =")[0] for line in postconf()]
    assert names == sorted(names)
    assert {"worker_processes", "smtpd_tls_cert_file", "mydrop_destination_recipient_limit", "own"} <= set(names)
    assert not {"unused_x", "transport_destination_recipient_limit", "domain_to_ascii"} & set(names)


def test_unknown_names_and_references_to_nothing_are_told(postconf: Postconf, directory: Path) -> None:
    assert postconf("nosuch") == []
    assert "postconf: warning: nosuch: unknown parameter\n" in postconf.errors
    with (directory / "main.cf").open("a") as file:
        file.write("myorigin = x$nowhere\n")
    assert postconf("-x", "myorigin") == ["myorigin = x"]
    assert f"postconf: warning: {directory}/main.cf: undefined parameter: nowhere\n" in postconf.errors


def test_long_lines_are_folded(postconf: Postconf, directory: Path) -> None:
    (directory / "main.cf").write_text("mydestination = " + " ".join(f"host{n}.example.com" for n in range(8)))
    assert postconf("-nf", "mydestination") == [
        "mydestination = host0.example.com host1.example.com host2.example.com",
        "    host3.example.com host4.example.com host5.example.com host6.example.com",
        "    host7.example.com",
    ]


def test_services(postconf: Postconf) -> None:
    assert postconf("-M") == [
        "smtp       inet  n       -       n       -       -       smtpd",
        "submission inet  n       -       n       -       -       smtpd -o syslog_name=postfix/submission "
        "-o {mynetworks=127.0.0.1, 10.0.0.0/8} -v",
        "mydrop     unix  -       n       n       -       -       pipe flags=DRXhu user=vmail "
        "argv=/usr/local/bin/maildrop -d ${recipient} {a b}",
    ]
    assert postconf("-Mf", "submission", "mydrop/unix") == [
        "submission inet  n       -       n       -       -       smtpd",
        "    -o syslog_name=postfix/submission",
        "    -o {mynetworks=127.0.0.1, 10.0.0.0/8}",
        "    -v",
        "mydrop     unix  -       n       n       -       -       pipe flags=DRXhu",
        "    user=vmail argv=/usr/local/bin/maildrop -d ${recipient} {a b}",
    ]
    assert postconf("-F", "smtp/inet/command", "*/unix/private") == [
        "smtp/inet/command = smtpd",
        "mydrop/unix/private = -",
    ]
    assert postconf("-P") == [
        "submission/inet/mynetworks = 127.0.0.1, 10.0.0.0/8",
        "submission/inet/syslog_name = postfix/submission",
    ]
    assert postconf("-Ph", "submission/inet/syslog_name") == ["postfix/submission"]
    assert postconf("-M", "nosuch") == []
    assert postconf.errors == 'postconf: warning: unmatched request: "nosuch"\n'


def test_service_names_are_expanded(postconf: Postconf, directory: Path) -> None:
    (directory / "master.cf").write_text("relay unix - - n - - smtp -o syslog_name=${x?{$x}:{$own}}/$service_name\n")
    assert postconf("-Px") == ["relay/unix/syslog_name = permit/relay"]


def test_lists(postconf: Postconf) -> None:
    assert set(postconf("-l")) == {"flock", "fcntl", "dotlock"}
    assert {"hash", "texthash", "inline", "regexp"} <= set(postconf("-m"))
    assert postconf("-a") == ["cyrus", "dovecot", "ekiden"]
    assert postconf("-A") == ["cyrus"]
    assert postconf("-T", "run-version")[0].startswith("OpenSSL")


def test_values_are_changed_in_their_place(postconf: Postconf, directory: Path) -> None:
    assert postconf("mydestination=a b", "-e", "relayhost = [x]:25 # y", "new_one=1") == []
    text = MAIN.replace("$myhostname,\n   localhost\n   # in between\n   another.example.com", "a b\n   # in between")
    assert (directory / "main.cf").read_text() == text + " [x]:25 # y\nnew_one = 1\n"
    assert (directory / "master.cf").read_text() == MASTER


def test_values_are_commented_out_and_removed(postconf: Postconf, directory: Path) -> None:
    postconf("-#", "mydestination")
    text = (directory / "main.cf").read_text()
    assert "\n#mydestination = $myhostname,\n#   localhost\n   # in between\n#   another.example.com\n" in text
    postconf("-X", "own", "nosuch")
    assert (directory / "main.cf").read_text() == text.replace("own = permit\n", "", 1)


def test_services_are_changed(postconf: Postconf, directory: Path) -> None:
    file = directory / "master.cf"
    postconf("-M", "smtp/inet=smtp inet n - n - 5 smtpd -v")
    assert file.read_text().splitlines()[0] == "smtp       inet  n       -       n       -       5       smtpd -v"
    postconf("-M", "new/unix=new unix - - n - - smtp -o a=b")
    assert file.read_text().endswith("new        unix  -       -       n       -       -       smtp\n    -o a=b\n")
    postconf("-MX", "new/unix")
    postconf("-M#", "mydrop/unix")
    assert "\n#mydrop    unix" in file.read_text()
    assert "\n#  flags=DRXhu" in file.read_text()
    postconf("-F", "smtp/inet/chroot=y")
    assert "smtp       inet  n       -       y       -       5       smtpd -v\n# a comment\n" in file.read_text()
    postconf("-P", "submission/inet/syslog_name=z", "submission/inet/new=a b")
    assert postconf("-P") == [
        "submission/inet/mynetworks = 127.0.0.1, 10.0.0.0/8",
        "submission/inet/new = a b",
        "submission/inet/syslog_name = z",
    ]
    postconf("-PX", "submission/inet/mynetworks")
    assert [line.split(" ")[0] for line in postconf("-P")] == ["submission/inet/new", "submission/inet/syslog_name"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-q"], "invalid option -- 'q'"),
        (["-j"], "invalid option -- 'j'"),
        (["-hH"], "specify one of -h -H"),
        (["-e", "nosuch"], "missing '=' after attribute name"),
        (["bad name=1"], "missing '=' after attribute name"),
        (["=x"], "missing attribute name"),
        (["-X", "a=b"], "specify one of -e -X -#"),
        (["-e"], "requires name=value"),
        (["a=b\nc=d"], "accepts no multi-line input"),
        (["-Mn"], "do not specify -n"),
        (["-F", "smtp/inet/chroot=zz"], "'zz' in the column chroot: write y, n or -"),
        (["-F", "smtp/inet/nofield=y"], "nofield is not a field"),
        (["-M", "smtp/inet=other unix - - n - - smtp"], "is not the service and the type in"),
        (["-P", "nosuch/inet/a=b"], 'unmatched request: "nosuch/inet/a"'),
        (["-MX", "smtp"], "write service/type instead of"),
        (["-C", "odd"], "the classes are builtin"),
        (["-x", "-o", "mail_name=${", "mail_name"], "mail_name: '{': this bracket is not closed"),
        (["-b"], "bounce templates are not there yet"),
    ],
)
def test_what_is_refused_changes_nothing(arguments: list[str], says: str, postconf: Postconf) -> None:
    assert says in postconf.refused(*arguments)


def test_a_file_keeps_its_permissions_and_a_link_stays_one(postconf: Postconf, directory: Path) -> None:
    real = directory / "real.cf"
    (directory / "main.cf").rename(real)
    (directory / "main.cf").symlink_to("real.cf")
    real.chmod(0o640)
    postconf("myorigin=x")
    assert (directory / "main.cf").is_symlink()
    assert real.stat().st_mode & 0o7777 == 0o640
    assert real.read_text().endswith("myorigin = x\n")
    assert sorted(path.name for path in directory.iterdir()) == ["main.cf", "master.cf", "real.cf"]


def test_a_file_keeps_its_owner(postconf: Postconf, directory: Path) -> None:
    require_root()
    os.chown(directory / "main.cf", 1234, 2345)
    postconf("myorigin=x")
    found = (directory / "main.cf").stat()
    assert (found.st_uid, found.st_gid) == (1234, 2345)


def test_a_change_that_fails_leaves_the_file_and_nothing_else(directory: Path) -> None:
    def fails(text: str) -> str:
        raise ValueError(text[:1])

    with pytest.raises(ValueError, match="#"):
        rewrite(directory / "main.cf", fails)
    assert (directory / "main.cf").read_text() == MAIN + "\n"
    assert len(list(directory.iterdir())) == 2


def test_changes_at_the_same_time_are_all_there(directory: Path) -> None:
    command = [sys.executable, "-m", "ekiden.cli.postconf", "-c", str(directory)]
    running = [subprocess.Popen([*command, f"own_{n}={n}"]) for n in range(6)]
    assert [process.wait(30) for process in running] == [0] * 6
    lines = (directory / "main.cf").read_text().splitlines()
    assert {f"own_{n} = {n}" for n in range(6)} <= set(lines)


def test_a_main_cf_that_is_not_there_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(tmp_path), "myorigin=x"]) == 0
    assert (tmp_path / "main.cf").read_text() == "myorigin = x\n"
    assert main(["-c", str(tmp_path / "none"), "myorigin=x"]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_it_starts_fast_because_it_imports_little(directory: Path) -> None:
    code = (
        "import sys; from ekiden.cli.postconf import main; code = main(sys.argv[1:]); "
        "heavy = {'asyncio', 'ssl', 'sqlite3', 'uvloop', 'pycares', 'argparse', 'idna'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else code)"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code, "-c", str(directory), "-n"], check=True, stdout=subprocess.PIPE)
    assert time.monotonic() - started < 5  # 0.12 s on an idle machine; the imports are what decides
