"""The parameters of MAIL FROM and RCPT TO that a message brings along, as far as a server offers to hear them.

In:   the envelope and the recipients as the queue has them, and what the server offers.
Out:  text to stand behind a path, each parameter with a blank before it; b"" for a message that asks for nothing.
Never: a byte that ends a line or begins another parameter, whatever the values hold.

RFC 3461 §4
    notify-esmtp-value = "NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" )
    ret-value          = "FULL" / "HDRS"
    original-recipient-address = addr-type ";" xtext
    xtext              = *( xchar / hexchar )   xchar = "!" to "~" without "+" and "="   hexchar = "+" 2HEXDIG
RFC 6533 §3
    utf-8-addr-xtext   = 1*( QCHAR / "\\x{" HEXPOINT "}" )       utf-8-addr-unitext: with UTF-8 as it is
RFC 2852 §4
    by-value = [ "-" ] 1*9DIGIT ";" ( "N" / "R" ) [ "T" ]
"""

from __future__ import annotations

import re

from ekiden.message.envelope import DeliverBy, Envelope, Notify, Recipient
from ekiden.protocol.smtp.client_extensions import Extensions

_NOT_XCHAR = re.compile(rb"[^!-*,-<>-~]")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_NOT_ADDRESS_TYPE = re.compile(r"[^A-Za-z0-9-]")
_MOST_DIGITS_S = 999_999_999  # RFC 2852 §4: nine digits
_LONGEST_ENVID = 100  # RFC 3461 §4.4
_LONGEST_ORCPT = 500  # RFC 3461 §4.2


def xtext(text: str) -> bytes:
    """RFC 3461 §4; bytes of UTF-8 are written as hexchar, too."""
    return _NOT_XCHAR.sub(lambda found: b"+%02X" % found[0][0], text.encode("utf-8", "surrogateescape"))


def mail_parameters(envelope: Envelope, extensions: Extensions, *, now: float) -> bytes:
    """What of the envelope goes with MAIL FROM beside SIZE, BODY and SMTPUTF8. ``now``: seconds since the epoch."""
    words = b""
    if extensions.dsn:
        if envelope.ret is not None:
            words += b" RET=" + envelope.ret.value.encode("ascii")
        if envelope.envid and len(envid := xtext(envelope.envid)) <= _LONGEST_ENVID:
            words += b" ENVID=" + envid
    if envelope.deliver_by is not None and extensions.deliver_by:
        words += b" BY=" + _by(envelope.deliver_by, now)
    if envelope.priority and extensions.mt_priority:
        words += b" MT-PRIORITY=%d" % envelope.priority
    if envelope.require_tls and extensions.require_tls:
        words += b" REQUIRETLS"
    return words


def seconds_left(deliver_by: DeliverBy, now: float) -> int:
    """RFC 2852 §4: whole seconds; in mode N the time may be over."""
    return max(-_MOST_DIGITS_S, min(_MOST_DIGITS_S, int(deliver_by.until - now)))


def _by(deliver_by: DeliverBy, now: float) -> bytes:
    mode = b"R" if deliver_by.returns else b"N"
    return b"%d;%b%b" % (seconds_left(deliver_by, now), mode, b"T" if deliver_by.traces else b"")


_BY_DEFAULT = Notify.FAILURE | Notify.DELAY


def asks_nothing(recipient: Recipient) -> bool:
    """The commonest recipient: nothing is to be told about it with RCPT TO."""
    return recipient.notify == _BY_DEFAULT and recipient.original is None and not recipient.orcpt


_CONDITIONS = ((Notify.SUCCESS, b"SUCCESS"), (Notify.FAILURE, b"FAILURE"), (Notify.DELAY, b"DELAY"))


def recipient_parameters(recipient: Recipient, *, smtputf8: bool) -> bytes:
    """NOTIFY and ORCPT of one recipient, for a server that offers DSN (RFC 3461 §5.2.1)."""
    notify, words = recipient.notify, b""
    if Notify.GIVEN in notify or not notify:
        words = b" NOTIFY=" + (b",".join([word for flag, word in _CONDITIONS if flag in notify]) or b"NEVER")
    if recipient.orcpt:
        return words + _orcpt(*recipient.orcpt.partition(";")[::2], smtputf8=smtputf8)
    original = recipient.original
    # A name of this host (the sendmail command's "root") is no address elsewhere: a strict server would refuse it.
    if original is not None and original.domain and original != recipient.address:
        address = str(original)
        return words + _orcpt("rfc822" if address.isascii() else "utf-8", address, smtputf8=smtputf8)
    return words


def _orcpt(kind: str, address: str, *, smtputf8: bool) -> bytes:
    kind, address = kind.strip(), address.strip()
    if not kind or not address or _NOT_ADDRESS_TYPE.search(kind) is not None:
        return b""
    if kind.lower() != "utf-8":
        value = xtext(address)
    else:
        value = _NOT_QCHAR.sub(lambda found: _escaped(found[0], smtputf8=smtputf8), address).encode("utf-8")
    word = b" ORCPT=" + kind.encode("ascii") + b";" + value
    return word if len(word) - len(b" ORCPT=") <= _LONGEST_ORCPT else b""


def _escaped(char: str, *, smtputf8: bool) -> str:
    point = ord(char)
    if smtputf8 and point > 0x9F and not 0xD800 <= point <= 0xDFFF:
        return char
    return f"\\x{{{'FFFD' if 0xD800 <= point <= 0xDFFF else format(point, 'X')}}}"
