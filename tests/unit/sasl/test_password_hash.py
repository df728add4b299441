"""Stored passwords as mail systems have them: each scheme, what is allowed, what is no hash."""

from __future__ import annotations

import sys
import time

import pytest

from ekiden.config.parameters.accounts import SCHEMES, WEAK
from ekiden.sasl.password_hash import DUMMY, SchemeTrouble, StoredPassword, new_hash, parse_stored

# "secret", as programs of others hash it: openssl passwd, doveadm pw.
_SECRET = {
    "sha512-crypt": "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGf"
    "Qv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
    "scram-sha-256": "{SCRAM-SHA-256}4096,LZrcLZFa6/cJqSdZgO2p6g==,hJOQmPATox9bnCSLy1qp2vKnan+ixVKaA/F20k+7QkY=,"
    "7Kp52bJ+JbXUGviOGFJQZYxuGqh6AO+1sLH6PHf0k8M=",
    "ssha512": "{SSHA512}LDx3ZlhrQUN4E8JU0omKtxaFzV7ZZypAjzzVqgrYIKFWo3H+PtvJducbkIRugzVFg6lNZinIASaga4yflsRIs+sF5BI=",
    "bcrypt": "{BLF-CRYPT}$2y$05$RvujgqXDFxZ7I2VmG2oW7.TaQDU1FX/lts54sDv2nOLT7R./jvz8u",
    "argon2id": "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$riznhAFwOmyHjIIRRITK9w$"
    "a4pv/jGTxG99oJDU2+02b07laYayzNQj+XclOq0ci48",
    "des-crypt": "abNANd1rDfiNc",
    "plain": "{PLAIN}secret",
    "sha256-crypt": "{CRYPT}$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
    "md5-crypt": "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
    "ssha": "{SSHA}j+E5A/XlHtHmZ/8kWuHaQXnvx/M2fXZG",
    "ssha256": "{SSHA256}sTiYLofYJWbRvZ9sNDh+McDz8NTKGcnmu9LFfDCnwUMVxdjW",
    "sha": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    "sha256": "{SHA256.HEX}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
    "sha512": "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
    "scram-sha-1": "{SCRAM-SHA-1}4096,yAPAZ46mTpqikMNEVgqYwg==,exmsP9FoFBPEE1DNvb/QutxG7a0=,1yeggKyY"
    "etNKAYUyTcdxKbkTbAs=",
}


@pytest.mark.parametrize("scheme", _SECRET)
def test_a_hash_that_others_made_fits_its_password_and_no_other(scheme: str) -> None:
    stored = parse_stored(_SECRET[scheme])
    assert stored.scheme == scheme
    assert stored.fits("secret")
    assert not stored.fits("Secret")
    assert not stored.fits("")
    assert not stored.fits("secret\0")
    assert "secret" not in repr(stored)


def test_every_scheme_is_shown() -> None:
    assert set(SCHEMES) == set(_SECRET) | {"argon2i"}


@pytest.mark.parametrize("scheme", sorted(WEAK))
def test_a_weak_scheme_counts_only_when_it_is_named(scheme: str) -> None:
    with pytest.raises(SchemeTrouble, match="sasl_password_schemes"):
        parse_stored(_SECRET[scheme], set(SCHEMES) - WEAK)
    assert parse_stored(_SECRET[scheme], {scheme}).fits("secret")


@pytest.mark.parametrize("text", ["", "*", "!", "!$6$abc$x", "{SSHA}", "{CRYPT}*", "  "])
def test_a_locked_password_fits_nothing(text: str) -> None:
    for password in ("", "*", "!", text):
        assert not parse_stored(text).fits(password)


@pytest.mark.parametrize(
    "text",
    [
        "secret", "{NOSUCH}x", "{SSHA}secret", "{SHA}c2VjcmV0", "{SSHA256}" + "A" * 43 + "=", "$7$x$y", "$y$j9T$x$y",
        "$6$abc$short", "$6$rounds=999999999$abc$" + "a" * 86, "$2y$31$" + "a" * 53, "$2y$05$short",
        "$argon2id$v=19$m=4294967295,t=3,p=1$c2FsdHNhbHQ$" + "A" * 43, "$argon2id$garbage", "{ARGON2ID}secret",
        "{SCRAM-SHA-256}1,AAAA,AAAA,AAAA", "{SCRAM-SHA-256}x", "{SCRAM-SHA-1}4096,,,", "$1$x", "{SSHA.HEX}zz",
        "{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69", "\0", "{" * 100, "{SSHA}" + "A" * 100_000 + "\n",
        "$argon2d$v=19", "{BLF-CRYPT}$6$a$b",
    ],
)  # fmt: skip
def test_what_is_no_hash_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(SchemeTrouble) as caught:
        parse_stored(text)
    assert len(str(caught.value)) < 150
    assert "c2VjcmV0" not in str(caught.value)


def test_bcrypt_looks_at_72_bytes_as_it_always_did() -> None:
    import bcrypt

    long = "x" * 100
    stored = parse_stored(bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode())
    assert stored.fits(long)


def test_a_hash_of_ours_is_argon2id_and_each_has_its_own_salt() -> None:
    first, second = new_hash("pässword"), new_hash("pässword")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert parse_stored(first).fits("pässword")


def test_the_dummy_fits_nothing_and_takes_as_long_as_a_real_one() -> None:
    real, dummy = parse_stored(new_hash("secret")), parse_stored(DUMMY)
    times = {}
    for name, stored in (("real", real), ("dummy", dummy)):
        times[name] = min(_timed(stored) for _ in range(5))
    assert not dummy.fits("")
    assert 0.4 < times["real"] / times["dummy"] < 2.5


def _timed(stored: StoredPassword) -> float:
    begin = time.process_time()
    assert not stored.fits("wrong")
    return time.process_time() - begin


@pytest.mark.parametrize(("module", "scheme"), [("passlib", "sha512-crypt"), ("bcrypt", "bcrypt")])
def test_a_library_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, module: str, scheme: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SchemeTrouble, match=r"pip install 'ekiden\[legacy-hashes\]'"):
        parse_stored(_SECRET[scheme])
