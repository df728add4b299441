"""Any bytes as main.cf and master.cf give a Configuration, and every error has its file and its line.

The text is split at the first line ``%%``: main.cf, then master.cf.
"""

from __future__ import annotations

from pathlib import Path

from ekiden.config.check import check
from ekiden.config.load import build
from ekiden.config.problem import Level

DIRECTORY = Path("/fuzz")

SEEDS: list[bytes] = [
    b"myhostname = mx.example.com\nmydestination = $myhostname,\n  localhost\n# c\n%%\n25 inet n - n - - smtpd\n",
    b"a = $b\nb = $c$c\nc = ${d}$(e)\nd = x\ne = $$\nmyorigin = $a\n",
    b"a = $b\nb = $a\nmydomain = $a\n",
    b"mynetworks = 127.0.0.0/8 [::1]/128\nsmtpd_timeout = 5m\nworker_processes = -1\n%%\n",
    b"relayhost = [a]:25\nrelayhost = [b]:25\n \n\t# c\n  continued\nx\n= y\n",
    b"%%\nsmtp inet n - y 60? 10 smtpd -v\n  -o { mynetworks = 1.2.3.4, {a} } -o a=$b\n[::1]:25 inet n - n - - smtpd\n",
    b"%%\nm unix - n n - - pipe flags=R user=x argv=/bin/m -f ${sender} { a b }\n  127.0.0.1:smtp inet - - - - - x\n",
    b"virtual_alias_maps = inline:{ a=b, { c = d e } } static:x\nmyhostname = $mydomain\n\xff\x00\r\n",
]


def one_input(data: bytes) -> None:
    main, _, master = data.decode("utf-8", "surrogateescape").partition("%%\n")
    configuration = build(DIRECTORY, main, master, hostname="mx.example.com")
    problems = check(configuration)
    lines = {"main.cf": main.count("\n") + 1, "master.cf": master.count("\n") + 1}
    for problem in problems:
        assert problem.text, problem
        name = problem.file.removeprefix("/fuzz/")
        assert name in lines, problem
        assert problem.line <= lines[name], problem
        assert problem.line >= 1 or problem.level is not Level.ERROR, problem
    # Whatever was wrong, the snapshot is whole and the services are usable.
    assert configuration.parameters.config_directory == "/fuzz"
    for service in configuration.services:
        assert service.endpoint is not None or service.type != "inet"
        configuration.parameters_of(service)
