"""``ekiden import sendmail PATH``: a sendmail.mc and the files beside it (sendmail's cf/README)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from ekiden.cli.move_in.m4 import Call, calls
from ekiden.cli.move_in.moved import Moved, MoveTrouble, plain_lines, read_text, smtp_listener
from ekiden.cli.move_in.sendmail_tables import access, alias_file, mailer_table, sender_table, user_table

# Options that are one parameter of ours, with the same meaning.
_SAME = {
    "confDOMAIN_NAME": "myhostname",
    "confMAX_MESSAGE_SIZE": "message_size_limit",
    "confMAX_RCPTS_PER_MESSAGE": "smtpd_recipient_limit",
    "confMAX_HOP": "hopcount_limit",
    "confMAX_QUEUE_RUN_SIZE": "queue_run_message_limit",
    "confQUEUE_LA": "queue_load_average_limit",
    "confREFUSE_LA": "refuse_load_average_limit",
    "confMAX_ALIAS_RECURSION": "local_alias_recursion_limit",
    "confMAX_HEADERS_LENGTH": "header_block_limit",
    "confDOUBLE_BOUNCE_ADDRESS": "2bounce_notice_recipient",
}
# Times: the parameter of ours, and the unit that counts where sendmail's option has none.
_TIMES = {
    "confTO_CONNECT": ("smtp_connect_timeout", "m"),
    "confTO_ICONNECT": ("smtp_connect_timeout", "m"),
    "confTO_HELO": ("smtp_helo_timeout", "m"),
    "confTO_MAIL": ("smtp_mail_timeout", "m"),
    "confTO_RCPT": ("smtp_rcpt_timeout", "m"),
    "confTO_DATAINIT": ("smtp_data_init_timeout", "m"),
    "confTO_DATABLOCK": ("smtp_data_xfer_timeout", "m"),
    "confTO_DATAFINAL": ("smtp_data_done_timeout", "m"),
    "confTO_RSET": ("smtp_rset_timeout", "m"),
    "confTO_QUIT": ("smtp_quit_timeout", "m"),
    "confTO_COMMAND": ("smtpd_timeout", "m"),
    "confTO_QUEUERETURN": ("maximal_queue_lifetime", "d"),
    "confTO_QUEUERETURN_NORMAL": ("maximal_queue_lifetime", "d"),
    "confTO_QUEUEWARN": ("delay_warning_time", "h"),
    "confTO_QUEUEWARN_NORMAL": ("delay_warning_time", "h"),
    "confMIN_QUEUE_AGE": ("minimal_backoff_time", "m"),
}
# Options that the server does by itself, or that have nothing to work on here.
_NEEDLESS = {
    "confAUTO_REBUILD": "aliases are read again when their file changes",
    "confTRY_NULL_MX_LIST": "a domain without MX records is reached by its address (RFC 5321)",
    "confDONT_PROBE_INTERFACES": "names of the host are in mydestination, not guessed from its interfaces",
    "confTRUSTED_USER": "the supervisor and the deliverer keep root; all else runs as mail_owner",
    "confTRUSTED_USERS": "every user may name a sender; the log has the user's number",
    "confDEF_USER_ID": "programs of aliases run as default_privs",
    "confRUN_AS_USER": "the server's own processes run as mail_owner",
    "confEIGHT_BIT_HANDLING": "eight-bit content is passed on as it is",
    "confLOG_LEVEL": "every fact is logged once",
    "confHOST_STATUS_DIRECTORY": "what is known of other hosts is in memory",
    "confSEPARATE_PROC": "deliveries need no processes of their own",
    "confCF_VERSION": "the version is Ekiden's own",
    "confPID_FILE": "the process id is kept in the queue directory",
    "confSAFE_QUEUE": "the queue is always safe: mail is on disk before it is acknowledged",
    "confUSE_MSP": "the sendmail command leaves mail in the maildrop",
    "STATUS_FILE": "statistics come from the log",
    "confMAX_DAEMON_CHILDREN": "sessions are no processes; smtpd_session_limit bounds them",
    "confME_TOO": "a sender who is in an alias gets a copy, as sendmail does by default now",
    "confWORK_RECIPIENT_FACTOR": "the queue is fair between destinations and sizes",
    "confFORWARD_PATH": "set forward_path if .forward files lie elsewhere than in the home directory",
}
_PRIVACY = {
    "novrfy": ("disable_vrfy_command", "yes"),
    "needmailhelo": ("smtpd_helo_required", "yes"),
}
_PRIVACY_NEEDLESS = frozenset({"noexpn", "needexpnhelo", "needvrfyhelo", "public", "nobodyreturn", "noreceipts",
                               "restrictexpand", "noetrn"})  # fmt: skip
_TIME = re.compile(r"([0-9]+)\s*(?:(s|m|h|d|w)[a-z]*)?", re.IGNORECASE)


def move(path: Path, moved: Moved) -> None:
    """``path`` is /etc/mail or a .mc file in such a directory. Raises MoveTrouble."""
    macro_file = path if path.is_file() else path / "sendmail.mc"
    if not macro_file.is_file():
        raise MoveTrouble(f"{path}: there is no sendmail.mc (a sendmail.cf cannot be read back)")
    _Reader(macro_file, moved).read()


class _Reader:
    def __init__(self, file: Path, moved: Moved) -> None:
        self._file = file
        self._moved = moved
        self._features: set[str] = set()
        self._procmail = "/usr/bin/procmail"
        self._masquerade_as = ""
        self._masqueraded: list[str] = []
        self._exposed: list[str] = []
        self._virtual_domains: list[str] = []
        self._has_daemon_options = False

    def read(self) -> None:
        for call in calls(read_text(self._file)):
            handler = self._HANDLERS.get(call.name)
            if call.is_raw:
                self._left(call, "lines of sendmail.cf have no counterpart; say in main.cf what they were for")
            elif handler is not None:
                handler(self, call)
            elif call.name.isupper():
                self._left(call, "this macro is not known to the import")
            # Everything else is text that m4 would pass on, such as a word in a comment.
        self._finish()

    # -- reporting

    def _place(self, call: Call) -> str:
        return f"{self._file}:{call.line}"

    def _carried(self, call: Call, text: str) -> None:
        self._moved.carried(self._place(call), str(call), text)

    def _changed(self, call: Call, text: str) -> None:
        self._moved.changed(self._place(call), str(call), text)

    def _left(self, call: Call, text: str) -> None:
        self._moved.left(self._place(call), str(call), text)

    def _set(self, call: Call, name: str, value: str) -> None:
        self._moved.set(name, value)
        self._carried(call, f"{name} = {value}")

    # -- macros

    def _nothing(self, call: Call) -> None:
        """Scaffolding of every sendmail.mc."""
        self._carried(call, "needs no counterpart: there is no macro file to build from")

    def _include(self, call: Call) -> None:
        if call.arguments[0].endswith("cf.m4"):
            self._nothing(call)
        else:
            self._left(call, "included macro files are not read; import their settings by hand")

    def _mailer(self, call: Call) -> None:
        name = call.arguments[0].lower()
        if name in ("smtp", "local", "procmail", "cyrusv2", "cyrus") and name not in ("cyrus", "cyrusv2"):
            self._carried(call, "this transport is built in")
        elif name in ("cyrus", "cyrusv2"):
            self._moved.set("mailbox_transport", "lmtp:unix:/var/lib/imap/socket/lmtp")
            self._changed(
                call, "mailbox_transport = lmtp:unix:/var/lib/imap/socket/lmtp; look whether the socket is there"
            )
        else:
            self._left(call, f"there is no {name} transport; a pipe service of master.cf can run a program for it")

    def _define(self, call: Call) -> None:
        name, value = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else ""
        special = self._OPTIONS.get(name)
        if special is not None:
            special(self, call, value)
        elif name in _SAME:
            self._set(call, _SAME[name], value)
        elif name in _TIMES:
            self._time(call, value)
        elif name in _NEEDLESS:
            self._carried(call, f"not needed: {_NEEDLESS[name]}")
        elif name.startswith(
            ("confAUTH", "confCACERT", "confSERVER_", "confCLIENT_", "confTLS", "confCIPHER", "confCRL")
        ):
            self._left(call, "certificates and login are set by smtpd_tls_..., smtp_tls_... and smtpd_sasl_...")
        else:
            self._left(call, "this option has no counterpart")

    def _time(self, call: Call, value: str) -> None:
        parameter, unit = _TIMES[call.arguments[0]]
        found = _TIME.fullmatch(value)
        if found is None:
            self._left(call, f"{value!r} is not a time that {parameter} could have")
            return
        self._set(call, parameter, f"{found[1]}{(found[2] or unit).lower()}")

    def _delivery_mode(self, call: Call, value: str) -> None:
        mode = value[:1].lower()
        if mode in ("b", ""):
            self._carried(call, "mail is delivered in the background, always")
        elif mode == "i":
            self._changed(call, "mail is safe on disk, then delivered in the background; nobody waits for the delivery")
        else:
            self._moved.add("defer_transports", "smtp", "relay")
            self._changed(call, "defer_transports = smtp, relay: mail for other hosts waits for `ekiden flush`")

    def _relay(self, call: Call, value: str) -> None:
        mailer, colon, host = value.partition(":")
        host = host if colon else mailer
        if host:
            self._set(call, "relayhost", host)

    def _hub(self, call: Call, value: str) -> None:
        host = value.rpartition(":")[2]
        self._set(call, "local_transport", f"smtp:{host}")

    def _alias_file(self, call: Call, value: str) -> None:
        files = [part.rpartition(":")[2].strip() for part in value.split(",")]
        self._moved.add("alias_maps", *(alias_file(Path(name), self._moved, self._beside) for name in files))
        self._carried(call, f"alias_maps = {', '.join(self._moved.members('alias_maps'))}")

    def _banner(self, call: Call, value: str) -> None:
        words = value.replace("$j", "$myhostname").split("$")[0:2]
        text = "$".join(words).strip() if value.startswith("$j") else "$myhostname ESMTP"
        self._moved.set("smtpd_banner", text or "$myhostname ESMTP")
        self._changed(call, f"smtpd_banner = {text}; macros of sendmail are left out")

    def _privacy(self, call: Call, value: str) -> None:
        carried: list[str] = []
        left: list[str] = []
        for word in re.split(r"[,\s]+", value.lower()):
            flags = ["novrfy", "needmailhelo"] if word in ("goaway", "authwarnings,goaway") else [word]
            for flag in flags:
                if flag in _PRIVACY:
                    self._moved.set(*_PRIVACY[flag])
                    carried.append(" = ".join(_PRIVACY[flag]))
                elif flag == "restrictmailq":
                    self._moved.set("authorized_mailq_users", "root")
                    carried.append("authorized_mailq_users = root")
                elif flag == "restrictqrun":
                    self._moved.set("authorized_flush_users", "root")
                    carried.append("authorized_flush_users = root")
                elif flag and flag not in _PRIVACY_NEEDLESS and flag != "authwarnings":
                    left.append(flag)
        text = "; ".join(carried) or "what it asks for is always so"
        if left:
            self._changed(call, f"{text}; without a counterpart: {', '.join(left)}")
        else:
            self._carried(call, text)

    def _procmail_path(self, call: Call, value: str) -> None:
        self._procmail = value
        self._carried(call, "mailbox_command, where FEATURE(`local_procmail') is there")

    def _undefine(self, call: Call) -> None:
        self._carried(call, "was not set, and is not set here")

    # -- FEATURE

    def _feature(self, call: Call) -> None:
        name = call.arguments[0]
        self._features.add(name)
        handler = self._FEATURES.get(name)
        if handler is not None:
            handler(self, call)
        elif name in ("delay_checks", "nouucp", "nocanonify", "notsticky", "accept_unresolvable_domains",
                      "accept_unqualified_senders", "blacklist_recipients", "smrsh", "no_default_msa",
                      "use_ct_file", "queuegroup"):  # fmt: skip
            self._carried(call, f"not needed: {_FEATURE_REASONS[name]}")
        else:
            self._left(call, "this feature has no counterpart")

    def _map_file(self, call: Call, default: str) -> Path:
        """The source of a table: the argument (``hash -o /etc/mail/x.db``) or the usual file."""
        word = call.arguments[1].split()[-1] if len(call.arguments) > 1 and call.arguments[1].split() else default
        path = Path(word)
        return self._beside(path.with_suffix("") if path.suffix in (".db", ".dbm") else path)

    def _beside(self, path: Path) -> Path:
        """A file that sendmail.mc names by its place in /etc lies beside sendmail.mc in the tree that is imported."""
        near = self._file.parent / path.name
        return near if near.exists() else path

    def _local_names(self, call: Call) -> None:
        file = self._beside(Path("/etc/mail/local-host-names"))
        names = [text for _, text in plain_lines(file)] if file.exists() else []
        self._moved.add("mydestination", "$myhostname", "localhost", *names)
        self._carried(call, f"mydestination has the {len(names)} names of {file}")

    def _table_feature(self, call: Call, default: str, use: Callable[[Path, Moved], str]) -> None:
        source = self._map_file(call, default)
        if not source.exists():
            self._left(call, f"{source} is not there")
            return
        self._carried(call, use(source, self._moved))

    def _virtusertable(self, call: Call) -> None:
        self._table_feature(call, "/etc/mail/virtusertable", user_table)

    def _mailertable(self, call: Call) -> None:
        self._table_feature(call, "/etc/mail/mailertable", mailer_table)

    def _genericstable(self, call: Call) -> None:
        self._table_feature(call, "/etc/mail/genericstable", sender_table)

    def _access(self, call: Call) -> None:
        self._table_feature(call, "/etc/mail/access", access)

    def _domaintable(self, call: Call) -> None:
        def use(source: Path, moved: Moved) -> str:
            entries = [(f"@{old}", f"@{new}") for _, text in plain_lines(source) for old, new in [_pair(text)]]
            moved.add("canonical_maps", moved.table("domaintable", entries))
            return f"canonical_maps has the {len(entries)} domains of {source}"

        self._table_feature(call, "/etc/mail/domaintable", use)

    def _redirect(self, call: Call) -> None:
        self._left(call, "write relocated_maps entries for aliases that lead to user@new.address.REDIRECT")

    def _null_client(self, call: Call) -> None:
        hub = call.arguments[1] if len(call.arguments) > 1 else ""
        for name, value in (("relayhost", hub), ("mydestination", ""), ("inet_interfaces", "loopback-only")):
            self._moved.set(name, value)
        self._carried(call, f"relayhost = {hub}; nothing is delivered here")

    def _submission_program(self, call: Call) -> None:
        self._carried(call, "the sendmail command leaves mail in the maildrop, where the server takes it up")

    def _local_procmail(self, call: Call) -> None:
        program = call.arguments[1] if len(call.arguments) > 1 and call.arguments[1] else self._procmail
        self._set(call, "mailbox_command", f'{program} -a "$EXTENSION"')
        self._moved.set("recipient_delimiter", "+")

    def _local_lmtp(self, call: Call) -> None:
        program = call.arguments[1] if len(call.arguments) > 1 else "mail.local"
        self._left(
            call, f"{program} is run by nobody here; mailboxes are written by the server, or set mailbox_transport"
        )

    def _always_add_domain(self, call: Call) -> None:
        self._carried(call, "addresses without a domain get myorigin, always")

    def _masquerade_envelope(self, call: Call) -> None:
        self._set(call, "masquerade_classes", "envelope_sender, header_sender, header_recipient")

    def _masquerade_feature(self, call: Call) -> None:
        self._carried(call, "see masquerade_domains")

    def _relay_entire_domain(self, call: Call) -> None:
        self._moved.add("relay_domains", "$mydomain")
        self._changed(call, "relay_domains has $mydomain; hosts that may relay are in mynetworks, by their addresses")

    def _promiscuous(self, call: Call) -> None:
        self._left(call, "an open relay is not made; write the networks that may relay into mynetworks")

    def _blocklist(self, call: Call) -> None:
        zone = call.arguments[1] if len(call.arguments) > 1 else "zen.spamhaus.org"
        if not self._moved.has("smtpd_recipient_restrictions"):
            self._moved.add("smtpd_recipient_restrictions", "permit_mynetworks", "reject_unauth_destination")
        self._moved.add("smtpd_recipient_restrictions", f"reject_rbl_client {zone}")
        self._carried(call, f"smtpd_recipient_restrictions has reject_rbl_client {zone}")

    # -- other macros

    def _masquerade_as_(self, call: Call) -> None:
        self._masquerade_as = call.arguments[0]
        self._set(call, "myorigin", call.arguments[0])

    def _masquerade_domain(self, call: Call) -> None:
        self._masqueraded += call.arguments[0].split()
        self._carried(call, "masquerade_domains")

    def _exposed_user(self, call: Call) -> None:
        self._exposed += call.arguments[0].split()
        self._carried(call, "masquerade_exceptions")

    def _local_domain(self, call: Call) -> None:
        self._moved.add("mydestination", "$myhostname", "localhost", *call.arguments[0].split())
        self._carried(call, "mydestination")

    def _virtuser_domain(self, call: Call) -> None:
        self._moved.add("virtual_alias_domains", *call.arguments[0].split())
        self._carried(call, "virtual_alias_domains")

    def _generics_domain(self, call: Call) -> None:
        self._changed(call, "smtp_generic_maps replaces what the table has, whatever its domain")

    def _relay_domain(self, call: Call) -> None:
        self._moved.add("relay_domains", *call.arguments[0].split())
        self._carried(call, "relay_domains")

    def _domain_file(self, call: Call) -> None:
        file = self._beside(Path(call.arguments[0].split()[-1]))
        parameter = {"RELAY_DOMAIN_FILE": "relay_domains", "VIRTUSER_DOMAIN_FILE": "virtual_alias_domains",
                     "MASQUERADE_DOMAIN_FILE": "masquerade_domains"}.get(call.name)  # fmt: skip
        if parameter is None:
            self._generics_domain(call)
            return
        if not file.exists():
            self._left(call, f"{file} is not there")
            return
        self._moved.add(parameter, *(text for _, text in plain_lines(file)))
        self._carried(call, f"{parameter} has what {file} holds")

    def _daemon_options(self, call: Call) -> None:
        """``Port=smtp,Addr=127.0.0.1, Name=MTA``: a line of master.cf."""
        self._has_daemon_options = True
        words = dict(_pair(word.replace("=", " ", 1)) for word in ",".join(call.arguments).split(",") if "=" in word)
        facts = {name.strip().lower()[:4]: value.strip() for name, value in words.items()}
        port = facts.get("port", "smtp")
        modifiers = facts.get("modi", facts.get("m", ""))
        options: list[str] = []
        if "s" in modifiers:
            options.append("smtpd_tls_wrappermode=yes")
        if "a" in modifiers:
            options.append("smtpd_sasl_auth_enable=yes")
        self._moved.services.append(
            smtp_listener(facts.get("addr", "").strip("[]").removeprefix("IPv6:"), port, *options)
        )
        self._carried(call, f"master.cf: {self._moved.services[-1]}")

    def _client_options(self, call: Call) -> None:
        words = dict(_pair(word.replace("=", " ", 1)) for word in ",".join(call.arguments).split(",") if "=" in word)
        address = words.get("Addr", words.get("A", ""))
        if address:
            self._set(call, "smtp_bind_address6" if ":" in address else "smtp_bind_address", address)
        else:
            self._left(call, "only the address of connections is carried")

    def _milter(self, call: Call) -> None:
        """``INPUT_MAIL_FILTER(`name', `S=local:/path, F=T')``."""
        socket = re.search(r"S=([^,\s]+)", ",".join(call.arguments[1:]))
        if socket is None:
            self._left(call, "it names no socket")
            return
        text = socket[1].replace("local:", "unix:")
        inet = re.fullmatch(r"inet6?:([0-9]+)@(\S+)", text)
        self._moved.add("smtpd_milters", f"inet:{inet[2]}:{inet[1]}" if inet else text)
        self._carried(call, f"smtpd_milters has {self._moved.members('smtpd_milters')[-1]}")

    def _by_mailer_flags(self, call: Call) -> None:
        self._left(call, "flags of mailers have no counterpart; see the parameters of the transport")

    # -- the end

    def _finish(self) -> None:
        moved = self._moved
        parent = self._file.parent
        if not moved.has("relay_domains") and (parent / "relay-domains").exists():
            names = [text for _, text in plain_lines(parent / "relay-domains")]
            networks = [_network(name) for name in names if _is_network(name)]
            domains = [name for name in names if not _is_network(name)]
            moved.add("relay_domains", *domains)
            if networks:
                moved.add("mynetworks", "127.0.0.0/8", "[::1]/128", *networks)
            moved.carried(str(parent / "relay-domains"), " ".join(names), "relay_domains and mynetworks")
        if not moved.has("alias_maps"):
            found = self._beside(Path("/etc/aliases"))
            if found.exists() and found.parent == parent:
                moved.add("alias_maps", alias_file(found, moved, self._beside))
        masquerades = self._masquerade_as and ("masquerade_entire_domain" in self._features or self._masqueraded)
        if masquerades or "allmasquerade" in self._features:
            moved.add("masquerade_domains", *(self._masqueraded or [self._masquerade_as]))
        if self._exposed:
            moved.add("masquerade_exceptions", *self._exposed)
        if not self._has_daemon_options:
            moved.services.append(smtp_listener())
            if "no_default_msa" not in self._features:
                moved.services.append(smtp_listener("", "submission"))
        if not moved.has("mydestination"):
            moved.add("mydestination", "$myhostname", "localhost")

    _HANDLERS: ClassVar[dict[str, Callable[[_Reader, Call], None]]] = {
        **dict.fromkeys(("divert", "VERSIONID", "OSTYPE", "DOMAIN"), _nothing),
        "include": _include,
        "sinclude": _include,
        "define": _define,
        "undefine": _undefine,
        "FEATURE": _feature,
        "MAILER": _mailer,
        "MASQUERADE_AS": _masquerade_as_,
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
    _OPTIONS: ClassVar[dict[str, Callable[[_Reader, Call, str], None]]] = {
        "confDELIVERY_MODE": _delivery_mode,
        "SMART_HOST": _relay,
        "MAIL_HUB": _hub,
        "ALIAS_FILE": _alias_file,
        "confSMTP_LOGIN_MSG": _banner,
        "confPRIVACY_FLAGS": _privacy,
        "PROCMAIL_MAILER_PATH": _procmail_path,
    }
    _FEATURES: ClassVar[dict[str, Callable[[_Reader, Call], None]]] = {
        "use_cw_file": _local_names,
        "virtusertable": _virtusertable,
        "mailertable": _mailertable,
        "genericstable": _genericstable,
        "access_db": _access,
        "domaintable": _domaintable,
        "redirect": _redirect,
        "nullclient": _null_client,
        "msp": _submission_program,
        "local_procmail": _local_procmail,
        "local_lmtp": _local_lmtp,
        "always_add_domain": _always_add_domain,
        "masquerade_envelope": _masquerade_envelope,
        "masquerade_entire_domain": _masquerade_feature,
        "allmasquerade": _masquerade_feature,
        "limited_masquerade": _masquerade_feature,
        "relay_entire_domain": _relay_entire_domain,
        "promiscuous_relay": _promiscuous,
        "dnsbl": _blocklist,
        "enhdnsbl": _blocklist,
    }


_FEATURE_REASONS = {
    "delay_checks": "clients are refused at RCPT, so that the log has sender and recipient",
    "nouucp": "there is no UUCP",
    "nocanonify": "names are never replaced by what DNS has for them",
    "notsticky": "local mail is delivered here unless local_transport says otherwise",
    "accept_unresolvable_domains": "senders whose domain is unknown are taken unless a restriction refuses them",
    "accept_unqualified_senders": "senders without a domain get myorigin",
    "blacklist_recipients": "check_recipient_access does it where a table says so",
    "smrsh": "programs run as the recipient, without a shell where they need none",
    "no_default_msa": "there is a submission listener only where master.cf has one",
    "use_ct_file": "every user may name a sender; the log has the user's number",
    "queuegroup": "each worker has a queue of its own",
}


def _pair(text: str) -> tuple[str, str]:
    first, *rest = text.split(None, 1)
    return first, rest[0] if rest else ""


def _is_network(word: str) -> bool:
    return re.fullmatch(r"[0-9.]+(/[0-9]+)?|[0-9a-fA-F:]*:[0-9a-fA-F:]*(/[0-9]+)?|IPv6:.*", word) is not None


def _network(word: str) -> str:
    """``192.168`` is 192.168.0.0/16 for sendmail."""
    if ":" in word:
        address, slash, length = word.removeprefix("IPv6:").partition("/")
        return f"[{address}]{slash}{length}"
    if "/" in word:
        return word
    parts = word.strip(".").split(".")
    return word if len(parts) == 4 else ".".join(parts + ["0"] * (4 - len(parts))) + f"/{8 * len(parts)}"


def networks_of(words: Iterator[str]) -> list[str]:
    return [_network(word) for word in words if _is_network(word)]
