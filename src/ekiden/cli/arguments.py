"""The command line of ``ekiden``: its commands and their options, and which function does the work of each."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from ekiden.cli import classic

_STATES = ("incoming", "active", "deferred", "hold", "corrupt")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As argparse does it, but with the exit code of sysexits.h."""
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(os.EX_USAGE)


def parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument(
        "-c", metavar="DIR", dest="config", help="the configuration directory (else $EKIDEN_CONFIG, else /etc/ekiden)"
    )
    as_json = _Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="JSON, one object a line")
    program = _Parser(prog="ekiden", description="A complete mail server.")
    commands = program.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, run: str, text: str, *parents: _Parser) -> _Parser:
        command = commands.add_parser(name, parents=[common, *parents], help=text, description=text)
        command.set_defaults(run=f"ekiden.cli.{run}")
        return command

    add("serve", "server_command:serve", "Run the server in the foreground.")
    add("start", "server_command:start", "Start the server in the background; returns when it serves.")
    add("stop", "server_command:stop", "Stop the server; returns when it has stopped.")
    add("reload", "server_command:reload", "Let the server read its configuration again.")
    add("status", "server_command:status", "Show what the workers do.", as_json)
    add("check", "check_command:run", "Check the configuration and its directories.", as_json)
    configuration = commands.add_parser("config", help="Look at what Ekiden makes of Postfix's parameters.")
    actions = configuration.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    text = "List the parameters of Postfix: honoured, not needed (and why), not yet."
    covered = actions.add_parser("coverage", parents=[as_json], help=text, description=text)
    covered.set_defaults(run="ekiden.cli.config_command:coverage")
    add("flush", "queue_command:flush", "Try all deferred mail now.", as_json)
    why = add("why", "why_command:run", "Tell what becomes of mail for an address, or of a message, and why.", as_json)
    why.add_argument("subject", metavar="RECIPIENT|QUEUEID", help="an address, or the id of a message in the queue")
    why.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="the sender, else the null sender")
    why.add_argument("--client", default="", metavar="IP", help="the client it comes from; else the sendmail command")
    why.add_argument("--helo", default="", metavar="NAME", help="the name that client gives itself")
    moving = add("import", "import_command:run", "Make a configuration of another server's.", as_json)
    moving.add_argument("server", choices=("postfix", "sendmail", "exim", "qmail"), help="whose it is")
    moving.add_argument(
        "path", metavar="PATH", help="its directory, such as /etc/postfix, /etc/mail, /etc/exim4, /var/qmail"
    )
    moving.add_argument("--force", action="store_true", help="overwrite the configuration that is there")
    version = commands.add_parser("version", help="Show the version.", parents=[as_json])
    version.set_defaults(run="ekiden.cli.version:run")
    names = add(
        "install-names", "install_names:run", "Write the classic commands (sendmail, mailq ...) into a directory."
    )
    names.add_argument("directory", metavar="DIR", help="such as /usr/sbin")
    names.add_argument("--force", action="store_true", help="replace what somebody else has put there")
    for name in classic.COMMANDS:
        commands.add_parser(name, help=f"The same as {name}(1).", add_help=False)  # main() has taken these already
    _add_queue(commands.add_parser("queue", help="Look at the queue and change it."), common, as_json)
    _add_user(commands.add_parser("user", help="Look at accounts and change them."), common, as_json)
    reports = add("reports", "reports_command:summarise", "Tell what others report of our mail.", as_json)
    _add_reports(reports, as_json)
    _add_tlsrpt(commands.add_parser("tlsrpt", help="Look at reports on TLS (RFC 8460)."), common, as_json)
    _add_dmarc(commands.add_parser("dmarc", help="Look at what we report by DMARC (RFC 9990)."), common, as_json)
    _add_dkim(commands.add_parser("dkim", help="Make the keys of DKIM signatures and look at them."), common, as_json)
    _add_auth(commands.add_parser("auth", help="Tell who really sent a message."), common, as_json)
    return program


def _add_auth(auth: _Parser, common: _Parser, as_json: _Parser) -> None:
    commands = auth.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    text = "Tell what SPF, DKIM, ARC and DMARC find about a message, and why."
    explain = commands.add_parser("explain", parents=[common, as_json], help=text, description=text)
    explain.set_defaults(run="ekiden.cli.auth_command:explain")
    explain.add_argument(
        "subject", metavar="FILE|QUEUEID", help="a message (-: standard input), or its id in the queue"
    )
    explain.add_argument("--client", default="", metavar="IP", help="the client it came from")
    explain.add_argument("--helo", default="", metavar="NAME", help="the name that client gave itself")
    explain.add_argument("--from", dest="sender", metavar="ADDRESS", help="the envelope sender")


def _add_dmarc(dmarc: _Parser, common: _Parser, as_json: _Parser) -> None:
    commands = dmarc.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    for name, text, parents in (
        ("show", "Show what is counted of mail for the domains it is from, and not reported to them yet.", (as_json,)),
        ("send", "Send the aggregate reports of days that are over.", ()),
    ):
        command = commands.add_parser(name, parents=[common, *parents], help=text, description=text)
        command.set_defaults(run=f"ekiden.cli.dmarc_command:{name}")


