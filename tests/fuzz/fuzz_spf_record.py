"""Any zone gives a result of RFC 7208 §2.6 after ten asking and two void terms at most; what it says is printable."""

from __future__ import annotations

from ekiden.auth.spf.check import check_host
from ekiden.auth.spf.lookups import SpfLimits
from ekiden.auth.verdict import Result, SpfVerdict
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Srv, Tlsa

# The lines are the TXT records that are found one after another, and every other answer comes from their octets too.
SEEDS = [
    b"v=spf1 a/24 mx:b.test//64 ptr ip4:192.0.2.0/24 ip6:2001:db8::/32 include:b.test ~all\nv=spf1 redirect=c.test",
    b"v=spf1 exists:%{ir}.%{v}.%{l1r-+}.%{d2} -all exp=%{p}.e.test\nNo %{s} %{L} from %{c} at %{r} (%{t})%_%-",
    b"v=spf1 include:a.test\nv=spf1 ?include:a.test mx a:%{h} x.y=%{o}/\nv=spf1 ptr:%{d} a:%{d}.%{d}.%{d}.test -all",
    b"v=spf1 a:1.test a:2.test mx:3.test -all",
    b"V=spf1 +a//0 ?mX/0 ~exists:%%a.%{S3,/_=} redirect=%{i16r}.test exp=a.b",
]
_RESULTS = frozenset(
    (Result.NONE, Result.NEUTRAL, Result.PASS, Result.FAIL, Result.SOFTFAIL, Result.TEMPERROR, Result.PERMERROR)
)
_LIMITS = SpfLimits(time_s=0, explanation_time_s=0)  # no clock, and so no event loop
_QUESTIONS = 2 + 11 * 11 + 21  # a record and an explanation; terms, the ten names of each, those of the client
_TROUBLE = DnsTrouble("server failure\r\n\xff")


class _Zone:
    """Answers from the input: the n-th octet decides what the n-th question finds."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.texts = iter(data.split(b"\n"))
        self.asked = 0

    def _turn(self) -> int:
        self.asked += 1
        assert self.asked <= _QUESTIONS
        turn = self.data[-self.asked % len(self.data)]
        if turn == 0xFF:
            raise _TROUBLE
        return turn

    async def txt(self, name: str) -> Answer[bytes]:
        assert len(name) <= 253
        self.asked += 1
        text = next(self.texts, None)
        return Answer(Found.NXDOMAIN) if text is None else Answer(Found.RECORDS, (text,))

    async def mx(self, name: str) -> Answer[Mx]:
        turn = self._turn()
        return Answer(Found.RECORDS, tuple(Mx(at, f"m{at}.test") for at in range(turn % 13)))

    async def addresses(self, name: str) -> Answer[str]:
        turn = self._turn()
        assert len(name) <= 253
        if turn % 5 == 0:
            return Answer(Found.NODATA)
        return Answer(Found.RECORDS, (f"192.0.2.{turn % 4}", "2001:db8::1"), partial=turn % 7 == 0)

    async def ptr(self, address: str) -> Answer[str]:
        return Answer(Found.RECORDS, tuple(f"p{at}.a.test" for at in range(self._turn() % 13)))

    async def srv(self, name: str) -> Answer[Srv]:
        raise AssertionError(name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        raise AssertionError(name)

    async def cname(self, name: str) -> Answer[str]:
        raise AssertionError(name)


def one_input(data: bytes) -> None:
    if not data:
        return
    check = check_host(
        _Zone(data),
        client_address="192.0.2.1" if data[0] & 1 else "2001:db8::1",
        domain="a.test",
        sender="first-l+ast@a.test",
        helo="h%.test",
        receiver="mx.test",
        limits=_LIMITS,
        now=1.0,
    )
    verdict: SpfVerdict
    try:
        check.send(None)
    except StopIteration as end:
        verdict = end.value
    else:
        raise AssertionError("it waits for something")
    assert verdict.result in _RESULTS
    assert verdict.lookups <= 10
    assert verdict.void_lookups <= 2
    assert verdict.explanation.isprintable()
    assert len(verdict.explanation) <= _LIMITS.explanation_characters
    assert not verdict.explanation or verdict.result is Result.FAIL
    assert verdict.reason.isprintable()
