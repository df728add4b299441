"""The tables of sendmail in the form of ours: access, virtusertable, mailertable, genericstable, aliases."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ekiden.cli.move_in.moved import Moved, network, plain_lines, read_text

_NETWORK = re.compile(r"[0-9.]+(/[0-9]+)?|(IPv6:)?[0-9a-fA-F]*:[0-9a-fA-F:]*(/[0-9]+)?")
_TAGS = ("connect", "from", "to", "spam", "greetpause", "clientrate", "clientconn", "srv_features", "tls_srv",
         "tls_clt", "authinfo", "try_tls", "tls_rcpt", "compat")  # fmt: skip


def user_table(source: Path, moved: Moved) -> str:
    """virtusertable: ``user@domain target``, ``@domain %1@other``, ``error:nouser text``."""
    entries: list[tuple[str, str]] = []
    gone: list[tuple[str, str]] = []
    for number, text in plain_lines(source):
        key, _, value = _columns(text)
        place = f"{source}:{number}"
        if not value:
            moved.left(place, text, "an entry has a key and a value")
        elif value.lower().startswith("error:"):
            gone.append((key, value.partition(" ")[2] or "User unknown"))
            moved.changed(place, text, f"relocated_maps: mail for {key} is refused")
        elif "%2" in value or "%3" in value or value.count("%1") > 1:
            moved.left(place, text, "only %1@domain can be said in virtual_alias_maps; a regexp table can do more")
        elif value == "%1@" + value.partition("@")[2] and key.startswith("@"):
            entries.append((key, f"@{value.partition('@')[2]}"))
            moved.carried(place, text, f"virtual: {key} @{value.partition('@')[2]}")
        elif "%1" in value:
            moved.left(place, text, "only %1@domain can be said in virtual_alias_maps; a regexp table can do more")
        else:
            entries.append((key, value))
            moved.carried(place, text, f"virtual: {key} {value}")
    moved.add("virtual_alias_maps", moved.table("virtual", entries))
    if gone:
        moved.add("relocated_maps", moved.table("relocated", gone))
    return f"virtual_alias_maps has the {len(entries)} entries of {source}"


def mailer_table(source: Path, moved: Moved) -> str:
    """mailertable: ``domain mailer:host``."""
    entries: list[tuple[str, str]] = []
    for number, text in plain_lines(source):
        place = f"{source}:{number}"
        key, _, value = _columns(text)
        result = _transport(value)
        if result is None:
            moved.left(place, text, f"there is no transport like {value!r}")
            continue
        entries.append((key, result))
        moved.carried(place, text, f"transport: {key} {result}")
    moved.add("transport_maps", moved.table("transport", entries))
    return f"transport_maps has the {len(entries)} entries of {source}"


def _transport(value: str) -> str | None:
    """``esmtp:[host]`` -> ``smtp:[host]``, or None."""
    mailer, colon, host = value.partition(":")
    if not colon:
        return None
    match mailer.lower():
        case "smtp" | "esmtp" | "smtp8" | "dsmtp" | "relay":
            return f"smtp:{host}"
        case "error":
            status, _, text = host.partition(":")
            code = status if re.fullmatch(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}", status) else "5.1.2"
            words = re.sub(r"^\"|\"$|^[45][0-9]{2} ", "", (text or host).strip())
            return f"error:{code} {words}"
        case "local":
            return "local:"
        case "lmtp":
            return f"lmtp:{host}"
        case "discard":
            return "discard:"
        case _:
            return None


def sender_table(source: Path, moved: Moved) -> str:
    """genericstable: ``user address``, ``user@domain address``, ``@domain %1@other``."""
    entries: list[tuple[str, str]] = []
    for number, text in plain_lines(source):
        place = f"{source}:{number}"
        key, _, value = _columns(text)
        if not value or ("%1" in value and not (key.startswith("@") and value.startswith("%1@"))):
            moved.left(place, text, "only %1@domain can be said in smtp_generic_maps")
            continue
        result = value.removeprefix("%1")
        entries.append((key, result))
        moved.carried(place, text, f"generic: {key} {result}")
    moved.add("smtp_generic_maps", moved.table("generic", entries))
    return f"smtp_generic_maps has the {len(entries)} entries of {source}"


def access(source: Path, moved: Moved) -> str:
    """access: who may relay goes to mynetworks and relay_domains, all else to tables of restrictions."""
    tables: dict[str, list[tuple[str, str]]] = {"client": [], "sender": [], "recipient": []}
    for number, text in plain_lines(source):
        place = f"{source}:{number}"
        key, _, value = _columns(text)
        tag, colon, rest = key.partition(":")
        tag = tag.lower() if colon and tag.lower() in _TAGS else ""
        name = rest if tag else key
        action = _action(value)
        if not value or not name or tag not in ("", "connect", "from", "to") or action is None:
            moved.left(place, text, "this kind of entry has no counterpart")
        elif value.upper() == "RELAY":
            _relay(name, tag, place, text, moved)
        else:
            kind = {"connect": "client", "from": "sender", "to": "recipient"}.get(tag) or _kind(name)
            tables[kind].append((name, action))
            moved.carried(place, text, f"access-{kind}: {name} {action}")
    for kind, entries in tables.items():
        if entries:
            listed = f"smtpd_{kind}_restrictions"
            if not moved.has(listed) and kind == "recipient":
                moved.add(listed, "permit_mynetworks", "reject_unauth_destination")
            moved.add(listed, f"check_{kind}_access {moved.table(f'access-{kind}', entries)}")
    return "mynetworks, relay_domains and the tables access-client, access-sender, access-recipient"


def _kind(name: str) -> str:
    """Without a tag an entry is for clients and senders; an address of a network can only be a client's."""
    return "client" if _NETWORK.fullmatch(name) else "sender"


