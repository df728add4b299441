"""``ekiden import exim PATH``: Debian's update-exim4.conf.conf and the files that go with it (update-exim4.conf(8))."""

from __future__ import annotations

import re
from pathlib import Path

from ekiden.cli.move_in.moved import Moved, MoveTrouble, plain_lines, read_text, smtp_listener
from ekiden.cli.move_in.sendmail_tables import alias_file

_FILE = "update-exim4.conf.conf"
_SETTING = re.compile(r"""^\s*([A-Za-z_]+)=(?:'([^']*)'|"([^"]*)"|(\S*))""")
_TYPES = ("internet", "smarthost", "satellite", "local", "none")


def move(path: Path, moved: Moved) -> None:
    """``path`` is /etc/exim4 or the file itself. Raises MoveTrouble."""
    file = path if path.is_file() else path / _FILE
    if not file.is_file():
        raise MoveTrouble(f"{path}: there is no {_FILE}")
    settings: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        found = _SETTING.match(line)
        if found is not None:
            settings[found[1]] = (f"{file}:{number}", found[2] or found[3] or found[4] or "")
        elif line.strip() and not line.lstrip().startswith("#"):
            moved.left(f"{file}:{number}", line, "this is not name='value'")
    _Reader(file.parent, settings, moved).read()


