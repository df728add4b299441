"""Any parameters of MAIL and RCPT give values within their bounds or one refusal; never another exception.

The first byte chooses the command and what was offered; the rest is what follows the path. What is not offered is 555,
however it is written; what is accepted has no character in it that could break a line.
"""

from __future__ import annotations

from typing import Any

from ekiden.message.envelope import Notify
from ekiden.message.xtext import decode_xtext, encode_xtext
from ekiden.protocol.smtp.commands import Invalid, Mail, Rcpt
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS
from ekiden.protocol.smtp.verbs import VERBS, Rules

_ALL = frozenset(row.extension for row in (*MAIL_PARAMETERS.values(), *RCPT_PARAMETERS.values())) | {
    *("BINARYMIME", "CHUNKING")
}
_PLAIN = Rules(Limits(), 1000, False)
_OFFERS = [
    _PLAIN.offering(offer) for offer in (_ALL, frozenset[str](), frozenset({"DSN"}), frozenset({"DSN", "SMTPUTF8"}))
]

_MAIL = [
    b" SIZE=1000 BODY=8BITMIME",
    b" SMTPUTF8 RET=HDRS ENVID=QQ+2B1 AUTH=<>",
    b" BY=120;RT HOLDFOR=3600 MT-PRIORITY=-3 REQUIRETLS",
    b" HOLDUNTIL=2027-01-15T08:00:00.123+01:00 BODY=BINARYMIME",
    b" by=-5;n body=7bit size=0",
]
_RCPT = [
    b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bnews@b.example",
    b" ORCPT=utf-8;\\x{99C5}@b.example NOTIFY=NEVER",
    b" ORCPT=UTF-8;\xc3\xbc@b.example",
    b" ORCPT=rfc822;+C3+BC@b.example",
]
SEEDS = [bytes((0 + 2 * at % 8,)) + text for at, text in enumerate(_MAIL)] + [
    bytes((1 + 2 * at % 8,)) + text for at, text in enumerate(_RCPT)
]


def one_input(data: bytes) -> None:
    if not data:
        return
    rules, text = _OFFERS[data[0] // 2 % 4], data[1:].translate(None, b"\r\n\0")
    verb, path = ((b"MAIL", b"FROM:<a@b.example>"), (b"RCPT", b"TO:<a@b.example>"))[data[0] % 2]
    parsed = VERBS[verb].parse(path + text, rules)
    if isinstance(parsed, Invalid):
        assert parsed.reply.code in (501, 552, 553, 555), parsed
        assert parsed.reply.text.isascii()
        assert len(parsed.reply.text) < 120
    elif isinstance(parsed, Mail):
        _check_mail(parsed, rules)
    else:
        assert isinstance(parsed, Rcpt)
        assert parsed.notify is None or Notify.GIVEN in parsed.notify
        assert "DSN" in rules.offered or (parsed.notify is None and not parsed.orcpt)
        assert _is_clean(parsed.orcpt)
        assert not parsed.orcpt or ";" in parsed.orcpt
    packed = encode_xtext(text)
    assert decode_xtext(packed) == text


def _check_mail(mail: Mail, rules: Rules) -> None:
    options = mail.options
    assert mail.size is None or 0 <= mail.size <= 1000
    used: dict[str, Any] = {
        "SMTPUTF8": options.smtputf8,
        "DSN": options.ret or options.envid,
        "DELIVERBY": options.by,
        "FUTURERELEASE": options.hold_for is not None or options.hold_until is not None,
        "MT-PRIORITY": options.priority is not None,
        "REQUIRETLS": options.require_tls,
        "AUTH": options.auth,
    }
    assert {extension for extension, value in used.items() if value} <= rules.offered
    assert _is_clean(options.envid)
    assert _is_clean(options.auth or "")
    assert options.by is None or abs(options.by.seconds) < 10**9
    assert options.by is None or options.by.seconds > 0 or not options.by.returns
    assert options.hold_for is None or 0 < options.hold_for < 10**9
    assert options.priority is None or -9 <= options.priority <= 9


def _is_clean(text: str) -> bool:
    return not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or char in "\u2028\u2029" for char in text)