def _relay(name: str, tag: str, place: str, text: str, moved: Moved) -> None:
    if _NETWORK.fullmatch(name):
        moved.add("mynetworks", "127.0.0.0/8", "[::1]/128", network(name))
        moved.carried(place, text, f"mynetworks has {network(name)}")
    elif tag == "connect":
        moved.left(place, text, "clients that may relay are named by their addresses, in mynetworks")
    elif "@" in name or tag == "from":
        moved.left(place, text, "a sender's word is no reason to relay: anybody can write it")
    elif name.lower() in ("localhost", "localhost.localdomain"):
        moved.carried(place, text, "mynetworks has this host's own addresses")
    else:
        moved.add("relay_domains", name)
        moved.carried(place, text, f"relay_domains has {name}")


def _action(value: str) -> str | None:
    """The result of an access(5) table, or None."""
    word = value.upper()
    if word in ("OK", "RELAY", "REJECT", "DISCARD"):
        return word
    if word == "SKIP":
        return "DUNNO"
    error = re.fullmatch(r'"?(?:ERROR:)?(?:([45]\.[0-9.]+):)?"?([45][0-9]{2})\s*([^"]*)"?', value, re.IGNORECASE)
    if error is None:
        return None
    return " ".join(part for part in (error[2], error[1] or "", error[3]) if part)


def alias_file(path: Path, moved: Moved, find: Callable[[Path], Path]) -> str:
    """Copy a file of aliases(5) if it can be read, and return the name that main.cf gives it."""
    found = find(path)
    if not found.exists():
        moved.changed(str(path), "aliases", "the file was not found and is named where it should lie")
        return f"hash:{path}"
    moved.files["aliases"] = moved.files.get("aliases", "") + read_text(found)
    moved.carried(str(found), "aliases", "copied; run newaliases if an index is wanted")
    return f"hash:{moved.directory / 'aliases'}"


def _columns(text: str) -> tuple[str, str, str]:
    key, *rest = text.split(None, 1)
    return key, " ", rest[0].strip() if rest else ""
