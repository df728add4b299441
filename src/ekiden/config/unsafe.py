"""Values that were good once and are unsafe today: they are read, kept within a safe floor, and reported.

Where the value asks for less than the floor, the floor holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ekiden.config.expand import ExpansionError
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.problem import Level, Problem
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters

# Oldest first. RFC 8996 says that what is older than TLS 1.2 must not be used.
TLS_VERSIONS = ("SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
TLS_FLOOR = "TLSv1.2"
_PROTOCOLS = re.compile(r"(?:smtp|smtpd|lmtp|postscreen|tlsproxy(?:_client)?)_tls_(?:mandatory_)?protocols")
_CIPHERS = re.compile(r"(?:smtp|smtpd|lmtp|postscreen|tlsproxy(?:_client)?)_tls_(?:mandatory_)?ciphers")
_WEAK_GRADES = ("low", "export", "null")
_DIGEST = re.compile(r"(?:smtp|smtpd|lmtp|postscreen|tlsproxy(?:_client)?)_tls_fingerprint_digest")
_WEAK_DIGESTS = ("md5", "sha1")


def unsafe_values(configuration: Configuration) -> Iterator[Problem]:
    for name in configuration.settings:
        for text in _about(name, configuration.parameters):
            yield Problem(*configuration.place(name), Level.WARNING, text)
    for service in configuration.services:
        if service.overrides:
            parameters = configuration.parameters_of(service)
            for name in service.overrides:
                for text in _about(name, parameters):
                    yield Problem(
                        configuration.master_cf, service.line, Level.WARNING, f"{text} (-o in {service.name})"
                    )
    yield from _address_mappings(configuration)


def _about(name: str, parameters: Parameters) -> Iterator[str]:
    """What there is to say of the value of a parameter."""
    try:
        value = parameters.expanded(parameters.raw(name) or "")
    except ExpansionError:
        return  # load() or the parameter's own check says so, if somebody uses it
    if _PROTOCOLS.fullmatch(name):
        yield from about_protocols(name, value)
    elif _CIPHERS.fullmatch(name) and value.lower() in _WEAK_GRADES:
        yield f"{name} = {value}: ciphers of this grade are broken; the floor is medium, which is used"
    elif _DIGEST.fullmatch(name) and value.lower() in _WEAK_DIGESTS:
        yield f"{name} = {value}: fingerprints of {value} can be forged; write sha256, and the fingerprints with it"
    elif name == "mynetworks_style" and value == "class":
        yield "mynetworks_style = class trusts the whole network class of this host, millions of others'; write host"


def about_protocols(name: str, value: str) -> Iterator[str]:
    """What there is to say of a list of TLS protocols: what it allows and must not."""
    try:
        allowed = tls_versions(value)
    except ValueError as error:
        yield f"{name} = {value}: {error}; TLS 1.2 and newer are used"
        return
    old = [version for version in allowed if TLS_VERSIONS.index(version) < TLS_VERSIONS.index(TLS_FLOOR)]
    if len(old) == len(allowed):
        yield f"{name} = {value}: this leaves nothing of TLS 1.2 and newer, which alone are safe; they are used"
    elif old:
        named = " and ".join(old)
        yield f"{name} = {value} still allows {named}: TLS 1.2 is the floor, and stays it; write >=TLSv1.2"


def tls_versions(value: str) -> tuple[str, ...]:
    """What a list of TLS protocols allows, oldest first (postconf(5), smtpd_tls_protocols). Raises ValueError.

    ``!name`` excludes; names without it are all that there is; ``>=name`` and ``<=name`` set the ends.
    """
    included: set[int] = set()
    excluded: set[int] = set()
    lowest, highest = 0, len(TLS_VERSIONS) - 1
    for word in value.replace(":", " ").replace(",", " ").split():
        name = word.lstrip("!<>=")
        sign = word[: len(word) - len(name)]
        version = _version(name, word)
        if sign == "!":
            excluded.add(version)
        elif sign == ">=":
            lowest = version
        elif sign == "<=":
            highest = version
        elif not sign:
            included.add(version)
        else:
            raise ValueError(f"{word!r}: write a version such as TLSv1.2, with !, >= or <= before it or nothing")
    chosen = (included or set(range(lowest, highest + 1))) - excluded
    return tuple(TLS_VERSIONS[version] for version in sorted(chosen) if lowest <= version <= highest)


def _version(name: str, word: str) -> int:
    for number, known in enumerate(TLS_VERSIONS):
        if name.lower() == known.lower():
            return number
    if name.lower() in ("tlsv1.0", "0301"):
        return TLS_VERSIONS.index("TLSv1")
    if re.fullmatch(r"030[0-4]", name):
        return int(name) - 300 + 1
    raise ValueError(f"{word!r} names no version of TLS: the versions are {', '.join(TLS_VERSIONS)}")


def _address_mappings(configuration: Configuration) -> Iterator[Problem]:
    """no_address_mappings for all listeners also holds for the one that a content filter gives the mail back to."""
    name = "receive_override_options"
    if name not in configuration.settings or not _skips_mappings(configuration.settings[name].text):
        return
    listeners = [service for service in configuration.services if service.command == "smtpd" and service.type == "inet"]
    if any(not _skips_mappings(service.overrides.get(name, "no_address_mappings")) for service in listeners):
        return
    text = (
        "receive_override_options = no_address_mappings holds for every listener, so that no mail at all is mapped by "
        "virtual_alias_maps, canonical_maps and the like; in master.cf, reset it for the listener that takes mail back "
        f"from the content filter{_back(listeners)}: -o receive_override_options=no_unknown_recipient_checks"
    )
    yield Problem(*configuration.place(name), Level.WARNING, text)


def _back(listeners: list[Service]) -> str:
    """The listener that a filter gives mail back to: the one without a content_filter."""
    return next((f" ({s.name})" for s in listeners if s.overrides.get("content_filter", "-").strip() == ""), "")


def _skips_mappings(options: str) -> bool:
    return "no_address_mappings" in split_words(options)
