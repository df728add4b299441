"""The TLS policy of each server as the configuration has it: a level for all, and tables with levels of their own.

    example.com          secure match=nexthop:.example.com ciphers=high
    [relay.example]:587  encrypt protocols=>=TLSv1.3
    .example.net         fingerprint match=AB:CD:...|01:23:...

A table is asked for the next hop as routes write it; for a domain without brackets and port also for its parents, each
with the dot in front (postconf(5), smtp_tls_policy_maps).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from ekiden.config.errors import ConfigError
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.config.unsafe import tls_versions
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.tables.open import Maps, open_table
from ekiden.tables.table import Table, TableTrouble
from ekiden.tls.ciphers import GRADES
from ekiden.tls.policy import LEVELS, Level, NoDelivery, TlsOutcome, TlsPolicy

_TROUBLE = Status(4, 7, 5)
# Of smtp_tls_per_site, in the order in which one goes before another.
_SITE_LEVELS = {"MAY": Level.MAY, "NONE": Level.NONE, "MUST_NOPEERMATCH": Level.ENCRYPT, "MUST": Level.VERIFY}
_STRATEGIES = frozenset({"hostname", "nexthop", "dot-nexthop"})
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){15,63}")
_DOMAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


class PolicySyntax(ValueError):
    """A policy that cannot be read; one line for the administrator."""


class ConfiguredPolicies:
    """A TlsPolicySource. ``prefix``: smtp or lmtp, whose parameters count."""

    def __init__(self, parameters: Parameters, prefix: str, *, open_table: Callable[..., Table] = open_table) -> None:
        """Raises ConfigError."""
        self._name = f"{prefix}_tls_policy_maps"
        self._by_level = {level: _base(parameters, prefix, level) for level in Level}
        self.default = self._by_level[configured_level(parameters, prefix)]
        words: Sequence[str] = getattr(parameters, self._name)
        self._maps = Maps([open_table(word, parameters=parameters) for word in words])
        sites: Sequence[str] = () if words else getattr(parameters, f"{prefix}_tls_per_site")
        self._sites = Maps([open_table(word, parameters=parameters) for word in sites])

        # The default, where neither a table nor DNS has a say in it.
        self._constant = (
            None if self._maps or self._sites or self.default.level in (Level.DANE, Level.DANE_ONLY) else self.default
        )

    @property
    def is_off(self) -> bool:
        """No server gets TLS, and no table could say otherwise."""
        return self.default.level is Level.NONE and not self._maps and not self._sites

    def base(self, level: Level) -> TlsPolicy:
        """How TLS is spoken at a level, as the parameters have it."""
        return self._by_level[level]

    def parse(self, text: str) -> TlsPolicy:
        """A line of a table. Raises PolicySyntax."""
        return parse_policy(text, self._by_level)

    def constant_for(self, next_hop: str) -> TlsPolicy | None:
        return self._constant

    async def policy_for(
        self, next_hop: str, host: Host, *, require_tls: bool = False, tls_optional: bool = False
    ) -> TlsPolicy | NoDelivery:
        policy = self.default
        if self._maps or self._sites:
            try:
                policy = await (self._by_table(next_hop) if self._maps else self._by_site(next_hop, host))
            except TableTrouble as trouble:
                return NoDelivery(Status(4, 3, 0), f"TLS policy of {next_hop}: {trouble}")
            except PolicySyntax as error:
                # Whoever wrote it wanted something; until we know what, nothing goes out.
                name = self._name if self._maps else self._name.replace("policy_maps", "per_site")
                return NoDelivery(_TROUBLE, f"client TLS configuration problem: {name}: {next_hop}: {error}")
        if require_tls and not policy.level.authenticates:
            # RFC 8689 §4.2.1: such a message goes to a server that is known by its certificate, or not at all.
            return replace(self._by_level[Level.VERIFY], public_authorities=True)
        return policy

    async def _by_table(self, next_hop: str) -> TlsPolicy:
        """What a table says is never the default itself, even where it says the same: nobody else has a say in it.

        Raises TableTrouble, PolicySyntax.
        """
        for key in keys_of(next_hop):
            found = await self._maps.lookup(key, partial=key is not next_hop)
            if found is not None:
                return replace(parse_policy(found, self._by_level))
        return self.default

    async def _by_site(self, next_hop: str, host: Host) -> TlsPolicy:
        """smtp_tls_per_site: of two answers the stricter holds, but NONE goes before MAY.

        Raises TableTrouble, PolicySyntax.
        """
        found = [word for key in (next_hop, host.name) if (word := await self._sites.lookup(key)) is not None]
        if not found:
            return self.default
        wrong = [word for word in found if word.upper() not in _SITE_LEVELS]
        if wrong:
            raise PolicySyntax(f"{wrong[0]!r} is none of {', '.join(_SITE_LEVELS)}")
        strictest = max((word.upper() for word in found), key=list(_SITE_LEVELS).index)
        return replace(self._by_level[_SITE_LEVELS[strictest]])

    def tell(self, next_hop: str, host: Host, policy: TlsPolicy, outcome: TlsOutcome) -> None:
        """Nobody asks for reports of what the configuration alone has decided."""

    async def close(self) -> None:
        for table in (*self._maps.tables, *self._sites.tables):
            await table.close()


def configured_level(parameters: Parameters, prefix: str) -> Level:
    """The level of next hops that no table knows."""
    own: Callable[[str], Any] = partial(_own, parameters, prefix)
    word = own("tls_security_level")
    if word:
        level = LEVELS[word]
    elif own("enforce_tls"):
        level = Level.VERIFY if own("tls_enforce_peername") else Level.ENCRYPT
    else:
        level = Level.MAY if own("use_tls") else Level.NONE
    # There is no way back to plain text where TLS comes first.
    return max(level, Level.ENCRYPT) if own("tls_wrappermode") else level


def keys_of(next_hop: str) -> Iterator[str]:
    """What a policy table is asked for."""
    yield next_hop
    if _DOMAIN.fullmatch(next_hop) is not None:
        at = next_hop.find(".", 1)
        while 0 <= at < len(next_hop) - 1:
            yield next_hop[at:]
            at = next_hop.find(".", at + 1)


def parse_policy(text: str, by_level: dict[Level, TlsPolicy]) -> TlsPolicy:
    """``level name=value ...``, on top of what the parameters say for the level. Raises PolicySyntax."""
    word, *attributes = list(split_words(text)) or [""]
    level = LEVELS.get(word.lower())
    if level is None:
        raise PolicySyntax(f"{word!r} is no level: write one of {', '.join(LEVELS)}")
    policy = by_level[level]
    matches: list[str] = []
    anchors: list[str] = []
    excluded: list[str] = []
    for attribute in attributes:
        name, equals, value = attribute.partition("=")
        name = name.lower()
        if not equals or not value:
            raise PolicySyntax(f"{attribute!r} is no attribute: write name=value")
        if level is Level.NONE:
            continue  # they say how TLS is to be, and there is none
        match name:
            case "match" if level in (Level.FINGERPRINT, Level.VERIFY, Level.SECURE):
                matches += value.split("|" if level is Level.FINGERPRINT else ":")
            case "protocols":
                policy = replace(policy, protocols=_protocols(value))
            case "ciphers":
                policy = replace(policy, ciphers=_grade(value))
            case "exclude":
                excluded += [each for each in re.split(r"[:,]", value) if each]
            case "servername":
                policy = replace(policy, server_name=value)
            case "tafile" if level in (Level.VERIFY, Level.SECURE):
                anchors.append(value)
            case "connection_reuse":
                policy = replace(policy, reuse=_yes_no(name, value))
            case "enable_rpk":
                # Keys without certificates: the ssl module does not know them. A certificate does the same.
                _yes_no(name, value)
            case _:
                raise PolicySyntax(f"level {level.word} has no attribute {name!r}")
    if level is Level.FINGERPRINT:
        policy = replace(policy, fingerprints=(*policy.fingerprints, *fingerprints(matches)))
        if not policy.fingerprints:
            raise PolicySyntax("level fingerprint needs match=, or smtp_tls_fingerprint_cert_match")
    elif matches:
        policy = replace(policy, match=_names(matches))
    if anchors:
        policy = replace(policy, trust_anchors=tuple(anchors))
    if excluded:
        policy = replace(policy, exclude=(*policy.exclude, *excluded))
    return policy


def fingerprints(words: Sequence[str]) -> tuple[str, ...]:
    """Digests in upper case with colons; they may be written without, and in lower case. Raises PolicySyntax."""
    found = []
    for word in words:
        digest = word.upper().strip()
        if ":" not in digest:
            digest = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
        if _FINGERPRINT.fullmatch(digest) is None:
            raise PolicySyntax(f"{word!r} is no digest of a certificate or key")
        found.append(digest)
    return tuple(found)


def _own(parameters: Parameters, prefix: str, name: str) -> Any:
    return getattr(parameters, f"{prefix}_{name}")


def _base(parameters: Parameters, prefix: str, level: Level) -> TlsPolicy:
    """What the parameters say for a level. Raises ConfigError."""
    own: Callable[[str], Any] = partial(_own, parameters, prefix)
    name = f"{prefix}_tls_fingerprint_cert_match"
    match: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    try:
        if level in (Level.VERIFY, Level.SECURE):
            name = f"{prefix}_tls_{level.word}_cert_match"
            match = _names([each for word in own(f"tls_{level.word}_cert_match") for each in word.split(":")])
        elif level is Level.FINGERPRINT:
            prints = fingerprints([each for word in own("tls_fingerprint_cert_match") for each in word.split("|")])
        which = "tls_mandatory_" if level.is_mandatory else "tls_"
        name = f"{prefix}_{which}ciphers"
        grade = _grade(own(f"{which}ciphers"))
    except PolicySyntax as error:
        raise ConfigError(f"{name}: {error}") from error
    if level is configured_level(parameters, prefix) is Level.FINGERPRINT and not prints:
        raise ConfigError(f"{prefix}_tls_security_level = fingerprint needs {prefix}_tls_fingerprint_cert_match")
    excluded = own("tls_exclude_ciphers")
    if level.is_mandatory:
        excluded += f" {own('tls_mandatory_exclude_ciphers')}"
    anchors = own("tls_trust_anchor_file")
    return TlsPolicy(
        level=level,
        match=match,
        fingerprints=prints,
        protocols=own(f"{which}protocols"),
        ciphers=grade,
        exclude=tuple(split_words(excluded)),
        server_name=own("tls_servername"),
        trust_anchors=(anchors,) if anchors and level in (Level.VERIFY, Level.SECURE) else (),
        reuse=own("tls_connection_reuse"),
    )


def _names(words: Sequence[str]) -> tuple[str, ...]:
    names = tuple(word.lower() if word.lower() in _STRATEGIES else word for word in words if word)
    if not names:
        raise PolicySyntax("there is no name to match")
    return names


def _protocols(value: str) -> str:
    text = value.replace(":", " ").replace(";", " ")
    try:
        tls_versions(text)
    except ValueError as error:
        raise PolicySyntax(f"protocols={value}: {error}") from error
    return text


def _grade(value: str) -> str:
    if value.lower() not in GRADES:
        raise PolicySyntax(f"{value!r} is no grade of ciphers: the grades are high and medium")
    return value.lower()


def _yes_no(name: str, value: str) -> bool:
    if value.lower() not in ("yes", "no"):
        raise PolicySyntax(f"{name}={value}: write yes or no")
    return value.lower() == "yes"
