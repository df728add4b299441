"""``ekiden import qmail PATH``: /var/qmail with control/, users/ and alias/ (qmail-control(5), qmail-users(5))."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from ekiden.cli.move_in.moved import Moved, MoveTrouble, network, plain_lines, read_text, smtp_listener

# Control files with one line that is one parameter of ours.
_ONE = {
    "me": ("myhostname", "{}"),
    "defaulthost": ("myorigin", "{}"),
    "helohost": ("smtp_helo_name", "{}"),
    "databytes": ("message_size_limit", "{}"),
    "queuelifetime": ("maximal_queue_lifetime", "{}s"),
    "timeoutconnect": ("smtp_connect_timeout", "{}s"),
    "timeoutremote": ("smtp_data_done_timeout", "{}s"),
    "timeoutsmtpd": ("smtpd_timeout", "{}s"),
    "smtpgreeting": ("smtpd_banner", "{}"),
    "doublebounceto": ("2bounce_notice_recipient", "{}"),
    "concurrencyremote": ("default_process_limit", "{}"),
    "concurrencylocal": ("local_destination_concurrency_limit", "{}"),
    "outgoingip": ("smtp_bind_address", "{}"),
}
_NEEDLESS = {
    "bouncefrom": "notifications come from MAILER-DAEMON, as qmail's do",
    "bouncehost": "notifications come from MAILER-DAEMON at myhostname",
    "doublebouncehost": "2bounce_notice_recipient names a whole address",
    "idhost": "Message-ID fields have myhostname",
    "localiphost": "address literals of the host are local, always",
    "defaultdomain": "append_dot_mydomain does what it did, with mydomain",
    "plusdomain": "addresses that end in a plus have no meaning any more",
    "envnoathost": "recipients without a domain get myorigin",
    "concurrencyincoming": "smtpd_session_limit bounds sessions",
    "servercert.pem": "certificates are set by smtpd_tls_cert_file and smtpd_tls_key_file",
    "clientcert.pem": "certificates are set by smtp_tls_cert_file and smtp_tls_key_file",
}


def move(path: Path, moved: Moved) -> None:
    """``path`` is /var/qmail, or its control directory. Raises MoveTrouble."""
    root = path.parent if path.name == "control" else path
    control = root / "control"
    if not (control / "me").is_file():
        raise MoveTrouble(f"{path}: there is no control/me")
    _Reader(root, control, moved).read()


class _Reader:
    def __init__(self, root: Path, control: Path, moved: Moved) -> None:
        self._root = root
        self._control = control
        self._moved = moved
        self._aliases: list[tuple[str, str]] = []
        self._virtual: list[tuple[str, str]] = []
        self._domains_of: dict[str, str] = {}  # virtualdomains: prefix of local part, by domain

    def read(self) -> None:
        moved = self._moved
        for file in sorted(self._control.iterdir()):
            if not file.is_file():
                continue
            handler = self._FILES.get(file.name)
            if handler is not None:
                handler(self, file)
            elif file.name in _ONE:
                self._one(file)
            elif file.name in _NEEDLESS:
                moved.carried(str(file), _first(file), f"not needed: {_NEEDLESS[file.name]}")
            else:
                moved.left(str(file), _first(file), "this control file is not known to the import")
        if not moved.has("mydestination"):
            moved.add("mydestination", "$myhostname")
        if (self._control / "me").is_file() and not (self._control / "defaulthost").is_file():
            moved.set("myorigin", "$myhostname")
        self._read_alias_directory()
        self._read_users()
        self._read_relay_clients()
        moved.set("home_mailbox", "Maildir/")
        moved.set("recipient_delimiter", "-")
        moved.changed(
            str(self._root), "defaultdelivery", "home_mailbox = Maildir/ and recipient_delimiter = - as in qmail"
        )
        if self._aliases:
            text = "".join(f"{name}: {targets}\n" for name, targets in self._aliases)
            moved.files["aliases"] = text
            moved.add("alias_maps", f"hash:{moved.directory / 'aliases'}")
        if self._virtual:
            moved.add("virtual_alias_maps", moved.table("virtual", self._virtual))
        moved.services.append(smtp_listener())

    def _one(self, file: Path) -> None:
        name, form = _ONE[file.name]
        value = _first(file)
        if not value:
            self._moved.left(str(file), "", "the file is empty")
            return
        self._moved.set(name, form.format(value))
        self._moved.carried(str(file), value, f"{name} = {form.format(value)}")

    # -- control files with more in them

    def _locals(self, file: Path) -> None:
        names = [text for _, text in plain_lines(file)]
        self._moved.add("mydestination", *names)
        self._moved.carried(str(file), " ".join(names), "mydestination")

    def _rcpthosts(self, file: Path) -> None:
        """Domains that mail is taken for; those that are delivered here are in locals and virtualdomains."""
        here = {text for name in ("locals", "virtualdomains") for text in _domains(self._control / name)}
        for number, text in plain_lines(file):
            place = f"{file}:{number}"
            if text in here or text == _first(self._control / "me"):
                self._moved.carried(place, text, "is a domain of this host")
            else:
                self._moved.add("relay_domains", text)
                self._moved.carried(place, text, f"relay_domains has {text}")

    def _smtproutes(self, file: Path) -> None:
        """``domain:relay:port``; without a domain for all mail, without a relay by DNS."""
        entries: list[tuple[str, str]] = []
        for number, text in plain_lines(file):
            place = f"{file}:{number}"
            domain, colon, rest = text.partition(":")
            if not colon:
                self._moved.left(place, text, "a route is written domain:relay")
                continue
            relay, _, port = rest.partition(" ")[0].partition(":") if not rest.startswith("[") else _literal(rest)
            hop = f"[{relay}]" + (f":{port}" if port else "") if relay else ""
            if " " in rest:
                self._moved.left(place, text.rpartition(" ")[0], "passwords of relays go to smtp_sasl_password_maps")
            if not domain:
                self._moved.set("relayhost", hop)
                self._moved.carried(place, f":{relay}", f"relayhost = {hop}")
            else:
                entries.append((domain, f"smtp:{hop}"))
                self._moved.carried(place, f"{domain}:{relay}", f"transport: {domain} smtp:{hop}")
        if entries:
            self._moved.add("transport_maps", self._moved.table("transport", entries))

    def _virtualdomains(self, file: Path) -> None:
        """``domain:prefix``: user@domain is prefix-user of this host; ``user@domain:prefix`` likewise."""
        for number, text in plain_lines(file):
            place = f"{file}:{number}"
            domain, colon, prefix = text.partition(":")
            if not colon or not domain or not prefix:
                self._moved.left(place, text, "an exception or catch-all of virtualdomains has no counterpart")
            elif "@" in domain:
                self._virtual.append((domain, f"{prefix}-{domain.partition('@')[0]}"))
                self._moved.carried(place, text, f"virtual: {domain}")
            else:
                self._domains_of[domain] = prefix
                self._moved.add("virtual_alias_domains", domain)
                self._moved.carried(place, text, f"virtual_alias_domains has {domain}, its addresses are in virtual")

    def _badmailfrom(self, file: Path) -> None:
        entries = [(text, "REJECT") for _, text in plain_lines(file)]
        table = self._moved.table("access-sender", [(key.removeprefix("@"), action) for key, action in entries])
        self._moved.add("smtpd_sender_restrictions", f"check_sender_access {table}")
        self._moved.carried(str(file), f"{len(entries)} entries", "smtpd_sender_restrictions: access-sender")

    def _percenthack(self, file: Path) -> None:
        self._moved.set("allow_percent_hack", "yes")
        self._moved.changed(str(file), _first(file), "allow_percent_hack = yes, for all domains of this host")

    def _morercpthosts(self, file: Path) -> None:
        if file.suffix == ".cdb":
            self._moved.carried(str(file), file.name, "the index of morercpthosts, which is read itself")
        else:
            self._rcpthosts(file)

    # -- .qmail files

    def _read_alias_directory(self) -> None:
        directory = self._root / "alias"
        for file in sorted(directory.glob(".qmail-*")) if directory.is_dir() else []:
            name = file.name.removeprefix(".qmail-").replace(":", ".")
            targets = self._targets(file)
            if not targets:
                continue
            domain = next(((d, p) for d, p in self._domains_of.items() if name.startswith(f"{p}-")), None)
            if domain is not None:
                local = name.removeprefix(f"{domain[1]}-")
                key = f"@{domain[0]}" if local == "default" else f"{local}@{domain[0]}"
                addresses = [target for target in targets if not target.startswith(('"', "/", ":", "|"))]
                if len(addresses) == len(targets):
                    self._virtual.append((key, ", ".join(addresses)))
                    self._moved.carried(str(file), ", ".join(targets), f"virtual: {key}")
                    continue
                self._virtual.append((key, name))
            if name == "default":
                self._moved.set("luser_relay", targets[0])
                self._moved.changed(str(file), ", ".join(targets), f"luser_relay = {targets[0]}")
                continue
            self._aliases.append((name, ", ".join(targets)))
            self._moved.carried(str(file), ", ".join(targets), f"aliases: {name}")

    def _read_users(self) -> None:
        """users/assign: ``=local:user:uid:gid:home:dash:ext:`` and ``+prefix:...``; each home's own .qmail."""
        file = self._root / "users" / "assign"
        if not file.is_file():
            return
        homes: dict[str, None] = {}
        for number, line in enumerate(read_text(file).splitlines(), 1):
            place = f"{file}:{number}"
            if line in ("", ".") or line.startswith("#"):
                continue
            fields = line[1:].split(":")
            if len(fields) < 7 or line[0] not in "=+":
                self._moved.left(place, line, "this is not =local:user:uid:gid:home:dash:ext:")
                continue
            local, user, home = fields[0], fields[1], fields[4]
            if line[0] == "+" or local != user:
                if line[0] == "+" and local.rstrip("-") == user:
                    self._moved.carried(place, line, "recipient_delimiter = - gives the user his extensions")
                elif line[0] == "+":
                    self._moved.left(place, line, "an address for every name that begins so cannot be said in aliases")
                else:
                    self._aliases.append((local, user))
                    self._moved.carried(place, line, f"aliases: {local}")
            else:
                self._moved.carried(place, line, "the account of the system")
            homes[home] = None
        for home in homes:
            self._own_file(Path(home))

    def _own_file(self, home: Path) -> None:
        near = self._root.joinpath(*home.parts[1:]) if not home.exists() else home
        for file in sorted(near.glob(".qmail*")) if near.is_dir() else []:
            extension = file.name.removeprefix(".qmail").removeprefix("-")
            targets = self._targets(file, owner=home.name)
            kind = f".forward+{extension}" if extension else ".forward"
            self._moved.files[f"forward/{home.name}/{kind.replace('+', '-')}"] = "".join(
                f"{line}\n" for line in targets
            )
            self._moved.changed(
                str(file), ", ".join(targets), f"put forward/{home.name}/{kind.replace('+', '-')} into {home}"
            )

    def _targets(self, file: Path, owner: str = "") -> list[str]:
        """The lines of a .qmail file (dot-qmail(5)) as targets of aliases(5)."""
        targets: list[str] = []
        for number, line in enumerate(read_text(file).splitlines(), 1):
            place = f"{file}:{number}"
            if not line or line.startswith("#"):
                continue
            if line.startswith("|"):
                targets.append(f'"{line}"' if '"' not in line else '"' + line.replace('"', '\\"') + '"')
                self._moved.changed(place, line, "a program: its environment and exit codes are those of local(8) here")
            elif line.startswith("&"):
                targets.append(line[1:].strip())
            elif line.startswith((".", "/")):
                if owner and line.rstrip("/") in ("./Maildir", "./Mailbox"):
                    targets.append(f"\\{owner}")
                elif line.startswith("/"):
                    targets.append(line)
                else:
                    self._moved.left(place, line, "a mailbox named from the home directory needs its full path here")
            elif re.match(r"[\w.+-]", line):
                targets.append(line.strip())
            else:
                self._moved.left(place, line, "this line of a .qmail file is not known to the import")
        return targets

    def _read_relay_clients(self) -> None:
        """tcp.smtp of tcpserver: ``10.0.:allow,RELAYCLIENT=""``."""
        for file in (self._root / "tcp.smtp", self._root.parent / "tcp.smtp", self._control / "tcp.smtp"):
            if not file.is_file():
                continue
            for number, text in plain_lines(file):
                clients, _, rule = text.partition(":")
                place = f"{file}:{number}"
                if "RELAYCLIENT" in rule and re.fullmatch(r"[0-9.]+", clients):
                    word = network(clients)
                    self._moved.add("mynetworks", "127.0.0.0/8", "[::1]/128", word)
                    self._moved.carried(place, text, f"mynetworks has {word}")
                elif rule == "allow" and not clients:
                    self._moved.carried(place, text, "everybody may connect")
                else:
                    self._moved.left(place, text, "only RELAYCLIENT rules for addresses are carried")

    _FILES: ClassVar[dict[str, Callable[[_Reader, Path], None]]] = {
        "locals": _locals,
        "rcpthosts": _rcpthosts,
        "morercpthosts": _morercpthosts,
        "morercpthosts.cdb": _morercpthosts,
        "smtproutes": _smtproutes,
        "virtualdomains": _virtualdomains,
        "badmailfrom": _badmailfrom,
        "percenthack": _percenthack,
    }


def _first(file: Path) -> str:
    lines = read_text(file).splitlines() if file.is_file() else []
    return lines[0].strip() if lines else ""


def _domains(file: Path) -> set[str]:
    return {text.partition(":")[0] for _, text in plain_lines(file)} if file.is_file() else set()


def _literal(text: str) -> tuple[str, str, str]:
    """``[192.0.2.1]:26`` without its brackets, which the next hop gets anyway."""
    address, _, rest = text[1:].partition("]")
    return address, ":", rest.removeprefix(":")
