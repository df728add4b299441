"""Any template is text or a ValueError; what a hostile recipient says brings in only characters that are allowed."""

from __future__ import annotations

from ekiden.config.errors import ConfigError
from ekiden.deliver.command import command_line, environment
from ekiden.deliver.macros import expand_macros
from ekiden.deliver.mailbox_jobs import Facts, Job, Transport
from ekiden.deliver.pipe_service import parse_pipe_service, pipe_arguments, pipe_head

ALLOWED = "abcdefghijklmnopqrstuvwxyz@./+"
SEEDS = [
    b"$home/.forward${recipient_delimiter}${extension}\n/home/bob+x",
    b"${extension?+$extension}$$${user:{none}}$(domain)\n; rm -rf / #",
    b'flags=DRhu user=nobody argv=/bin/x -f ${sender} ${recipient} $user\n"a b\\""@X.example',
    b"user=a:b eol=\\r\\012 size=5 argv={a b} ${nosuch}\n\xff\xfe\0",
]


def one_input(data: bytes) -> None:
    first, _, rest = data.partition(b"\n")
    template, value = first.decode("utf-8", "surrogateescape"), rest.decode("utf-8", "surrogateescape")
    values = dict.fromkeys(("home", "user", "extension", "recipient_delimiter", "domain"), value)
    try:
        text = expand_macros(template, values, allowed=ALLOWED).text
    except ValueError:
        pass
    else:
        assert set(text) <= set(template) | set(ALLOWED) | {"_"}
    line = command_line(template)
    assert line.argv or not template.split()
    for name, said in environment({"USER": value}, allowed=ALLOWED, exported=("TZ",), own={"TZ": value}):
        assert b"\0" not in name + said
    try:
        service = parse_pipe_service("x", template.split())
    except ConfigError:
        return
    job = Job(1, Transport.PIPE, b"x", rest, b"", b"", 0, Facts(recipient=rest, recipients=((rest, rest), (rest, b""))))
    arguments = pipe_arguments(service, job, "+", True)
    assert all(b"\0" not in argument for argument in arguments)
    assert pipe_head(service, job, 0.0).count(b"\0") == 0
