"""Any bytes give results or an error; what we write of a verdict reads back alike; ours are removed, others stay."""

from __future__ import annotations

from ekiden.auth.results.quoting import REASON_LIMIT, value_text
from ekiden.auth.results.read import AuthenticationResults, ResultsError, parse
from ekiden.auth.results.remove import same_identifier, without_own
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.verdict import DkimVerdict, Result, SpfVerdict, Verdicts

SEEDS = [
    b' example.com (a (b)); dkim=pass reason="x \\" y" header.d=example.net header.b="a/b"; spf=none smtp.mailfrom=a@b',
    b"mx.example.com 1; dmarc=pass (p=reject) header.from=a.test policy.dmarc=reject;",
    b' "mx.example.com"; none',
    b"(x)mx.(y)example.com; auth=pass smtp.auth=m\xc3\xbcller",
    b"other.test; iprev=pass policy.iprev=2001:db8::1",
    b'a\r\nAuthentication-Results: mx.example.com; x="\\',
]
OURS = "mx.example.com"
NAME = b"Authentication-Results:"


def one_input(data: bytes) -> None:
    read = _read(data)
    if data and data[0] & 1:
        _write(data.decode("utf-8", "surrogateescape"), utf8=bool(data[0] & 2))
    else:
        _remove(data, read)


def _read(data: bytes) -> AuthenticationResults | None:
    try:
        read = parse(data)
    except ResultsError:
        return None
    assert read.authserv_id
    for result in read.results:
        for one in result.properties:
            assert one.ptype
            assert one.value.isprintable() or not set(one.value) & set("\r\n\0")
    return read


def _write(text: str, *, utf8: bool) -> None:
    middle = len(text) // 2
    one, other = text[:middle], text[middle:]
    verdicts = Verdicts(
        SpfVerdict(Result.FAIL, "mailfrom", one, reason=other), dkim=(DkimVerdict(Result.PASS, other, one, text),)
    )
    line = results_text(verdicts, login=other, login_mechanism=one, utf8=utf8)
    assert utf8 or line.isascii()
    assert not set(line) & set("\r\n\0")
    field = authentication_results(OURS, line)
    lines = field.split(b"\r\n")
    assert b"\n" not in field.replace(b"\r\n\t", b"").removesuffix(b"\r\n")
    assert max(map(len, lines)) <= 998
    read = parse(field[len(NAME) :])
    assert [result.method for result in read.results] == ([*["auth"] * bool(other), "spf", "dkim"])
    values = {f"{p.ptype}.{p.name}": p.value for result in read.results for p in result.properties}
    written = {
        **({"smtp.auth": other} if other else {}),
        **{"smtp.mailfrom": one, "header.d": other, "header.s": one, "header.i": text},
    }
    assert values == {name: value for name, value in written.items() if value_text(value, utf8=utf8) is not None}
    if other.isascii() and other.isprintable():
        assert read.results[-2].reason == other[:REASON_LIMIT]


def _remove(data: bytes, read: AuthenticationResults | None) -> None:
    # One field: its lines are folded as a header that was taken apart has them.
    value = data.replace(b"\r", b"").replace(b"\n", b"\r\n ")
    header = b"A: b\r\n" + NAME + value + b"\r\nC: d\r\n"
    left = without_own(header, OURS)
    if left != header:
        assert left == b"A: b\r\nC: d\r\n"
        assert read is None or b"\n" in data or b"\r" in data or same_identifier(read.authserv_id, OURS)
    elif read is not None:
        assert not same_identifier(read.authserv_id, OURS)