class _Reader:
    def __init__(self, directory: Path, settings: dict[str, tuple[str, str]], moved: Moved) -> None:
        self._directory = directory
        self._settings = settings
        self._moved = moved
        self._type = self._value("dc_eximconfig_configtype") or "none"

    def _value(self, name: str) -> str:
        return self._settings.get(name, ("", ""))[1]

    def _list(self, name: str) -> list[str]:
        """Exim separates lists by colons (doubled where meant), by ``;`` where the list begins with ``<;``."""
        text = self._value(name)
        if text.startswith("<"):
            return [word.strip() for word in text[2:].split(text[1]) if word.strip()]
        if ";" in text:
            return [word.strip() for word in text.split(";") if word.strip()]
        words = text.replace("::", "\0").split(":")
        return [word.replace("\0", ":").strip() for word in words if word.strip()]

    def read(self) -> None:
        moved = self._moved
        for name, (place, value) in self._settings.items():
            reader = getattr(self, f"_{name.lower()}", None)
            if reader is None:
                moved.left(place, f"{name}='{value}'", "this setting is not known to the import")
            else:
                outcome, text = reader()
                getattr(moved, outcome)(place, f"{name}='{value}'", text)
        self._defaults()

    # Each answers with what became of its setting: the name of Moved's method, and the words.

    def _dc_eximconfig_configtype(self) -> tuple[str, str]:
        if self._type not in _TYPES:
            return "left", f"one of {', '.join(_TYPES)} was expected"
        text = {
            "internet": "mail is sent and received by SMTP",
            "smarthost": "mail for other hosts goes to dc_smarthost",
            "satellite": "all mail goes to dc_smarthost, local mail too",
            "local": "mail for other hosts is refused: default_transport and relay_transport are errors",
            "none": "nothing was configured",
        }[self._type]
        if self._type in ("local", "none"):
            self._moved.set("default_transport", "error:5.1.2 this host delivers no mail to other hosts")
            self._moved.set("relay_transport", "error:5.1.2 this host delivers no mail to other hosts")
        return "carried", text

    def _dc_other_hostnames(self) -> tuple[str, str]:
        names = self._list("dc_other_hostnames")
        if self._type == "satellite":
            return "changed", "a satellite delivers nothing itself: mydestination stays empty"
        self._moved.add("mydestination", "$myhostname", "localhost", *names)
        return "carried", f"mydestination = {', '.join(self._moved.members('mydestination'))}"

    def _dc_local_interfaces(self) -> tuple[str, str]:
        words = self._list("dc_local_interfaces")
        if not words:
            self._moved.services.append(smtp_listener())
            return "carried", "master.cf: port 25 of every interface"
        for word in words:
            address, port = _address_and_port(word)
            self._moved.services.append(smtp_listener(address, port or "smtp"))
        return "carried", "master.cf: " + "; ".join(self._moved.services)

    def _dc_readhost(self) -> tuple[str, str]:
        host = self._value("dc_readhost")
        if not host:
            return "carried", "empty: addresses are left as they are"
        self._moved.set("myorigin", host)
        return "carried", f"myorigin = {host}"

    def _dc_relay_domains(self) -> tuple[str, str]:
        words = self._list("dc_relay_domains")
        domains = [f".{word[2:]}" if word.startswith("*.") else word for word in words]
        bad = [word for word in domains if "*" in word or "@" in word or "/" in word]
        if "*" in words:
            return "left", "relaying for every domain is an open relay"
        self._moved.add("relay_domains", *(word for word in domains if word not in bad))
        if bad:
            return "changed", f"relay_domains, without {', '.join(bad)}"
        return "carried", f"relay_domains = {', '.join(domains)}"

    def _dc_minimaldns(self) -> tuple[str, str]:
        return "carried", "not needed: the server asks DNS for what it sends only, and starts without it"

    def _dc_relay_nets(self) -> tuple[str, str]:
        words = self._list("dc_relay_nets")
        networks = [_bracketed(word) for word in words]
        wide = [word for word in words if word in ("*", "0.0.0.0/0", "::/0")]
        if wide:
            return "left", "relaying for the whole Internet is an open relay"
        names = [word for word in words if re.search(r"[g-z*]", word)]
        if words:
            kept = [network for word, network in zip(words, networks, strict=True) if word not in names]
            self._moved.add("mynetworks", "127.0.0.0/8", "[::1]/128", *kept)
        if names:
            return "changed", f"mynetworks, without the names {', '.join(names)}: write their addresses"
        return "carried", f"mynetworks = {', '.join(self._moved.members('mynetworks')) or 'this host'}"

    def _dc_smarthost(self) -> tuple[str, str]:
        hosts = self._value("dc_smarthost")
        if not hosts:
            return "carried", "empty: mail goes to the MX hosts of its domain"
        if self._type not in ("smarthost", "satellite"):
            return "changed", f"not in use with dc_eximconfig_configtype='{self._type}', and not carried"
        first, *rest = [word for word in re.split(r"\s*;\s*|(?<!:):(?!:)", hosts) if word.strip()]
        self._moved.set("relayhost", _next_hop(first))
        if rest:
            self._moved.set("smtp_fallback_relay", ", ".join(map(_next_hop, rest)))
            return "changed", f"relayhost = {_next_hop(first)}, the others in smtp_fallback_relay"
        return "carried", f"relayhost = {_next_hop(first)}"

    def _dc_hide_mailname(self) -> tuple[str, str]:
        hides = self._value("dc_hide_mailname").lower() == "true"
        return "carried", "myorigin is dc_readhost" if hides else "myorigin is the mail name"

    def _dc_mailname_in_oh(self) -> tuple[str, str]:
        if self._value("dc_mailname_in_oh").lower() == "true" and self._type != "satellite":
            self._moved.add("mydestination", "$myhostname", "localhost", "$myorigin")
            return "carried", "mydestination has $myorigin"
        return "carried", "mydestination has no more names"

    def _dc_localdelivery(self) -> tuple[str, str]:
        way = self._value("dc_localdelivery")
        if way in ("maildir_home", "dc_maildir_home"):
            self._moved.set("home_mailbox", "Maildir/")
            return "carried", "home_mailbox = Maildir/"
        if way in ("mail_spool", ""):
            return "carried", "mbox files in mail_spool_directory = /var/mail"
        return "left", "only mail_spool and maildir_home are known"

    def _dc_use_split_config(self) -> tuple[str, str]:
        return "carried", "not needed: main.cf is one file"

    def _cfilemode(self) -> tuple[str, str]:
        return "carried", "not needed: no file is generated"

    def _dc_eximconfig_use_split_config(self) -> tuple[str, str]:
        return self._dc_use_split_config()

    def _ue4c_keepcomments(self) -> tuple[str, str]:
        return self._cfilemode()

    def _defaults(self) -> None:
        """The files beside, and what a setting that is not there means."""
        moved = self._moved
        if not moved.services and "dc_local_interfaces" not in self._settings:
            moved.services.append(smtp_listener())
        mail_name = self._near("mailname")
        if mail_name is not None and not moved.has("myorigin"):
            name = read_text(mail_name).strip()
            moved.set("myorigin", name)
            moved.carried(str(mail_name), name, f"myorigin = {name}")
        if self._type == "satellite":
            moved.set("mydestination", "")
            moved.set("local_transport", "error:5.1.1 this host has no mailboxes")
        aliases = self._near("aliases")
        if aliases is not None:
            moved.add("alias_maps", alias_file(aliases, moved, lambda found: found))
        addresses = self._near("email-addresses")
        if addresses is not None:
            entries = [tuple(part.strip() for part in text.partition(":")[::2]) for _, text in plain_lines(addresses)]
            moved.add("smtp_generic_maps", moved.table("generic", [(key, value) for key, value in entries]))
            moved.carried(str(addresses), f"{len(entries)} entries", "smtp_generic_maps")
        for name in ("exim4.conf.template", "conf.d", "exim4.conf", "exim4.conf.localmacros", "passwd.client"):
            if (self._directory / name).exists():
                why = "passwords go to smtp_sasl_password_maps" if name == "passwd.client" else (
                    "Exim's own language is not read; what was changed there must be said in main.cf"
                )  # fmt: skip
                moved.left(str(self._directory / name), name, why)

    def _near(self, name: str) -> Path | None:
        """A file of /etc, beside the directory of Exim in the tree that is imported."""
        found = self._directory.parent / name
        return found if found.is_file() else None


def _address_and_port(word: str) -> tuple[str, str]:
    """``127.0.0.1.587`` and ``::1.587`` name a port; ``[127.0.0.1]:587`` does too."""
    bracketed = re.fullmatch(r"\[([^\]]+)\](?:[:.]([0-9]+))?", word)
    if bracketed is not None:
        return bracketed[1], bracketed[2] or ""
    parts = word.split(".")
    if ":" in word and len(parts) > 1:
        return word.rpartition(".")[0], parts[-1]
    return (".".join(parts[:4]), parts[4]) if len(parts) == 5 and ":" not in word else (word, "")


def _bracketed(word: str) -> str:
    address, slash, length = word.partition("/")
    return f"[{address}]{slash}{length}" if ":" in address and not address.startswith("[") else word


def _next_hop(word: str) -> str:
    """``mail.isp.example::587`` is a host with its port; no MX look-up is done for a smarthost."""
    host, _, port = word.strip().partition("::")
    return f"[{host.strip('[]')}]:{port}" if port else f"[{host.strip('[]')}]"
