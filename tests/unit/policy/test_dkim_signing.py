"""Whose mail is signed with which keys, and what becomes of a message whose key cannot be used."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, KeyTrouble, new_private_key, signing_key
from ekiden.config.snapshot import ParameterError, Parameters
from ekiden.policy.dkim_signing import SIGNATURES_LIMIT, DkimSigner, NamedKey, Signed, listed_keys, named_key
from ekiden.tables.open import open_tables
from ekiden.tls.key_files import KeyFileReader, KeyFiles, key_directories
from support.dkim_oracle import NOW, records, verifies

RSA, ED25519 = new_private_key(RSA_SHA256), new_private_key(ED25519_SHA256)
KEYS = KeyFiles(
    {"/keys/rsa.pem": RSA, "/keys/a.example/ed.key": ED25519, "/keys/broken.pem": b"broken", "/etc/shadow": ED25519},
    troubles={"/keys/denied.pem": "Permission denied"},
)
BODY = b"Hello\r\n"


def signer(entries: str, keys: KeyFiles = KEYS, **settings: str) -> DkimSigner:
    table = f"inline:{{{entries}}}" if entries else ""
    given = {"dkim_signing_table": table, "dkim_key_directory": "/keys/", **settings}
    parameters = Parameters(given)
    return DkimSigner(parameters, open_tables(parameters.dkim_signing_table), key_files=lambda: keys)


def header(author: str, field: str = "From") -> bytes:
    return f"{field}: {author}\r\nSubject: x\r\n".encode()


def sign(made: DkimSigner, head: bytes) -> Signed:
    hashes = BodyHashes()
    made.prepare(hashes)
    hashes.feed(BODY)
    hashes.finish()
    return asyncio.run(made.sign(head, hashes, now=NOW))


ENTRIES = (
    "ceo@a.example = a.example:ceo:rsa.pem, user@a.example=a.example:user:rsa.pem, a.example=a.example:s:rsa.pem,"
    ".a.example=%:sub:rsa.pem, quiet.a.example = none"
)


@pytest.mark.parametrize(
    ("author", "keys"),
    [
        ("CEO <ceo@a.example>", ("ceo._domainkey.a.example",)),
        ("CEO@A.Example", ("ceo._domainkey.a.example",)),
        ("user+tag@a.example", ("user._domainkey.a.example",)),
        ("anna@a.example", ("s._domainkey.a.example",)),
        ("anna@mail.a.example", ("sub._domainkey.mail.a.example",)),
        ("anna@b.mail.a.example", ("sub._domainkey.b.mail.a.example",)),
        ("anna@quiet.a.example", ()),
        ("anna@b.example", ()),
        ("anna@nota.example", ()),
        ("anna", ()),
        ("", ()),
        ("anna@[192.0.2.1]", ()),
        # The first author that the table knows.
        ("x@b.example, anna@a.example", ("s._domainkey.a.example",)),
        ('"ceo@a.example" <x@b.example>', ()),
    ],
)
def test_the_author_decides(author: str, keys: tuple[str, ...]) -> None:
    found = sign(signer(ENTRIES, recipient_delimiter="+"), header(author))
    assert found.keys == keys
    assert bool(found.fields) == bool(keys)
    assert found.troubles == ()
    assert found.refusal is None


def test_any_author_is_an_entry_too() -> None:
    made = signer("*=%:s:rsa.pem, {anna@a.example=b.example:t:rsa.pem}")
    assert sign(made, header("x@c.example")).keys == ("s._domainkey.c.example",)
    assert sign(made, header("anna@a.example")).keys == ("t._domainkey.b.example",)


def test_an_internationalized_author_is_found_in_either_spelling() -> None:
    for key in ("bücher.example", "xn--bcher-kva.example"):
        for author in ("anna@bücher.example", "anna@xn--bcher-kva.example"):
            found = sign(signer(f"{key}=%:s:rsa.pem"), header(author))
            assert found.keys == ("s._domainkey.xn--bcher-kva.example",)


def test_only_from_counts() -> None:
    assert sign(signer(ENTRIES), header("ceo@a.example", "Sender")) == Signed()
    assert sign(signer(ENTRIES), b"") == Signed()


def test_an_entry_may_name_several_keys_and_each_signs() -> None:
    made = signer("{ a.example = a.example:r:/keys/rsa.pem a.example:e:a.example/ed.key }")
    found = sign(made, header("anna@a.example"))
    message = found.fields + header("anna@a.example") + b"\r\n" + BODY
    dns = records(signing_key("a.example", "r", RSA), signing_key("a.example", "e", ED25519))
    assert found.keys == tuple(dns)
    assert verifies(message, dns)
    assert verifies(message, dns, index=1)
    many = " ".join(f"a.example:s{number}:rsa.pem" for number in range(SIGNATURES_LIMIT + 1))
    found = sign(signer(f"{{ a.example = {many} }}"), header("anna@a.example"))
    assert len(found.keys) == SIGNATURES_LIMIT
    assert found.troubles == ("an entry of dkim_signing_table for a.example has more than 5 keys",)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("a.example:s:broken.pem", "/keys/broken.pem for a.example: no private key in PEM form"),
        ("a.example:s:denied.pem", "/keys/denied.pem for a.example: Permission denied"),
        ("a.example:s:missing.pem", "/keys/missing.pem for a.example: there is no such file"),
        ("a.example:s:/etc/shadow", "/etc/shadow does not lie in dkim_key_directory (/keys)"),
        ("a.example:s:../etc/shadow", "/etc/shadow does not lie in dkim_key_directory (/keys)"),
        ("a.example:s:/keys/../etc/shadow", "/etc/shadow does not lie in dkim_key_directory (/keys)"),
        ("a.example:s:/keys", "/keys does not lie in dkim_key_directory (/keys)"),
        ("a.example:rsa.pem", "not domain:selector:file"),
        (":s:rsa.pem", "not domain:selector:file"),
        ("-:s:rsa.pem", "'-' is not the name of a domain"),
        ("a.example:s/x:rsa.pem", "'s/x' is not a selector"),
    ],
)
def test_a_key_that_cannot_be_used_is_a_warning_or_a_reason_to_wait(word: str, said: str) -> None:
    entries = f"{{ a.example = {word} a.example:good:rsa.pem }}"
    found = sign(signer(entries), header("anna@a.example"))
    (trouble,) = found.troubles
    assert said in trouble
    assert trouble.startswith("no DKIM signature by ")
    assert found.keys == ("good._domainkey.a.example",)
    assert found.refusal is None
    found = sign(signer(entries, dkim_signing_required="yes"), header("anna@a.example"))
    assert found.refusal is not None
    assert found.refusal.reply.text == "451 4.3.5 Error: the message cannot be signed"
    assert found.refusal.reason == "dkim-key-unusable"
    assert found.fields == b""


def test_a_table_that_cannot_be_asked_lets_nothing_go_unsigned(tmp_path: Path) -> None:
    made = signer("", dkim_signing_table=f"hash:{tmp_path}/nothing")
    found = sign(made, header("anna@a.example"))
    assert found.refusal is not None
    assert found.refusal.reply.code == 451
    assert found.troubles


def test_without_a_table_there_is_no_signer() -> None:
    assert not signer("")
    assert signer(ENTRIES)


def test_keys_are_used_as_the_files_are_now(tmp_path: Path) -> None:
    parameters = Parameters({"dkim_signing_table": "inline:{*=%:s:k.pem}", "dkim_key_directory": str(tmp_path)})
    reader = KeyFileReader((), directories=key_directories(parameters))
    files = [reader.read()]
    made = DkimSigner(parameters, open_tables(parameters.dkim_signing_table), key_files=lambda: files[0])
    head = header("anna@a.example")
    assert sign(made, head).fields == b""
    for pem in (RSA, ED25519):
        (tmp_path / "k.pem").write_bytes(pem)
        assert reader.changed()
        files[0] = reader.read()
        fields = sign(made, head).fields
        assert verifies(fields + head + b"\r\n" + BODY, records(signing_key("a.example", "s", pem)))
    (tmp_path / "k.pem").unlink()
    files[0] = reader.read()
    assert sign(made, head).troubles


def test_a_directory_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    files = KeyFiles(troubles={"/keys": "Permission denied"})
    found = sign(signer("*=%:s:k.pem", files), header("anna@a.example"))
    assert found.troubles == ("no DKIM signature by /keys/k.pem for a.example: Permission denied",)


@pytest.mark.parametrize("form", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
def test_the_parameters_say_what_a_signature_covers(form: str) -> None:
    made = signer(
        "*=%:s:rsa.pem",
        dkim_canonicalization=form,
        dkim_sign_headers="subject X-One",
        dkim_oversign_headers="x-two",
        dkim_signature_lifetime="1d",
    )
    text = re.sub(rb"\s+", b"", sign(made, header("anna@a.example")).fields)
    assert f"c={form};".encode() in text
    assert b"h=From:subject:x-two;" in text
    assert b"t=1790000000;x=1790086400;" in text


@pytest.mark.parametrize("names", ["From:", "a;b", "Received", "return-path", "ä"])
def test_names_that_no_signature_should_have_are_refused(names: str) -> None:
    with pytest.raises(ParameterError):
        Parameters({"dkim_sign_headers": names})


def test_what_a_table_lists_is_told_key_by_key() -> None:
    entries = [
        ("a.example", "%:s:%.pem, b.example:t:t.pem"),
        ("anna@c.example", "%:s:c.pem"),
        ("*", "%:s:any.pem b.example:t:t.pem"),
        ("quiet.example", "none"),
        ("d.example", "wrong"),
    ]
    found = listed_keys(entries, "/keys")
    assert found[:-1] == [
        ("a.example", NamedKey("a.example", "s", "/keys/a.example.pem")),
        ("a.example", NamedKey("b.example", "t", "/keys/t.pem")),
        ("anna@c.example", NamedKey("c.example", "s", "/keys/c.pem")),
    ]
    assert isinstance(found[-1][1], KeyTrouble)


def test_the_directory_may_be_the_root() -> None:
    assert named_key("a.example:s:k.pem", "", "/").file == "/k.pem"
