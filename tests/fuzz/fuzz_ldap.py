"""Any bytes give the same LDAP messages or a ValueError in any chunking; any text is a filter or a ValueError.

A key put into a filter with its quoting is a value there and never changes what is asked.
"""

from __future__ import annotations

from ekiden.protocol.ldap import ber, names
from ekiden.protocol.ldap import filter as ldap_filter
from ekiden.protocol.ldap.messages import (
    Scope,
    bind_request,
    parse_message,
    search_request,
)

LIMIT = 500


def _done(number: int, code: int) -> bytes:
    content = ber.sequence(ber.integer(code, ber.ENUMERATED), ber.text(""), ber.text("no"), tag=0x65)
    return ber.sequence(ber.integer(number), content)


def _entry() -> bytes:
    values = ber.sequence(ber.text("a@example"), ber.text("b"), tag=ber.SET)
    content = ber.sequence(ber.text("cn=x"), ber.sequence(ber.sequence(ber.text("mail"), values)), tag=0x64)
    return ber.sequence(ber.integer(2), content)


SEEDS = [
    _entry() + _entry() + _done(2, 0),
    _done(0, 52),
    b"\x30\x84\x00\x00\x00\x05\x02\x01\x01\x73\x00",
    b"\x30\x80\x00\x00",
    b"(&(mail=a*b*c)(|(cn~=x)(!(uid>=5))(sn:dn:2.5.13.2:=\\2a)))",
    b"(objectClass=*)",
    b"uid=\\28x",
    b"ldap:///ou=x?mail,cn?sub?(a=b)",
]


def heard(data: bytes, chunk: int) -> list[str]:
    found: list[str] = []
    buffer = bytearray()
    for at in range(0, len(data), chunk):
        buffer += data[at : at + chunk]
        while True:
            try:
                message = parse_message(buffer, LIMIT)
            except ValueError:
                return [*found, "trouble"]
            if message is None:
                break
            assert 0 < message[1] <= len(buffer)
            found.append(repr(message[0]))
            del buffer[: message[1]]
    return found


def one_input(data: bytes) -> None:
    whole = heard(data, max(1, len(data)))
    for chunk in (1, 2, 7, 64):
        assert heard(data, chunk) == whole
    text = data.decode("utf-8", "surrogateescape")
    try:
        encoded = ldap_filter.encode(text)
    except ValueError:
        pass
    else:
        [(tag, _)] = ber.elements(encoded)  # one element, whole
        assert 0x80 <= tag <= 0xA9
    try:
        names.parse_search_url(text)
    except ValueError:
        pass
    expected = ber.sequence(ber.text("mail"), ber.element(ber.OCTET_STRING, data), tag=0xA3)
    assert ldap_filter.encode(f"(mail={ldap_filter.quoted(text)})") == expected
    request = search_request(1, names.quoted(text), Scope.SUB, expected, ("mail",))
    [(tag, content)] = ber.elements(request)
    assert tag == ber.SEQUENCE
    assert len(list(ber.elements(content))) == 2
    [(_, inner)] = ber.elements(bind_request(7, text, text))
    assert data in inner
