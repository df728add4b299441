"""Any field is a signature whose values agree, or a SignatureError; any record a key, or a KeyRecordError.

What a signature covers is made of whole fields, none of them twice; the relaxed form of a field that is one line is
its own relaxed form.
"""

from __future__ import annotations

from ekiden.auth.dkim.canonical import SignableHeader, own_input, relaxed_field
from ekiden.auth.dkim.key_record import KeyRecordError, parse_key_record
from ekiden.auth.dkim.signature import Signature, SignatureError, parse_signature

_TAGS = (
    b" v=1; a=rsa-sha256; c=relaxed/simple; d=x.test; s=sel; i=j=C3=BC@a.x.test; q=dns/txt; l=12; t=5; x=6;\r\n"
    b"\th=from : to:x:x; z=a|b; bh=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=; b=dGVz\r\n dAo=;"
)
SEEDS = [
    # A header of a signature and other fields.
    b"DKIM-Signature:" + _TAGS + b"\r\nFrom: a\r\nTo:  b \r\n\tc\r\nx : y\r\nX:z\r\n",
    b"DKIM-Signature:" + _TAGS.replace(b"a=rsa", b"a=ed25519").replace(b"x.test", "b\u00fccher.test".encode()),
    b"DKIM-Signature: v=1; b =\r\n\tA\r\n; a=rsa-sha1\r\ndkim-signature:b=\r\n",
    b"from:a\r\n",
    b"x:a\r\r\n\nb:\r\r\n\n \r\n",
    # A key record.
    b"v=DKIM1; k=ed25519; h=sha1:sha256; s=email:*; t=y:s; n=x; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    b"p=MDwwDQYJKoZIhvcNAQEBBQADKwAwKAIhALXOYjMWzv2SLdwTVYRnvbDfF6VCSJEPmGGaV05TwbQpAgMBAAE=",
    b"v = DKIM1 ; p = ; ",
]


def one_input(data: bytes) -> None:
    if b":" not in data[:40]:
        _record(data)
        return
    header = SignableHeader(data)
    for field in header.fields[:2]:
        relaxed = header.canonical([field], "relaxed")
        assert b"\r\n" in relaxed[:-2] or relaxed_field(relaxed) == relaxed
        assert relaxed.startswith(field.name + b":")
    if header.fields:
        field = header.fields[0]
        try:
            signature = parse_signature(field.value)
        except SignatureError:
            return
        _agree(signature)
        own = own_input(field.raw, "simple")
        assert own_input(own + b"\r\n", "simple") == own
        signer = signature.signer
        picked = header.pick(signer.picks, but=field)
        assert field not in picked
        assert len(set(picked)) == len(picked) <= len(signer.signed_headers)
        assert len(header.hash_input(signer.picks, "simple", field)) <= len(data) + 2
        covered = b"".join(relaxed_field(one.raw) for one in picked) + own_input(field.raw, "relaxed")
        assert header.hash_input(signer.picks, "relaxed", field) == covered


def _agree(signature: Signature) -> None:
    signer = signature.signer
    assert f".{signer.identity_domain}".endswith(f".{signer.domain}")
    assert not set(signer.identity) & set("\r\n\0\t\x7f")
    assert "from" in {name.lower() for name in signer.signed_headers}
    assert len(signature.body_hash) == (20 if signer.algorithm == "rsa-sha1" else 32)
    assert not set(signer.key_name) - set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def _record(text: bytes) -> None:
    try:
        record = parse_key_record(text)
    except KeyRecordError:
        return
    assert record.key_type in ("rsa", "ed25519")
    assert (record.key is None) is (record.bits == 0)
