"""``ekiden import sendmail PATH``: a sendmail.mc and the files beside it (sendmail's cf/README)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ekiden.cli.move_in.m4 import Call, calls
from ekiden.cli.move_in.moved import Moved, MoveTrouble, is_network, network, plain_lines, read_text, smtp_listener
from ekiden.cli.move_in.sendmail_features import feature
from ekiden.cli.move_in.sendmail_options import define
from ekiden.cli.move_in.sendmail_reader import Reader, pair
from ekiden.cli.move_in.sendmail_tables import alias_file


def move(path: Path, moved: Moved) -> None:
    """``path`` is /etc/mail or a .mc file in such a directory. Raises MoveTrouble."""
    macro_file = path if path.is_file() else path / "sendmail.mc"
    if not macro_file.is_file():
        raise MoveTrouble(f"{path}: there is no sendmail.mc (a sendmail.cf cannot be read back)")
    reader = Reader(macro_file, moved)
    for call in calls(read_text(macro_file)):
        handler = _MACROS.get(call.name)
        if call.is_raw:
            reader.left(call, "lines of sendmail.cf have no counterpart; say in main.cf what they were for")
        elif handler is not None and (call.arguments or handler is _nothing):
            handler(reader, call)
        elif call.name.isupper():
            reader.left(call, "this macro is not known to the import")
        # Everything else is text that m4 would pass on, such as a word in a comment.
    _finish(reader)


def _nothing(reader: Reader, call: Call) -> None:
    """Scaffolding of every sendmail.mc."""
    reader.carried(call, "needs no counterpart: there is no macro file to build from")


def _include(reader: Reader, call: Call) -> None:
    if call.arguments[0].endswith("cf.m4"):
        _nothing(reader, call)
    else:
        reader.left(call, "included macro files are not read; import their settings by hand")


def _mailer(reader: Reader, call: Call) -> None:
    name = call.arguments[0].lower()
    if name in ("smtp", "local", "procmail", "cyrusv2", "cyrus") and name not in ("cyrus", "cyrusv2"):
        reader.carried(call, "this transport is built in")
    elif name in ("cyrus", "cyrusv2"):
        reader.moved.set("mailbox_transport", "lmtp:unix:/var/lib/imap/socket/lmtp")
        reader.changed(
            call, "mailbox_transport = lmtp:unix:/var/lib/imap/socket/lmtp; look whether the socket is there"
        )
    else:
        reader.left(call, f"there is no {name} transport; a pipe service of master.cf can run a program for it")


def _undefine(reader: Reader, call: Call) -> None:
    reader.carried(call, "was not set, and is not set here")


def _masquerade_as(reader: Reader, call: Call) -> None:
    reader.masquerade_as = call.arguments[0]
    reader.set(call, "myorigin", call.arguments[0])


def _masquerade_domain(reader: Reader, call: Call) -> None:
    reader.masqueraded += call.arguments[0].split()
    reader.carried(call, "masquerade_domains")


def _exposed_user(reader: Reader, call: Call) -> None:
    reader.exposed += call.arguments[0].split()
    reader.carried(call, "masquerade_exceptions")


def _local_domain(reader: Reader, call: Call) -> None:
    reader.moved.add("mydestination", "$myhostname", "localhost", *call.arguments[0].split())
    reader.carried(call, "mydestination")


def _virtuser_domain(reader: Reader, call: Call) -> None:
    reader.moved.add("virtual_alias_domains", *call.arguments[0].split())
    reader.carried(call, "virtual_alias_domains")


def _generics_domain(reader: Reader, call: Call) -> None:
    reader.changed(call, "smtp_generic_maps replaces what the table has, whatever its domain")


def _relay_domain(reader: Reader, call: Call) -> None:
    reader.moved.add("relay_domains", *call.arguments[0].split())
    reader.carried(call, "relay_domains")


def _domain_file(reader: Reader, call: Call) -> None:
    file = reader.beside(Path(call.arguments[0].split()[-1]))
    parameter = {"RELAY_DOMAIN_FILE": "relay_domains", "VIRTUSER_DOMAIN_FILE": "virtual_alias_domains",
                 "MASQUERADE_DOMAIN_FILE": "masquerade_domains"}.get(call.name)  # fmt: skip
    if parameter is None:
        _generics_domain(reader, call)
        return
    if not file.exists():
        reader.left(call, f"{file} is not there")
        return
    reader.moved.add(parameter, *(text for _, text in plain_lines(file)))
    reader.carried(call, f"{parameter} has what {file} holds")


def _daemon_options(reader: Reader, call: Call) -> None:
    """``Port=smtp,Addr=127.0.0.1, Name=MTA``: a line of master.cf."""
    reader.has_daemon_options = True
    words = dict(pair(word.replace("=", " ", 1)) for word in ",".join(call.arguments).split(",") if "=" in word)
    facts = {name.strip().lower()[:4]: value.strip() for name, value in words.items()}
    port = facts.get("port", "smtp")
    modifiers = facts.get("modi", facts.get("m", ""))
    options: list[str] = []
    if "s" in modifiers:
        options.append("smtpd_tls_wrappermode=yes")
    if "a" in modifiers:
        options += ["smtpd_sasl_auth_enable=yes", "smtpd_client_restrictions=permit_sasl_authenticated,reject"]
    reader.moved.services.append(smtp_listener(facts.get("addr", "").strip("[]").removeprefix("IPv6:"), port, *options))
    reader.carried(call, f"master.cf: {reader.moved.services[-1]}")


def _client_options(reader: Reader, call: Call) -> None:
    words = dict(pair(word.replace("=", " ", 1)) for word in ",".join(call.arguments).split(",") if "=" in word)
    address = words.get("Addr", words.get("A", ""))
    if address:
        reader.set(call, "smtp_bind_address6" if ":" in address else "smtp_bind_address", address)
    else:
        reader.left(call, "only the address of connections is carried")


def _milter(reader: Reader, call: Call) -> None:
    """``INPUT_MAIL_FILTER(`name', `S=local:/path, F=T')``."""
    socket = re.search(r"S=([^,\s]+)", ",".join(call.arguments[1:]))
    if socket is None:
        reader.left(call, "it names no socket")
        return
    text = socket[1].replace("local:", "unix:")
    inet = re.fullmatch(r"inet6?:([0-9]+)@(\S+)", text)
    reader.moved.add("smtpd_milters", f"inet:{inet[2]}:{inet[1]}" if inet else text)
    reader.carried(call, f"smtpd_milters has {reader.moved.members('smtpd_milters')[-1]}")


def _by_mailer_flags(reader: Reader, call: Call) -> None:
    reader.left(call, "flags of mailers have no counterpart; see the parameters of the transport")


def _finish(reader: Reader) -> None:
    moved = reader.moved
    parent = reader.file.parent
    if not moved.has("relay_domains") and (parent / "relay-domains").exists():
        names = [text for _, text in plain_lines(parent / "relay-domains")]
        networks = [network(name) for name in names if is_network(name)]
        domains = [name for name in names if not is_network(name)]
        moved.add("relay_domains", *domains)
        if networks:
            moved.add("mynetworks", "127.0.0.0/8", "[::1]/128", *networks)
        moved.carried(str(parent / "relay-domains"), " ".join(names), "relay_domains and mynetworks")
    if not moved.has("alias_maps"):
        found = reader.beside(Path("/etc/aliases"))
        if found.exists() and found.parent == parent:
            moved.add("alias_maps", alias_file(found, moved, reader.beside))
    if reader.masquerade_as:
        _masquerade(reader)
    if reader.exposed:
        moved.add("masquerade_exceptions", *reader.exposed)
    if not reader.has_daemon_options:
        moved.services.append(smtp_listener())
        if "no_default_msa" not in reader.features:
            moved.services.append(smtp_listener("", "submission"))
    if not moved.has("mydestination"):
        moved.add("mydestination", "$myhostname", "localhost")


def _masquerade(reader: Reader) -> None:
    """Subdomains of the name that all shall have are masqueraded; other domains are replaced whole."""
    name, moved = reader.masquerade_as, reader.moved
    below = [domain for domain in reader.masqueraded if domain.endswith(f".{name}")]
    if below or reader.features & {"masquerade_entire_domain", "allmasquerade"}:
        moved.add("masquerade_domains", name)
    if others := [domain for domain in reader.masqueraded if domain not in (name, *below)]:
        entries = [(f"@{domain}", f"@{name}") for domain in others]
        moved.add("sender_canonical_maps", moved.table("masquerade", entries))


_MACROS: dict[str, Callable[[Reader, Call], None]] = {
    **dict.fromkeys(("divert", "VERSIONID", "OSTYPE", "DOMAIN"), _nothing),
    "include": _include,
    "sinclude": _include,
    "define": define,
    "undefine": _undefine,
    "FEATURE": feature,
    "MAILER": _mailer,
    "MASQUERADE_AS": _masquerade_as,
    "MASQUERADE_DOMAIN": _masquerade_domain,
    "EXPOSED_USER": _exposed_user,
    "LOCAL_DOMAIN": _local_domain,
    "VIRTUSER_DOMAIN": _virtuser_domain,
    "GENERICS_DOMAIN": _generics_domain,
    "RELAY_DOMAIN": _relay_domain,
    **dict.fromkeys(
        ("RELAY_DOMAIN_FILE", "VIRTUSER_DOMAIN_FILE", "GENERICS_DOMAIN_FILE", "MASQUERADE_DOMAIN_FILE"),
        _domain_file,
    ),
    "DAEMON_OPTIONS": _daemon_options,
    "CLIENT_OPTIONS": _client_options,
    "INPUT_MAIL_FILTER": _milter,
    "MAIL_FILTER": _milter,
    "MODIFY_MAILER_FLAGS": _by_mailer_flags,
}
