"""What an administrator does to an account: each function gives the account as it is afterwards.

A password may be refused: ValueError, whose text says why and never shows it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from msgspec import Struct
from msgspec.structs import replace

from ekiden.sasl.account_file import Account
from ekiden.sasl.accounts import HashName
from ekiden.sasl.app_password import AppPassword, new_app_password, stored_digest
from ekiden.sasl.password_hash import new_hash
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.scram_secret import derive, parse_secret
from ekiden.sasl.totp import new_secret

PASSWORD_LIMIT = 1024  # octets
_SALT_BYTES = 16


class ScramPolicy(Struct, frozen=True):
    """Which SCRAM verifiers are kept beside a hash (sasl_scram_hashes, sasl_scram_iterations)."""

    hashes: Collection[HashName] = ()
    iterations: int = 10_000


def prepared_password(password: str, minimum: int) -> str:
    """A password that is to be stored, as it is hashed. Raises ValueError."""
    if len(password) < minimum:
        raise ValueError(f"the password is shorter than {minimum} characters (sasl_password_length_minimum)")
    if len(password.encode("utf-8", "surrogateescape")) > PASSWORD_LIMIT:
        raise ValueError(f"the password is longer than {PASSWORD_LIMIT} octets")
    try:
        prepared = saslprep(password, stored=True)
    except ValueError as error:
        raise ValueError(f"the password cannot be used: {error}") from error
    if not prepared:
        raise ValueError("the password is empty")
    return prepared


def with_password(account: Account, password: str, scram: ScramPolicy, day: str) -> Account:
    """``password`` is one that prepared_password() gave."""
    return replace(account, password=new_hash(password), scram=_verifiers(account, password, scram), changed=day)


def with_app_password(account: Account, name: str, scram: ScramPolicy, day: str) -> tuple[Account, str]:
    """The account with one more, and the password, which is shown once. Raises ValueError."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise ValueError("the name of an app password must be 1 to 100 printable characters")
    if account.app_password(name) is not None:
        raise ValueError(f"{account.name} has an app password {name!r} already")
    password = new_app_password()
    added = AppPassword(name, day, stored_digest(password), _verifiers(account, password, scram))
    return replace(account, app_passwords=(*account.app_passwords, added)), password


def without_app_password(account: Account, name: str) -> Account:
    """Raises ValueError."""
    if account.app_password(name) is None:
        raise ValueError(f"{account.name} has no app password {name!r}")
    return replace(account, app_passwords=tuple(each for each in account.app_passwords if each.name != name))


def with_totp(account: Account) -> Account:
    """From now on the protocols take app passwords only."""
    return replace(account, totp=new_secret())


def _verifiers(account: Account, password: str, policy: ScramPolicy) -> tuple[str, ...]:
    """Salt and count are those that the account's other passwords have: a client proves any of them with one."""
    others = [
        parse_secret(text)
        for text in (*account.scram, *(text for each in account.app_passwords for text in each.scram))
    ]
    made = []
    for hash_name in sorted(policy.hashes):
        model = next((secret for secret in others if secret.hash_name == hash_name), None)
        salt, iterations = (secrets.token_bytes(_SALT_BYTES), policy.iterations)
        if model is not None:
            salt, iterations = model.salt, model.iterations
        made.append(derive(hash_name, password, salt, iterations).text)
    return tuple(made)