def _add_dkim(dkim: _Parser, common: _Parser, as_json: _Parser) -> None:
    commands = dkim.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)

    def add(name: str, text: str, *parents: _Parser) -> _Parser:
        command = commands.add_parser(name, parents=[common, *parents], help=text, description=text)
        command.set_defaults(run=f"ekiden.cli.dkim_command:{name}")
        return command

    made = _Parser(add_help=False)
    made.add_argument("domain", metavar="DOMAIN", help="the domain that signs (d=)")
    made.add_argument("--selector", default="", metavar="NAME", help="else it is made of today's date")
    made.add_argument("--bits", type=int, default=2048, metavar="N", help="how long an RSA key is; else 2048")
    keygen = add("keygen", "Make a key in dkim_key_directory, and print its DNS record.", made)
    keygen.add_argument(
        "--algorithm", default="rsa", choices=("rsa", "ed25519", "both"), help="else rsa, which all verifiers know"
    )
    show = add("show", "Print the DNS records of the keys that dkim_signing_table names.", as_json)
    show.add_argument("domains", nargs="*", metavar="DOMAIN", help="else all domains")
    show.add_argument("--check", action="store_true", help="compare them with what is in DNS")
    add("rotate", "Make a new key beside each key of a domain, and tell the steps from the old to the new.", made)


def _add_reports(reports: _Parser, as_json: _Parser) -> None:
    reports.add_argument("--days", type=int, default=7, metavar="N", help="reports that came in the last N days (7)")
    reports.add_argument("--domain", default="", help="what is about this domain and those below it")
    commands = reports.add_subparsers(metavar="ACTION", parser_class=_Parser)
    text = "Show the reports in files: messages, archives, XML, JSON."
    read = commands.add_parser("read", parents=[as_json], help=text, description=text)
    read.add_argument("files", nargs="+", metavar="FILE")
    read.set_defaults(run="ekiden.cli.reports_command:read")


def _add_tlsrpt(tlsrpt: _Parser, common: _Parser, as_json: _Parser) -> None:
    commands = tlsrpt.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    for name, text in (
        ("show", "Show what was counted and is not reported yet."),
        ("send", "Send the reports that are due, now."),
        ("received", "Show the reports that others sent."),
    ):
        parents = [common] if name == "send" else [common, as_json]
        command = commands.add_parser(name, parents=parents, help=text, description=text)
        command.set_defaults(run=f"ekiden.cli.tlsrpt_command:{name}")


def _add_queue(queue: _Parser, common: _Parser, as_json: _Parser) -> None:
    chosen = _Parser(add_help=False)
    chosen.add_argument(
        "--sender", default="", metavar="ADDRESS", help="messages of this sender; <> is the null sender"
    )
    chosen.add_argument("--recipient", default="", metavar="ADDRESS", help="messages that wait for this recipient")
    chosen.add_argument("--domain", default="", help="messages that wait for a recipient in this domain")
    chosen.add_argument(
        "--state", action="append", default=[], choices=_STATES, help="messages in this state; may be repeated"
    )
    commands = queue.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)

    def add(name: str, run: str, text: str, *parents: _Parser) -> _Parser:
        command = commands.add_parser(name, parents=[common, as_json, *parents], help=text, description=text)
        command.set_defaults(run=f"ekiden.cli.queue_command:{run}")
        return command

    add("list", "list_messages", "List messages.", chosen)
    add("show", "show", "Show one message and the beginning of its content.").add_argument("queue_id", metavar="ID")
    add("flush", "flush", "Try all deferred mail now.")
    for name, text in (
        ("hold", "Keep messages from being delivered."),
        ("release", "Let messages go that are on hold."),
        ("requeue", "Try messages now."),
        ("delete", "Remove messages for good."),
        ("expire", "Give messages up: their senders are told at the next attempt."),
    ):
        command = add(name, "change", text, chosen)
        command.add_argument("queue_ids", nargs="*", metavar="ID", help="queue ids, or ALL")
        command.set_defaults(change_name=name)


def _add_user(user: _Parser, common: _Parser, as_json: _Parser) -> None:
    commands = user.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)

    def add(group: Any, name: str, run: str, text: str, *parents: _Parser) -> _Parser:
        command: _Parser = group.add_parser(name, parents=[common, *parents], help=text, description=text)
        command.set_defaults(run=f"ekiden.cli.user_command:{run}")
        return command

    def named(command: _Parser) -> _Parser:
        command.add_argument("name", metavar="NAME", help="the account's name, such as anna@example.com")
        return command

    new = named(add(commands, "add", "add", "Make an account; its password is asked for, or a line of standard input."))
    new.add_argument("--no-password", action="store_true", help="none: the account has app passwords only")
    named(add(commands, "passwd", "passwd", "Give an account another password."))
    add(commands, "list", "list_accounts", "List the accounts.", as_json)
    named(add(commands, "check", "check", "Tell whether a password is right, as the server would.", as_json))
    named(add(commands, "disable", "disable", "Let nobody log in to an account.")).set_defaults(disabled=True)
    named(add(commands, "enable", "disable", "Let an account log in again.")).set_defaults(disabled=False)
    named(add(commands, "delete", "delete", "Remove an account."))

    text = "Passwords for one program each, made here and shown once."
    group = commands.add_parser("app-password", help=text, description=text)
    actions = group.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    label = "what it is for, such as phone"
    one = named(add(actions, "add", "add_app_password", "Make one, and show it.", as_json))
    one.add_argument("label", metavar="LABEL", help=label)
    named(add(actions, "list", "list_app_passwords", "List them, with the days of their last use.", as_json))
    named(add(actions, "revoke", "revoke_app_password", "Remove one.")).add_argument(
        "label", metavar="LABEL", help=label
    )

    text = "One-time codes as the second factor of the console; mail programs then need app passwords."
    group = commands.add_parser("totp", help=text, description=text)
    actions = group.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    named(add(actions, "on", "totp_on", "Make a secret, and show it for an authenticator app.", as_json))
    named(add(actions, "off", "totp_off", "Ask for codes no more."))
    named(add(actions, "check", "totp_check", "Tell whether a code is right; it is a line of standard input."))
