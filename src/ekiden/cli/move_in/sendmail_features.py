"""The features of a sendmail.mc: ``FEATURE(`name', `argument')``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ekiden.cli.move_in.m4 import Call
from ekiden.cli.move_in.moved import Moved, plain_lines
from ekiden.cli.move_in.sendmail_reader import Reader, pair
from ekiden.cli.move_in.sendmail_tables import access, mailer_table, sender_table, user_table

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


def feature(reader: Reader, call: Call) -> None:
    name = call.arguments[0]
    reader.features.add(name)
    handler = _FEATURES.get(name)
    if handler is not None:
        handler(reader, call)
    elif name in _FEATURE_REASONS:
        reader.carried(call, f"not needed: {_FEATURE_REASONS[name]}")
    else:
        reader.left(call, "this feature has no counterpart")


def _map_file(reader: Reader, call: Call, default: str) -> Path:
    """The source of a table: the argument (``hash -o /etc/mail/x.db``) or the usual file."""
    word = call.arguments[1].split()[-1] if len(call.arguments) > 1 and call.arguments[1].split() else default
    path = Path(word)
    return reader.beside(path.with_suffix("") if path.suffix in (".db", ".dbm") else path)


def _local_names(reader: Reader, call: Call) -> None:
    file = reader.beside(Path("/etc/mail/local-host-names"))
    names = [text for _, text in plain_lines(file)] if file.exists() else []
    reader.moved.add("mydestination", "$myhostname", "localhost", *names)
    reader.carried(call, f"mydestination has the {len(names)} names of {file}")


def _table_feature(reader: Reader, call: Call, default: str, use: Callable[[Path, Moved], str]) -> None:
    source = _map_file(reader, call, default)
    if not source.exists():
        reader.left(call, f"{source} is not there")
        return
    reader.carried(call, use(source, reader.moved))


def _virtusertable(reader: Reader, call: Call) -> None:
    _table_feature(reader, call, "/etc/mail/virtusertable", user_table)


def _mailertable(reader: Reader, call: Call) -> None:
    _table_feature(reader, call, "/etc/mail/mailertable", mailer_table)


def _genericstable(reader: Reader, call: Call) -> None:
    _table_feature(reader, call, "/etc/mail/genericstable", sender_table)


def _access(reader: Reader, call: Call) -> None:
    _table_feature(reader, call, "/etc/mail/access", access)


def _domaintable(reader: Reader, call: Call) -> None:
    def use(source: Path, moved: Moved) -> str:
        entries = [(f"@{old}", f"@{new}") for _, text in plain_lines(source) for old, new in [pair(text)]]
        moved.add("canonical_maps", moved.table("domaintable", entries))
        return f"canonical_maps has the {len(entries)} domains of {source}"

    _table_feature(reader, call, "/etc/mail/domaintable", use)


def _redirect(reader: Reader, call: Call) -> None:
    reader.left(call, "write relocated_maps entries for aliases that lead to user@new.address.REDIRECT")


def _null_client(reader: Reader, call: Call) -> None:
    hub = call.arguments[1] if len(call.arguments) > 1 else ""
    for name, value in (("relayhost", hub), ("mydestination", ""), ("inet_interfaces", "loopback-only")):
        reader.moved.set(name, value)
    reader.carried(call, f"relayhost = {hub}; nothing is delivered here")


def _submission_program(reader: Reader, call: Call) -> None:
    reader.carried(call, "the sendmail command leaves mail in the maildrop, where the server takes it up")


def _local_procmail(reader: Reader, call: Call) -> None:
    program = call.arguments[1] if len(call.arguments) > 1 and call.arguments[1] else reader.procmail
    reader.set(call, "mailbox_command", f'{program} -a "$EXTENSION"')
    reader.moved.set("recipient_delimiter", "+")


def _local_lmtp(reader: Reader, call: Call) -> None:
    program = call.arguments[1] if len(call.arguments) > 1 else "mail.local"
    reader.left(call, f"{program} is run by nobody here; mailboxes are written by the server, or set mailbox_transport")


def _always_add_domain(reader: Reader, call: Call) -> None:
    reader.carried(call, "addresses without a domain get myorigin, always")


def _masquerade_envelope(reader: Reader, call: Call) -> None:
    reader.set(call, "masquerade_classes", "envelope_sender, header_sender, header_recipient")


def _masquerade_feature(reader: Reader, call: Call) -> None:
    reader.carried(call, "see masquerade_domains")


def _relay_entire_domain(reader: Reader, call: Call) -> None:
    reader.moved.add("relay_domains", "$mydomain")
    reader.changed(call, "relay_domains has $mydomain; hosts that may relay are in mynetworks, by their addresses")


def _promiscuous(reader: Reader, call: Call) -> None:
    reader.left(call, "an open relay is not made; write the networks that may relay into mynetworks")


def _blocklist(reader: Reader, call: Call) -> None:
    zone = call.arguments[1] if len(call.arguments) > 1 else "zen.spamhaus.org"
    if not reader.moved.has("smtpd_recipient_restrictions"):
        reader.moved.add("smtpd_recipient_restrictions", "permit_mynetworks", "reject_unauth_destination")
    reader.moved.add("smtpd_recipient_restrictions", f"reject_rbl_client {zone}")
    reader.carried(call, f"smtpd_recipient_restrictions has reject_rbl_client {zone}")


_FEATURES: dict[str, Callable[[Reader, Call], None]] = {
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
