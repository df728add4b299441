"""Received-SPF (RFC 7208 §9.1): what is in it, and that nothing breaks out of it."""

from __future__ import annotations

import re
from email import message_from_bytes

from hypothesis import given
from hypothesis import strategies as st

from ekiden.auth.spf.received_spf import received_spf
from ekiden.auth.verdict import Result, SpfVerdict

_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_ATOM = r"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z.]+"
_PAIR = rf"\r\n\t[a-z-]+=(?:{_QUOTED}|{_ATOM})"
_FIELD = re.compile(rf"Received-SPF: [a-z]+ \((?:[ -'*-\[\]-~]|\\[ -~])*\){_PAIR}(?:;{_PAIR})*\r\n")


def test_a_pass() -> None:
    verdict = SpfVerdict(
        Result.PASS, domain="a.test", sender="x@a.test", mechanism="ip4:192.0.2.0/24", reason="it matches (it does)"
    )
    field = received_spf(
        verdict, client_address="192.0.2.1", helo="h.test", receiver="mx.test", envelope_from="x@a.test"
    )
    assert field == (
        b"Received-SPF: pass (mx.test: it matches \\(it does\\))\r\n"
        b"\treceiver=mx.test;\r\n"
        b"\tidentity=mailfrom;\r\n"
        b"\tclient-ip=192.0.2.1;\r\n"
        b"\thelo=h.test;\r\n"
        b'\tenvelope-from="x@a.test";\r\n'
        b'\tmechanism="ip4:192.0.2.0/24"\r\n'
    )


def test_errors_name_the_problem_and_no_match_is_the_default() -> None:
    def field(result: Result) -> bytes:
        verdict = SpfVerdict(result, sender="postmaster@h", reason="why")
        return received_spf(verdict, client_address="2001:db8::1", helo="h", receiver="mx.test")

    assert field(Result.TEMPERROR).endswith(b'\tenvelope-from="postmaster@h";\r\n\tproblem=why\r\n')
    assert field(Result.NEUTRAL).endswith(b";\r\n\tmechanism=default\r\n")
    assert b"mechanism" not in field(Result.NONE)
    assert b'\tclient-ip="2001:db8::1";\r\n' in field(Result.NONE)


@given(*[st.text(max_size=400)] * 6, st.sampled_from([Result.PASS, Result.FAIL, Result.PERMERROR, Result.NEUTRAL]))
def test_nothing_ends_a_string_a_comment_or_a_line(
    mechanism: str, reason: str, helo: str, sender: str, address: str, receiver: str, result: Result
) -> None:
    verdict = SpfVerdict(result, mechanism=mechanism, reason=reason)
    octets = received_spf(verdict, client_address=address, helo=helo, receiver=receiver, envelope_from=sender)
    field = octets.decode("ascii")
    assert _FIELD.fullmatch(field), field
    assert max(map(len, field.split("\r\n"))) <= 998
    assert len(message_from_bytes(octets + b"\r\n").keys()) == 1
