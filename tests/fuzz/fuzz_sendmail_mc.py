"""The reader of sendmail.mc: any text gives calls with growing line numbers, all within the text, in linear work."""

from __future__ import annotations

from ekiden.cli.move_in.m4 import calls

SEEDS = [
    b"divert(-1)dnl\ndefine(`confQUEUE_LA', `12')dnl\nFEATURE(`msp', `[127.0.0.1]')\n",
    b"define(`confDEF_USER_ID', ``8:12'')dnl\nDAEMON_OPTIONS(`Port=smtp,Addr=127.0.0.1, Name=MTA')dnl\n",
    b"LOCAL_CONFIG\nCwfoo\nLOCAL_RULESETS\nHSubject: $>x\nMAILER(smtp)dnl\n",
    b"FEATURE(`dnsbl', `x', `\"550 \" $`'&{client_addr}')dnl\n# comment\nA(b(c, d), e",
]


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    lines = text.count("\n") + 1
    last = 1
    total = 0
    for call in calls(text):
        assert last <= call.line <= lines
        last = call.line
        total += len(str(call.name)) + sum(map(len, call.arguments))
    assert total <= len(text) + lines * 24  # raw lines carry the name of their section
